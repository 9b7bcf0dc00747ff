"""Flash attention: where it is taken, and that the encoder hands it what it needs. The
kernels themselves run in test_gpu.py.
"""

import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spacy_modernbert.encoder.config import FULL, SLIDING
from spacy_modernbert.encoder.torch import encoder as torch_encoder
from spacy_modernbert.encoder.torch import flash
from spacy_modernbert.encoder.torch.attention import (
    FLASH_ATTENTION,
    AttentionPlan,
    FlashPlan,
)
from spacy_modernbert.encoder.torch.flash import FlashAttention, find_flash_attention

from ...util import gradients_of
from ..util import assert_close, attend_plainly, draw_batch, load

CUDA = torch.device("cuda", 0)


@pytest.fixture
def ampere(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(flash, "why_no_kernels", lambda: "no Triton")
    for name in ("flash_attn", "flash_attn.cute"):
        monkeypatch.setitem(sys.modules, name, None)
    # torch without CUDA has no kernel, and that of the first releases no window.
    patch = partial(monkeypatch.setattr, torch.backends.cuda)
    patch("is_flash_attention_available", lambda: True)
    varlen = SimpleNamespace(varlen_attn=lambda *args, window_size: args)
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", varlen)


@pytest.fixture
def hopper(ampere, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


@pytest.fixture
def calls():
    return []


@pytest.fixture
def package(calls):
    def function(*args, **kwargs):
        calls.append((args, kwargs))
        return "attended", None

    return SimpleNamespace(flash_attn_varlen_func=function)


def find(dtype, head_dim, device=CUDA, to_train=False):
    return find_flash_attention(device, dtype, head_dim, to_train=to_train)


def attend_both_ways(kernel, half_window=64):
    plan = AttentionPlan(
        [], {}, None, FlashPlan(kernel, "cu", 7, "bounds", half_window)
    )
    return [FLASH_ATTENTION[kind]("q", "k", "v", plan, 0.0) for kind in (FULL, SLIDING)]


def test_of_torch(ampere):
    for dtype in (torch.bfloat16, torch.float16):
        for to_train in (False, True):
            assert find(dtype, 64, to_train=to_train).name == "torch"


def test_torch_may_have_no_kernel(ampere, monkeypatch, package):
    """As on Windows, where it has the function all the same."""
    monkeypatch.setattr(
        torch.backends.cuda, "is_flash_attention_available", lambda: False
    )
    assert find(torch.bfloat16, 64) is None
    assert find(torch.bfloat16, 64, to_train=True) is None
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    assert find(torch.bfloat16, 64).name == "flash-attn"


@pytest.mark.parametrize("to_train", [False, True])
def test_the_package_is_taken_where_it_is(
    ampere, monkeypatch, package, calls, to_train
):
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    kernel = find(torch.bfloat16, 64, to_train=to_train)
    assert kernel.name == "flash-attn"
    attend_both_ways(kernel)
    args = ("q", "k", "v", "cu", "cu", 7, 7)
    assert calls == [
        (args, {"window_size": (-1, -1)}),
        (args, {"window_size": (64, 64)}),
    ]


def test_the_fourth_is_taken_to_predict_on_hopper(hopper, monkeypatch, package, calls):
    monkeypatch.setitem(sys.modules, "flash_attn.cute", package)
    # The folder of flash-attn is there then, with nothing of its own in it.
    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace())
    kernel = find(torch.bfloat16, 64)
    assert kernel.name == "flash-attn-4"
    assert attend_both_ways(kernel) == ["attended", "attended"]
    lengths = {"cu_seqlens_q": "cu", "max_seqlen_q": 7}
    lengths |= {"cu_seqlens_k": "cu", "max_seqlen_k": 7}
    assert calls == [
        (("q", "k", "v"), {**lengths, "window_size": (None, None)}),
        (("q", "k", "v"), {**lengths, "window_size": (64, 64)}),
    ]
    assert find(torch.bfloat16, 64, to_train=True).name == "torch"
    assert find(torch.bfloat16, 256).name == "torch"


def test_the_fourth_may_give_no_more_than_is_asked_for(hopper, monkeypatch):
    attended = torch.zeros(5, 2, 64)
    package = SimpleNamespace(flash_attn_varlen_func=lambda *args, **kwargs: attended)
    monkeypatch.setitem(sys.modules, "flash_attn.cute", package)
    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace())
    found = attend_both_ways(find(torch.bfloat16, 64))
    assert all(each is attended for each in found)


