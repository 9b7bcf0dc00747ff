"""Attention with dropout, some queries at a time, against the plain formula."""

import pytest
import torch

from spacy_modernbert.encoder.torch import dropping_attention
from spacy_modernbert.encoder.torch.dropping_attention import attend_dropping

HEADS, LENGTH, WIDTH, DROPOUT = 2, 50, 4, 0.3


def draw_qkv(dtype):
    torch.manual_seed(0)
    return [
        torch.randn(HEADS, LENGTH, WIDTH, dtype=dtype, requires_grad=True)
        for _ in range(3)
    ]


def plainly(q, k, v, n_at_a_time):
    """With the random numbers in the same order."""
    outputs = []
    for some in q.split(n_at_a_time, dim=1):
        weights = (some @ k.mT / WIDTH**0.5).softmax(-1)
        kept = torch.empty_like(weights).bernoulli_(1 - DROPOUT)
        outputs.append((weights * kept / (1 - DROPOUT)) @ v)
    return torch.cat(outputs, dim=1)


@pytest.mark.parametrize("n_at_a_time", [1, 16, LENGTH])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_there_and_back(monkeypatch, n_at_a_time, dtype):
    """In the backward pass, the same weights are dropped out."""
    qkv = draw_qkv(dtype)
    row = HEADS * LENGTH * qkv[0].element_size()
    monkeypatch.setattr(dropping_attention, "_WEIGHTS_BYTES", n_at_a_time * row)
    torch.manual_seed(1)
    wanted = plainly(*qkv, n_at_a_time)
    after = torch.rand(1)
    torch.manual_seed(1)
    found = attend_dropping(*qkv, DROPOUT)
    assert torch.rand(1) == after
    tolerance = {"atol": 0.05, "rtol": 0.05} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(found, wanted, **tolerance)
    d_output = torch.randn_like(wanted)
    state = torch.get_rng_state()
    gradients = torch.autograd.grad(found, qkv, d_output)
    assert torch.equal(torch.get_rng_state(), state)
    for gradient, other in zip(
        gradients, torch.autograd.grad(wanted, qkv, d_output), strict=True
    ):
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient, other, **tolerance)


def test_what_is_kept_has_the_right_weight():
    """On average, nothing changes."""
    q, k, v = (x.detach() for x in draw_qkv(torch.float64))
    mean = sum(attend_dropping(q, k, v, DROPOUT) for _ in range(2000)) / 2000
    plain = (q @ k.mT / WIDTH**0.5).softmax(-1) @ v
    torch.testing.assert_close(mean, plain, atol=0.05, rtol=0)
