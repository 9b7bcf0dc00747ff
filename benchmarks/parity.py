"""Whether a peer computed the same as the reference. If not, it gets no figures."""

import numpy as np

from spacy_modernbert.encoder.comparing import Parity

# The least cosine, over all wordpieces, to transformers in float32.
LEAST_COSINE = {
    "float32": 0.99999,
    "bfloat16": 0.999,
    "float16": 0.999,
    "int8": 0.995,
}
# A layer that sees too much, or a position that is off by one, changes vectors by more.
MOST_ERROR = {"float32": 1e-3}


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