@pytest.mark.parametrize("error", [ImportError, AttributeError, TypeError])
def test_a_fourth_that_is_broken(hopper, monkeypatch, error):
    """As beside another version of what it compiles by."""

    def import_module(name):
        if name == "flash_attn.cute":
            raise error("no attribute")
        return sys.modules[name] or pytest.fail(name)

    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace())
    monkeypatch.setattr(flash.importlib, "import_module", import_module)
    assert find(torch.bfloat16, 64).name == "torch"


def test_the_fourth_is_not_taken_before_hopper(ampere, monkeypatch, package):
    monkeypatch.setitem(sys.modules, "flash_attn.cute", package)
    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace())
    assert find(torch.bfloat16, 64).name == "torch"


def test_our_own_kernel_does_the_window(ampere, monkeypatch, package, calls):
    def attend_within_window(*args):
        return args

    kernels = SimpleNamespace(attend_within_window=attend_within_window)
    monkeypatch.setattr(flash, "why_no_kernels", lambda: "")
    monkeypatch.setattr(flash, "load_kernels", lambda: kernels)
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    kernel = find(torch.bfloat16, 64)
    assert attend_both_ways(kernel)[1] == ("q", "k", "v", "bounds", 64)
    assert len(calls) == 1
    assert attend_both_ways(kernel, 256)[1] == ("q", "k", "v", "bounds", 256)
    # A wide one takes long to compile.
    assert attend_both_ways(kernel, 257)[1] == ("attended", None)
    assert calls[-1][1] == {"window_size": (257, 257)}
    # It has no gradients.
    assert find(torch.bfloat16, 64, to_train=True).attend_nearby is None


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
    assert find(dtype, head_dim, device) is None


def test_none_before_ampere(ampere, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert find(torch.float16, 64) is None


def test_none_in_a_torch_without_windows(ampere, monkeypatch):
    varlen = SimpleNamespace(varlen_attn=lambda q, k, v, cu_q, cu_k, max_q, max_k: q)
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", varlen)
    assert find(torch.float16, 64) is None


# In the encoder, by a kernel that is slow and plain


def load_with_kernel(oracle, monkeypatch, kernel, **changes):
    monkeypatch.setattr(
        torch_encoder, "find_flash_attention", lambda *args, to_train: kernel
    )
    return load(oracle, changes=changes)


@pytest.fixture
def batch():
    return draw_batch([1, 70, 300])


def test_as_without_it(oracle, monkeypatch, batch):
    d_out = np.random.default_rng(0).standard_normal((batch.total, 32)) / 20
    found = []
    for kernel in (None, FlashAttention("plain", attend_plainly)):
        encoder = load_with_kernel(oracle, monkeypatch, kernel)
        out, backprop = encoder.encode_train(batch)
        backprop(d_out.astype(np.float32))
        predicted = encoder.encode(batch)
        found.append({"out": out, "predicted": predicted, **gradients_of(encoder)})
    for name, tensor in found[0].items():
        assert_close(found[1][name], tensor, name)


def test_that_to_train_is_looked_for_where_it_trains(oracle, monkeypatch, batch):
    asked = []
    monkeypatch.setattr(
        torch_encoder,
        "find_flash_attention",
        lambda *args, to_train: asked.append(to_train),
    )
    encoder = load(oracle)
    encoder.encode(batch)
    assert asked == [False]
    for _ in range(2):
        encoder.encode_train(batch)
    assert asked == [False, True]


def test_not_where_attention_drops_out(oracle, monkeypatch, batch):
    calls = []

    def count(*args):
        calls.append(args)
        return attend_plainly(*args)

    kernel = FlashAttention("plain", count)
    encoder = load_with_kernel(oracle, monkeypatch, kernel, attention_dropout=0.1)
    encoder.encode_train(batch)
    assert not calls
    encoder.encode(batch)
    assert len(calls) == oracle.config.num_hidden_layers
