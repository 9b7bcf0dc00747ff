"""How far two encoders agree."""

from dataclasses import dataclass

import numpy as np

from ..errors import Errors
from ..types import Floats


@dataclass(frozen=True)
class Parity:
    """How far the vectors of two encoders agree.

    least_cosine (float): The smallest cosine between the two vectors of a wordpiece.
    mean_cosine (float): The mean over wordpieces.
    most_error (float): The largest difference of two numbers.
    """

    least_cosine: float
    mean_cosine: float
    most_error: float


def compare(found: Floats, wanted: Floats) -> Parity:
    """Compare vectors.

    found, wanted (Floats): `(total, width)`, of the same wordpieces in one order.
    RETURNS (Parity): How far they agree. NaN in either makes all three NaN.
    RAISES (ValueError): If they are not of the same wordpieces.
    """
    if found.shape != wanted.shape:
        raise ValueError(
            Errors.VECTORS_OF_OTHERS.format(found=found.shape, wanted=wanted.shape)
        )
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    cosines = (found * wanted).sum(axis=1) / np.maximum(norms, 1e-12)
    return Parity(
        least_cosine=float(cosines.min()),
        mean_cosine=float(cosines.mean()),
        most_error=float(np.abs(found - wanted).max()),
    )
