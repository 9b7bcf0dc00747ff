"""Packed attention against the plainest one: a full square of scores and a mask."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spacy_modernbert.encoder.config import FULL, SLIDING, ModernBertConfig
from spacy_modernbert.encoder.torch import attention, tiled_attention
from spacy_modernbert.encoder.torch.attention import (
    ATTENTION,
    attend_by_queries,
    plan_attention,
)
from spacy_modernbert.encoder.torch.rope import rotate, rotate_
from spacy_modernbert.types import PackedBatch

from .util import assert_same_gradients

CPU = torch.device("cpu")
# Beside the edges of the window and of its blocks, and of 16 blocks.
LENGTHS = [1, 63, 64, 65, 127, 128, 129, 300, 1024, 1100]


def make_config(local_attention=128, **changes):
    return ModernBertConfig.from_dict(
        {
            "model_type": "modernbert",
            "hidden_size": 8,
            "num_attention_heads": 2,
            "num_hidden_layers": 4,
            "local_attention": local_attention,
            **changes,
        }
    )


def make_batch(lengths):
    return PackedBatch(
        ids=np.zeros(sum(lengths), np.int64),
        cu_seqlens=np.cumsum([0, *lengths]).astype(np.int32),
    )


def dense(query, key, value, lengths, half_window):
    """`(total, heads, head_dim)` in and out. A half_window of None is no window."""
    sequence = torch.repeat_interleave(torch.tensor(lengths))
    position = torch.arange(len(sequence))
    mask = sequence[:, None] == sequence
    if half_window is not None:
        mask &= (position[:, None] - position).abs() <= half_window
    scores = torch.einsum("ihd,jhd->hij", query, key) / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return torch.einsum("hij,jhd->ihd", weights, value)


def draw_qkv(total, dtype=torch.float64):
    torch.manual_seed(0)
    return [(3 * torch.randn(total, 2, 4)).to(dtype).requires_grad_() for _ in range(3)]


def assert_dense(kind, lengths, local_attention):
    config = make_config(local_attention)
    plan = plan_attention(make_batch(lengths), config, CPU)
    qkv = draw_qkv(sum(lengths))
    half_window = config.half_window if kind == SLIDING else None
    found = ATTENTION[kind](*qkv, plan, 0.0)
    wanted = dense(*qkv, lengths, half_window)
    torch.testing.assert_close(found, wanted)
    with torch.no_grad():  # where blocks are multiplied in several parts
        torch.testing.assert_close(ATTENTION[kind](*qkv, plan, 0.0), wanted)
    assert_same_gradients(found, wanted, qkv)


@given(
    st.sampled_from([FULL, SLIDING]),
    st.lists(st.integers(1, 90), min_size=1, max_size=6),
    st.integers(1, 80),
)
def test_any_lengths_and_windows(kind, lengths, local_attention):
    assert_dense(kind, lengths, local_attention)


@pytest.mark.parametrize("kind", [FULL, SLIDING])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_published_window(kind, length):
    assert_dense(kind, [length], 128)


@pytest.mark.parametrize("n_queries", [1, 7, 20, 21, 50])
def test_some_queries_at_a_time(n_queries):
    """As on MPS."""
    total = 20
    qkv = draw_qkv(total)
    by_head = [x.transpose(0, 1) for x in qkv]
    found = attend_by_queries(*by_head, 0.0, n_queries).transpose(0, 1)
    wanted = dense(*qkv, [total], None)
    torch.testing.assert_close(found, wanted)
    with torch.no_grad():
        again = attend_by_queries(*by_head, 0.0, n_queries).transpose(0, 1)
    torch.testing.assert_close(again, wanted)
    assert_same_gradients(found, wanted, qkv)


def test_no_few_queries_are_left(monkeypatch):
    """Of up to 8 in half precision, torch writes beyond its memory on MPS."""
    n_each = []

    def note(query, *args):
        n_each.append(query.shape[1])
        return query

    monkeypatch.setattr(attention, "_attend", note)
    query = torch.zeros(1, 1025, 2)
    assert attend_by_queries(query, query, query, 0.0).shape == query.shape
    assert n_each == [513, 512]


def test_some_queries_at_a_time_drop_out_once():
    """The gradient is that of the weights that were left."""
    query, key, value = (x.transpose(0, 1) for x in draw_qkv(20))
    out = attend_by_queries(query, key, value, 0.5, 7)
    (d_value,) = torch.autograd.grad(out, value, torch.ones_like(out))
    torch.testing.assert_close((d_value * value).sum(), out.sum())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lengths", [[1], [32], [64, 64], [96, 1, 31]])
def test_half_precision_has_no_nan(dtype, lengths):
    plan = plan_attention(make_batch(lengths), make_config(), CPU)
    qkv = draw_qkv(sum(lengths), dtype)
    for kind in (FULL, SLIDING):
        out = ATTENTION[kind](*qkv, plan, 0.0)
        assert out.isfinite().all()
        for gradient in torch.autograd.grad(out.sum(), qkv):
            assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", [FULL, SLIDING])
def test_without_gradients_weights_are_dropped_where_it_is_asked_for(kind, monkeypatch):
    """As of frozen layers in training."""
    monkeypatch.setattr(tiled_attention, "has_amx", lambda: False)
    length = tiled_attention._MIN_LENGTH
    plan = plan_attention(make_batch([length]), make_config(), CPU)
    qkv = draw_qkv(length, torch.bfloat16)
    with torch.no_grad():
        exact, once, again = (ATTENTION[kind](*qkv, plan, p) for p in (0.0, 0.5, 0.5))
    assert not torch.equal(exact, once)
    assert not torch.equal(once, again)


def test_the_plan_grows_with_the_length_not_with_its_square():
    small, large = (
        plan_attention(make_batch([length]), make_config(), CPU).blocks.mask.numel()
        for length in (1024, 8192)
    )
    assert large == 8 * small


def test_positions_start_again_in_each_sequence():
    config = make_config()
    packed = plan_attention(make_batch([5, 1, 7]), config, CPU)
    alone = plan_attention(make_batch([7]), config, CPU)
    for kind in (FULL, SLIDING):
        for ours, wanted in zip(
            packed.rotations[kind], alone.rotations[kind], strict=True
        ):
            assert torch.equal(ours[6:], wanted)
            assert torch.equal(ours[:5], wanted[:5])
            assert torch.equal(ours[5], wanted[0])


def test_rotation_depends_on_the_distance_only():
    """The point of rotary embeddings: q·k is the same wherever the pair stands."""
    plan = plan_attention(make_batch([100]), make_config(), CPU)
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 2, 4).expand(2, 100, 2, 4)
    for rotation in plan.rotations.values():
        q, k = rotate(torch.stack((query, key), dim=1), rotation).unbind(1)
        scores = torch.einsum("ihd,jhd->hij", q, k)
        for distance in (0, 1, 17):
            diagonal = scores.diagonal(distance, 1, 2)
            torch.testing.assert_close(
                diagonal, diagonal[:, :1].expand_as(diagonal), atol=1e-4, rtol=0
            )
        torch.testing.assert_close(q.norm(dim=-1), query.norm(dim=-1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotation_in_place(dtype):
    plan = plan_attention(make_batch([100]), make_config(), CPU)
    qkv = torch.randn(100, 3, 2, 4).to(dtype)
    before = qkv.clone()
    rotation = plan.rotations[FULL]
    wanted = rotate(before, rotation)
    torch.testing.assert_close(rotate_(qkv, rotation), wanted)
    assert torch.equal(qkv, wanted) and torch.equal(qkv[:, 2], before[:, 2])
    assert not torch.equal(qkv[:, :2], before[:, :2])


def test_each_kind_of_layer_has_its_own_base():
    plan = plan_attention(make_batch([50]), make_config(), CPU)
    assert not torch.equal(plan.rotations[FULL][0], plan.rotations[SLIDING][0])
    only = make_config(global_attn_every_n_layers=1)
    assert set(plan_attention(make_batch([50]), only, CPU).rotations) == {FULL}
