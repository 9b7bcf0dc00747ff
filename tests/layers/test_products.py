import numpy as np
from thinc.api import Linear, Maxout, NumpyOps, chain

from spacy_modernbert.layers.products import TorchProducts, multiply_by_torch


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


def test_ops_of_others_are_left():
    class AppleOps(NumpyOps):
        name = "apple"

    layer = Linear(nO=2, nI=2)
    layer.ops = ops = AppleOps()
    multiply_by_torch(chain(layer, Linear(nO=2, nI=2)))
    assert layer.ops is ops
