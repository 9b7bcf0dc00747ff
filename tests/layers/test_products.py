import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thinc.api import Linear, Maxout, NumpyOps, chain

from spacy_modernbert.layers.products import TorchProducts, multiply_by_torch

SIZES = st.integers(0, 5)


def test_a_model_with_the_same_gradients():
    model = chain(Maxout(nO=6, nI=8, nP=3), Linear(nO=4)).initialize(
        X=np.zeros((1, 8), "f")
    )
    rows = np.random.default_rng(0).normal(size=(50, 8)).astype("f")

    def run():
        outputs, backprop = model.begin_update(rows)
        gradient = backprop(outputs)
        gradients = [layer.get_grad("W").copy() for layer in model.layers]
        for layer in model.layers:
            layer.get_grad("W")[:] = 0
        return [outputs, gradient, *gradients]

    wanted = run()
    multiply_by_torch(model)
    assert all(isinstance(node.ops, TorchProducts) for node in model.walk())
    for found, array in zip(run(), wanted, strict=True):
        np.testing.assert_allclose(found, array, rtol=1e-4, atol=1e-5)


@given(n=SIZES, k=SIZES, m=SIZES, trans1=st.booleans(), trans2=st.booleans())
def test_products(n, k, m, trans1, trans2):
    """Of arrays that torch is not glad of, too: reversed, and not to be written to."""
    generator = np.random.default_rng(0)
    left = generator.normal(size=(k, n) if trans1 else (n, k)).astype("f")[::-1]
    right = generator.normal(size=(m, k) if trans2 else (k, m)).astype("f")
    right.flags.writeable = False
    wanted = (left.T if trans1 else left) @ (right.T if trans2 else right)
    ops = TorchProducts()
    found = ops.gemm(left, right, trans1=trans1, trans2=trans2)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    whole = np.full((n + 1, m), 7, "f")
    out = ops.gemm(left, right, out=whole[1:], trans1=trans1, trans2=trans2)
    np.testing.assert_array_equal(out, found)
    np.testing.assert_array_equal(whole[1:], found)
    assert (whole[0] == 7).all()


def test_types_are_not_mixed():
    """As Thinc's own refuse to."""
    with pytest.raises(RuntimeError, match="same dtype"):
        TorchProducts().gemm(np.ones((2, 2)), np.ones((2, 2), "f"))


def test_ops_of_others_are_left():
    class AppleOps(NumpyOps):
        name = "apple"

    layer = Linear(nO=2, nI=2)
    layer.ops = ops = AppleOps()
    multiply_by_torch(chain(layer, Linear(nO=2, nI=2)))
    assert layer.ops is ops
