"""Whether two peers computed the same. No figure is given of one that did not."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

# The least cosine, over all wordpieces, to transformers in float32.
LEAST_COSINE = {
    "float32": 0.99999,
    "bfloat16": 0.999,
    "float16": 0.999,
    "int8": 0.995,
}
# A layer that sees too much, or a position that is off by one, changes vectors by more.
MOST_ERROR = {"float32": 1e-3}


@dataclass(frozen=True)
class Parity:
    """How far the vectors of two peers agree.

    least_cosine (float): Between the two vectors of the wordpiece where it is least.
    mean_cosine (float): The mean over wordpieces.
    most_error (float): The largest difference of two numbers.
    """

    least_cosine: float
    mean_cosine: float
    most_error: float


def compare(found: Floats, wanted: Floats) -> Parity:
    """Compare vectors.

    found, wanted (Floats): `(total, width)`, of the same wordpieces in one order.
    RETURNS (Parity): How far they agree.
    RAISES (ValueError): If they are not of the same wordpieces.
    """
    if found.shape != wanted.shape:
        raise ValueError(f"vectors of shape {found.shape}, not {wanted.shape}")
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    cosines = (found * wanted).sum(axis=1) / np.maximum(norms, 1e-12)
    return Parity(
        least_cosine=float(cosines.min()),
        mean_cosine=float(cosines.mean()),
        most_error=float(np.abs(found - wanted).max()),
    )


def objection(parity: Parity, precision: str) -> str:
    """RETURNS (str): Why a peer is not to be timed; empty if it may be."""
    wanted = LEAST_COSINE[precision]
    # Negated, so that NaN is an objection.
    if not parity.least_cosine >= wanted:
        return f"wrong vectors: cosine {parity.least_cosine:.5f}, wanted {wanted}"
    most = MOST_ERROR.get(precision, np.inf)
    if not parity.most_error <= most:
        return f"wrong vectors: off by {parity.most_error:.2g}, wanted {most}"
    return ""
