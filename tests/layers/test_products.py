import numpy as np
from thinc.api import Linear, Maxout, MPSOps, NumpyOps, chain

from spacy_modernbert.layers.products import TorchProducts, multiply_by_torch

from ..scripts import FORKS, needs_forks, run_script

# torch's threads are in use before the fork, and dead in it. No encoder is there to say
# so.
FORK = """
import spacy, torch

torch.set_num_threads(2)
nlp = spacy.blank("en")
cnn = {"@architectures": "spacy.HashEmbedCNN.v2", "width": 96, "depth": 2,
       "embed_size": 200, "window_size": 1, "maxout_pieces": 3,
       "subword_features": True, "pretrained_vectors": None}
ner = nlp.add_pipe("modernbert_ner", config={"model": {"tok2vec": cnn}})
ner.add_label("PERSON")
nlp.initialize()
docs = [nlp.make_doc("Anna Berg went to Oslo. " * 300)]
ner.predict(docs)
assert torch.get_num_threads() == 2

def predict():
    ner.predict(docs)
    assert torch.get_num_threads() == 1

assert fork(predict) == 0
"""


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


def test_ops_of_mps():
    """As after `spacy.prefer_gpu()` on a Mac: its products are NumPy's."""
    layer = Linear(nO=2, nI=2)
    layer.ops = MPSOps()
    multiply_by_torch(layer)
    is_plain = MPSOps.gemm is NumpyOps.gemm
    assert isinstance(layer.ops, TorchProducts) == is_plain


@needs_forks
def test_a_fork_predicts_without_an_encoder():
    run_script(FORKS + FORK)
