"""Flash attention: where it is taken, and that the encoder hands it what it needs. The
kernels themselves run in test_gpu.py.
"""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spacy_modernbert.encoder import flash
from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.flash import FlashAttention, find_flash_attention

from .util import assert_close, draw_ids, pack, state

CUDA = torch.device("cuda", 0)


@pytest.fixture
def ampere(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    installed = {"flash_attn": None}
    monkeypatch.setattr(flash.importlib.util, "find_spec", installed.get)
    return installed


def test_of_torch(ampere):
    for dtype in (torch.bfloat16, torch.float16):
        assert find_flash_attention(CUDA, dtype, 64).name == "torch"


def test_the_package_is_taken_where_it_is(ampere, monkeypatch):
    calls = []
    package = SimpleNamespace(
        flash_attn_varlen_func=lambda *args, **kwargs: calls.append((args, kwargs))
    )
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    ampere["flash_attn"] = "a spec"
    kernel = find_flash_attention(CUDA, torch.bfloat16, 64)
    assert kernel.name == "flash-attn"
    kernel.attend_globally("q", "k", "v", "cu", 7)
    kernel.attend_within_window("q", "k", "v", "cu", 7, 64)
    args = ("q", "k", "v", "cu", "cu", 7, 7)
    assert calls == [
        (args, {"window_size": (-1, -1)}),
        (args, {"window_size": (64, 64)}),
    ]


@pytest.mark.parametrize(
    "device, dtype, head_dim",
    [
        (torch.device("cpu"), torch.bfloat16, 64),
        (torch.device("mps"), torch.float16, 64),
        (CUDA, torch.float32, 64),
        (CUDA, torch.bfloat16, 60),
        (CUDA, torch.bfloat16, 264),
    ],
)
def test_where_there_is_none(ampere, device, dtype, head_dim):
    assert find_flash_attention(device, dtype, head_dim) is None


def test_none_before_ampere(ampere, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert find_flash_attention(CUDA, torch.float16, 64) is None


def test_none_in_a_torch_without_windows(ampere, monkeypatch):
    varlen = SimpleNamespace(varlen_attn=lambda q, k, v, cu_q, cu_k, max_q, max_k: q)
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", varlen)
    assert find_flash_attention(CUDA, torch.float16, 64) is None


# In the encoder, by a kernel that is slow and plain


def attend(query, key, value, cu_seqlens, longest, window):
    assert cu_seqlens.dtype == torch.int32 and query.stride(-1) == 1
    assert longest == cu_seqlens.diff().max()
    index = torch.arange(query.shape[0])
    sequence = torch.bucketize(index, cu_seqlens[1:], right=True)
    mask = sequence[:, None] == sequence
    if window != (-1, -1):
        distance = index - index[:, None]
        mask &= (-window[0] <= distance) & (distance <= window[1])
    scores = torch.einsum("ihd,jhd->hij", query, key) / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return torch.einsum("hij,jhd->ihd", weights, value)


def load(oracle, monkeypatch, kernel, **changes):
    from spacy_modernbert.encoder import torch_encoder

    monkeypatch.setattr(torch_encoder, "find_flash_attention", lambda *args: kernel)
    config = ModernBertConfig.from_dict({**oracle.config.to_dict(), **changes})
    return make_encoder(config, state(oracle), backend="cpu", precision="float32")


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return pack([draw_ids(rng, length) for length in (1, 70, 300)])


def test_as_without_it(oracle, monkeypatch, batch):
    d_out = np.random.default_rng(0).standard_normal((batch.total, 32)) / 20
    found = []
    for kernel in (None, FlashAttention("plain", attend)):
        encoder = load(oracle, monkeypatch, kernel)
        out, backprop = encoder.encode_train(batch)
        backprop(d_out.astype(np.float32))
        predicted = encoder.encode(batch)
        found.append({"out": out, "predicted": predicted, **encoder.gradients()})
    for name, tensor in found[0].items():
        assert_close(found[1][name], tensor, name)


def test_not_where_attention_drops_out(oracle, monkeypatch, batch):
    calls = []

    def count(*args):
        calls.append(args)
        return attend(*args)

    kernel = FlashAttention("plain", count)
    encoder = load(oracle, monkeypatch, kernel, attention_dropout=0.1)
    encoder.encode_train(batch)
    assert not calls
    encoder.encode(batch)
    assert len(calls) == oracle.config.num_hidden_layers
