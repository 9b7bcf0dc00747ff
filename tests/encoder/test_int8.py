import hypothesis.extra.numpy as arrays
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spacy_modernbert.encoder.int8 import LARGEST, round_rows

# From numbers that have no normal scale to some that are far above weights.
NUMBERS = st.floats(-(2**100), 2**100, width=32) | st.floats(
    -(2**-120), 2**-120, width=32
)


@given(
    arrays.arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=NUMBERS
    )
)
def test_half_a_step_off_at_most(weights):
    rounded, scale = round_rows(weights)
    assert rounded.dtype == np.int8 and np.abs(rounded.astype(int)).max() <= LARGEST
    assert scale.dtype == np.float32 and scale.shape == (len(weights), 1)
    off = np.abs(rounded.astype(np.float64) * scale - weights)
    # Rows whose scale would not be a normal number become zeros.
    smallest = LARGEST * np.finfo(np.float32).tiny
    is_tiny = np.abs(weights).max(axis=1, keepdims=True) < smallest
    assert (off <= np.where(is_tiny, smallest, 0.5001 * scale)).all()


def test_the_largest_of_a_row_is_exact():
    weights = np.array([[1.27, -2.54, 0.0], [0.0, 0.0, 0.0]], np.float32)
    rounded, scale = round_rows(weights)
    assert rounded.tolist() == [[64, -127, 0], [0, 0, 0]]
    np.testing.assert_allclose(scale, [[0.02], [1.0]])
