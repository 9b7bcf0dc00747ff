"""The kernels in Triton beside what they fuse: on a GPU where there is one, else
interpreted on the CPU (see ../conftest.py).
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_modernbert.encoder.torch import geglu, kernels, rope
from spacy_modernbert.encoder.torch.attention import plan_attention
from spacy_modernbert.encoder.torch.encoder import TorchEncoder
from spacy_modernbert.encoder.torch.flash import FlashAttention
from spacy_modernbert.encoder.torch.fused import forward_fused

from ...util import require
from ..util import assert_close, attend_plainly, draw_batch, load

require("triton", reason="needs Triton: pip install triton")

from spacy_modernbert.encoder.torch import triton_kernels  # noqa: E402

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

# How far one rounding may move a number: by half of the last of its bits. The
# interpreter cuts bfloat16 off, and so moves it by all of it.
ROUNDING = {
    torch.float32: 2e-6,
    torch.float16: 2**-11,
    torch.bfloat16: 2**-8 if DEVICE.type == "cuda" else 2**-7,
}
DTYPES = pytest.mark.parametrize("dtype", list(ROUNDING), ids=str)


def draw(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(DEVICE, dtype)


def assert_near(found, wanted, dtype):
    assert found.dtype == dtype
    error = (found.float() - wanted.float()).abs()
    assert (error <= 4e-6 + 1.01 * ROUNDING[dtype] * wanted.float().abs()).all()


@DTYPES
@pytest.mark.parametrize("width", [32, 768 + 16])
@pytest.mark.parametrize("has_bias", [False, True])
def test_add_and_norm(dtype, width, has_bias):
    norm = torch.nn.LayerNorm(width, eps=1e-5, bias=has_bias, device=DEVICE)
    with torch.no_grad():
        for i, parameter in enumerate(norm.parameters()):
            parameter.copy_(draw(width, seed=i))
        # Far from 0, where a variance made of squares would be off.
        x, branch = draw(7, width) + 30, draw(7, width, dtype=dtype, seed=9)
        total = x + branch.float()
        found = triton_kernels.add_and_norm(x, branch, norm, dtype)
        assert torch.equal(x, total)
        wanted = F.layer_norm(
            total.double(),
            (width,),
            norm.weight.double(),
            None if norm.bias is None else norm.bias.double(),
            norm.eps,
        )
    assert found.dtype == dtype
    error = (found.double() - wanted).abs()
    assert (error <= 1e-4 + 1.01 * ROUNDING[dtype] * wanted.abs()).all()


@DTYPES
@pytest.mark.parametrize("n_heads, head_dim", [(2, 8), (3, 24), (12, 64)])
def test_rotate(dtype, n_heads, head_dim):
    qkv = draw(9, 3, n_heads, head_dim, dtype=dtype)
    positions = torch.tensor([0, 1, 2, 0, 5, 100, 4000, 8190, 8191], device=DEVICE)
    steps = np.arange(0, head_dim, 2, dtype=np.float32)
    rotation = rope.make_rotation(positions, 160_000.0 ** (steps / head_dim))
    wanted = rope.rotate_(qkv.float().clone(), rotation)
    found = triton_kernels.rotate_(qkv.clone(), rotation)
    assert torch.equal(found[:, 2], qkv[:, 2])
    assert_near(found, wanted, dtype)


@DTYPES
@pytest.mark.parametrize("total, inner", [(1, 16), (9, 96), (5, 1152)])
def test_geglu(dtype, total, inner):
    x = 3 * draw(total, 2 * inner, dtype=dtype)
    found = triton_kernels.geglu(x)
    assert found.is_contiguous() and found.shape == (total, inner)
    assert_near(found, geglu.geglu(x.float()), dtype)


def attend_within_spans(query, key, value, spans, half_window):
    index = torch.arange(query.shape[0], device=query.device)
    near = (index - index[:, None]).abs() <= half_window
    mask = (spans[0][:, None] == spans[0]) & near
    heads = (x.float().transpose(0, 1) for x in (query, key, value))
    return F.scaled_dot_product_attention(*heads, attn_mask=mask).transpose(0, 1)


def make_spans(lengths):
    ends = np.cumsum(lengths)
    spans = np.repeat([ends - lengths, ends], lengths, axis=1)
    return torch.tensor(spans, dtype=torch.int32, device=DEVICE)


# bfloat16 is multiplied wrongly by the interpreter.
@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=5),
    half_window=st.sampled_from([1, 5, 16, 64, 80]),
    heads=st.sampled_from([(1, 8), (2, 24), (3, 64)]),
    scale=st.sampled_from([1.0, 8.0]),
)
def test_attend_within_window(lengths, half_window, heads, scale):
    total = sum(lengths)
    qkv = scale * draw(total, 3, *heads, dtype=torch.float16, seed=total)
    spans = make_spans(lengths)
    query, key, value = qkv.unbind(1)
    found = triton_kernels.attend_within_window(query, key, value, spans, half_window)
    wanted = attend_within_spans(query, key, value, spans, half_window)
    assert found.dtype == torch.float16 and found.shape == query.shape
    assert (found.float() - wanted).abs().max() <= 2e-3 * scale


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs CUDA")
def test_attend_within_window_in_bfloat16():
    lengths = [1, 64, 65, 129, 1000]
    qkv = draw(sum(lengths), 3, 12, 64, dtype=torch.bfloat16)
    spans = make_spans(lengths)
    found = triton_kernels.attend_within_window(*qkv.unbind(1), spans, 64)
    wanted = attend_within_spans(*qkv.unbind(1), spans, 64)
    assert (found.float() - wanted).abs().max() <= 0.02


@pytest.mark.parametrize(
    "kernel",
    [
        None,
        FlashAttention("plain", attend_plainly, triton_kernels.attend_within_window),
    ],
    ids=["blocks", "window"],
)
def test_a_fused_pass(oracle, kernel):
    """As `TorchEncoder` without the kernels, whose oracle is transformers."""
    encoder = load(oracle)
    assert isinstance(encoder, TorchEncoder)
    model = encoder._model.to(DEVICE)
    batch = draw_batch([1, 2, 70])
    ids = torch.from_numpy(batch.ids.astype(np.int64)).to(DEVICE)
    plan = plan_attention(batch, encoder.config, DEVICE, kernel)
    with torch.inference_mode():
        wanted = model(ids, plan_attention(batch, encoder.config, DEVICE))
        found = forward_fused(model, ids, plan)
    assert_close(found.cpu().numpy(), wanted.cpu().numpy(), "hidden")


# Where the kernels are not available


@pytest.fixture
def ask(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    kernels._why_none_ever.cache_clear()
    yield kernels.why_no_kernels
    kernels._why_none_ever.cache_clear()


def test_none_without_cuda(ask, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device" in ask()


def test_none_without_triton(ask, monkeypatch):
    monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: None)
    assert ask() == "triton is not installed"


def test_none_without_a_compiler(ask, monkeypatch):
    def fail(x):
        raise RuntimeError("Failed to find C compiler.")

    monkeypatch.setattr(kernels, "load_kernels", lambda: SimpleNamespace(geglu=fail))
    monkeypatch.setattr(torch, "ones", lambda shape, device: None)
    assert "Failed to find C compiler" in ask()


def test_a_gpu_that_is_full_is_asked_again(ask, monkeypatch):
    """What is found is remembered, and this would be for as long as the process."""
    tried = []

    def geglu(x):
        tried.append(x)
        if len(tried) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(kernels, "load_kernels", lambda: SimpleNamespace(geglu=geglu))
    monkeypatch.setattr(torch, "ones", lambda shape, device: None)
    assert "too little memory left to try them" in ask()
    assert [ask() for _ in range(2)] == ["", ""] and len(tried) == 2
