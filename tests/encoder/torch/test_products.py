import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_modernbert.encoder.torch.products import multiply

SIZES = st.integers(0, 5)


@given(n=SIZES, k=SIZES, m=SIZES, trans1=st.booleans(), trans2=st.booleans())
def test_products(n, k, m, trans1, trans2):
    """Of arrays that torch is not glad of, too: reversed, and not to be written to."""
    generator = np.random.default_rng(0)
    left = generator.normal(size=(k, n) if trans1 else (n, k)).astype("f")[::-1]
    right = generator.normal(size=(m, k) if trans2 else (k, m)).astype("f")
    right.flags.writeable = False
    left, right = left.T if trans1 else left, right.T if trans2 else right
    found = multiply(left, right)
    np.testing.assert_allclose(found, left @ right, rtol=1e-4, atol=1e-5)
    whole = np.full((n + 1, m), 7, "f")
    np.testing.assert_array_equal(multiply(left, right, whole[1:]), found)
    np.testing.assert_array_equal(whole[1:], found)
    assert (whole[0] == 7).all()


def test_types_are_not_mixed():
    with pytest.raises(RuntimeError, match="same dtype"):
        multiply(np.ones((2, 2)), np.ones((2, 2), "f"))
