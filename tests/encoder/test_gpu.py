"""On a GPU as on the CPU, whose parity with transformers test_parity.py shows."""

import numpy as np
import pytest
import torch

from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.weights import init_tensors

from .util import SMALL, assert_close, draw_ids, pack

GPUS = [
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
        ],
    ),
    pytest.param(
        "mps",
        marks=[
            pytest.mark.mps,
            pytest.mark.skipif(
                not torch.backends.mps.is_available(), reason="needs an Apple GPU"
            ),
        ],
    ),
]


@pytest.mark.parametrize("backend", GPUS)
def test_as_on_the_cpu(backend):
    config = ModernBertConfig.from_dict({"model_type": "modernbert", **SMALL})
    rng = np.random.default_rng(0)
    batch = pack([draw_ids(rng, length) for length in (1, 2, 64, 129, 257, 1000)])
    d_out = rng.standard_normal((batch.total, 32)).astype(np.float32) / 30
    results = []
    for device in ("cpu", backend):
        encoder = make_encoder(config, init_tensors(config, 0), backend=device)
        out, backprop = encoder.encode_train(batch)
        backprop(d_out)
        gradients = dict(encoder.gradients())
        encoder.update(lambda name, weights, gradient: (weights - gradient, gradient))
        results.append({"out": out, "predicted": encoder.encode(batch), **gradients})
    wanted, found = results
    for name, tensor in wanted.items():
        assert_close(found[name], tensor, name)
