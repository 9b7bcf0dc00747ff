"""On a GPU as on the CPU, whose parity with transformers test_parity.py shows."""

import numpy as np
import pytest
import torch

from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.steps import StepSettings, StepState
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


def step(encoder, batch, d_out):
    # With so large an epsilon, small errors of a gradient stay small.
    settings = StepSettings(0.1, b1=0.9, b2=0.999, eps=1.0, L2=0.1, grad_clip=1.0)
    state = StepState({}, {}, {}, {})
    for _ in range(2):
        _, backprop = encoder.encode_train(batch)
        backprop(d_out)
        encoder.step(settings, state)
    assert set(state.n_steps.values()) == {2}
    return encoder.copy(state.averages).tensors()


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
        averages = step(encoder, batch, d_out)
        results.append({"out": out, "predicted": encoder.encode(batch), **gradients})
        results[-1].update((f"stepped {n}", t) for n, t in encoder.tensors().items())
        results[-1].update((f"average {n}", t) for n, t in averages.items())
    wanted, found = results
    for name, tensor in wanted.items():
        assert_close(found[name], tensor, name)
