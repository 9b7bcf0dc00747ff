"""Weights of 8 bits, with a scale for each row."""

from typing import Tuple

import numpy as np
import numpy.typing as npt

from ..types import Floats

# Symmetric, so that there are no zero points to correct for: -128 is not used.
LARGEST = 127


def round_rows(weights: Floats) -> Tuple[npt.NDArray[np.int8], Floats]:
    """Round each row to 255 steps.

    weights (Floats): `(rows, width)` float32.
    RETURNS (Tuple[NDArray[np.int8], Floats]): `(rows, width)`, from -127 to 127, and
        `(rows, 1)` float32, what the row is to be multiplied with.
    """
    scale = np.abs(weights).max(axis=1, keepdims=True) / np.float32(LARGEST)
    # A row of zeros stays one. Where numbers are so small that their scale is not a
    # normal number, dividing by it could overflow.
    scale[scale < np.finfo(np.float32).tiny] = 1
    return np.round(weights / scale).astype(np.int8), scale
