"""On a GPU as on the CPU, whose parity with transformers test_parity.py shows."""

import importlib.util
import shutil

import numpy as np
import pytest
import torch

from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.steps import StepSettings, StepState
from spacy_modernbert.encoder.torch.kernels import why_no_kernels
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.types import PackedBatch

from ..util import gradients_of
from .util import SMALL, assert_close, assert_gradients_near, assert_rows_near, draw_ids

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
    batch = PackedBatch.of(
        [draw_ids(rng, length) for length in (1, 2, 64, 129, 257, 1000)]
    )
    d_out = rng.standard_normal((batch.total, 32)).astype(np.float32) / 30
    results = []
    for device in ("cpu", backend):
        encoder = make_encoder(
            config, init_tensors(config, 0), backend=device, precision="float32"
        )
        out, backprop = encoder.encode_train(batch)
        backprop(d_out)
        results.append({"out": out, **gradients_of(encoder)})
        results[-1]["predicted"] = encoder.encode(batch)
        encoder.update(lambda name, weights, gradient: (weights - gradient, gradient))
        averages = step(encoder, batch, d_out)
        results[-1].update((f"stepped {n}", t) for n, t in encoder.tensors().items())
        results[-1].update((f"average {n}", t) for n, t in averages.items())
    wanted, found = results
    for name, tensor in wanted.items():
        assert_close(found[name], tensor, name)


# Also many short ones, and one as long as a window.
@pytest.mark.parametrize("lengths", [(1, 2, 64, 129, 1000), (20,) * 200, (8192,)])
@pytest.mark.parametrize(
    ("precision", "least"), [("bfloat16", 0.999), ("float16", 0.9999)]
)
@pytest.mark.parametrize("backend", GPUS)
def test_half_precision(backend, lengths, precision, least):
    """Near float32 on the CPU: with flash attention, where there is any."""
    if backend == "mps" and not torch.backends.mps.is_macos_or_newer(14, 0):
        pytest.skip("needs macOS 14")
    if backend == "cuda" and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("needs flash attention")
    # As wide as the kernels want the heads.
    sizes = {**SMALL, "hidden_size": 64, "initializer_range": 0.1}
    config = ModernBertConfig.from_dict({"model_type": "modernbert", **sizes})
    rng = np.random.default_rng(0)
    batch = PackedBatch.of([draw_ids(rng, length) for length in lengths])
    d_out = rng.standard_normal((batch.total, 64)).astype(np.float32) / 30
    tensors = init_tensors(config, 0)
    exact = make_encoder(config, tensors, backend="cpu", precision="float32")
    wanted, backprop = exact.encode_train(batch)
    backprop(d_out)
    encoder = make_encoder(config, tensors, backend=backend, precision=precision)
    if backend == "cuda":  # and not by something slower, in silence
        assert encoder._flash is not None and encoder._flash_to_train is not None
        has_triton = importlib.util.find_spec("triton") is not None
        if has_triton and shutil.which("gcc"):
            assert why_no_kernels() == ""
    assert_rows_near(encoder.encode(batch), wanted, least)
    if not encoder.can_train:
        return
    out, backprop = encoder.encode_train(batch)
    assert_rows_near(out, wanted, least)
    backprop(d_out)
    assert_gradients_near(gradients_of(encoder), gradients_of(exact), 0.98)
