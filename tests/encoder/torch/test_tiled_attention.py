"""Attention in tiles and its gradient, beside torch's."""

import pytest
import torch
import torch.nn.functional as F

from spacy_modernbert.encoder.torch import tiled_attention
from spacy_modernbert.encoder.torch.tiled_attention import attend_in_tiles, pays_to_tile


def draw(length, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shape = (length, 3, 2, 16)
    qkv = torch.randn(shape, generator=generator).to(dtype).requires_grad_()
    return qkv, torch.randn(length, 2, 16, generator=generator).to(dtype)


def attend(qkv):
    """By torch."""
    query, key, value = (x.transpose(0, 1)[None] for x in qkv.unbind(1))
    return F.scaled_dot_product_attention(query, key, value)[0].transpose(0, 1)


@pytest.mark.parametrize("length", [1, 7, 100])
@pytest.mark.parametrize("tile_bytes", [1, 3000, 1 << 20])
def test_as_torch(length, tile_bytes, monkeypatch):
    monkeypatch.setattr(tiled_attention, "_TILE_BYTES", tile_bytes)
    qkv, d_out = draw(length)
    ours, wanted = attend_in_tiles(*qkv.unbind(1)), attend(qkv)
    torch.testing.assert_close(ours, wanted)
    ours, wanted = (torch.autograd.grad(out, qkv, d_out)[0] for out in (ours, wanted))
    torch.testing.assert_close(ours, wanted)
    with torch.inference_mode():
        torch.testing.assert_close(attend_in_tiles(*qkv.unbind(1)), attend(qkv))


def test_what_tiles_say_of_a_key_is_added_up_in_float32(monkeypatch):
    """In bfloat16 a sum of many parts stops growing."""
    qkv, _ = draw(1024)
    d_out = torch.ones(1024, 2, 16)
    (wanted,) = torch.autograd.grad(attend(qkv), qkv, d_out)
    monkeypatch.setattr(tiled_attention, "_TILE_BYTES", 2 * 1024)
    rounded = qkv.detach().bfloat16().requires_grad_()
    out = attend_in_tiles(*rounded.unbind(1))
    (found,) = torch.autograd.grad(out, rounded, d_out.bfloat16())
    for part, of_part in zip(found.unbind(1), wanted.unbind(1), strict=True):
        error = (part.float() - of_part).norm() / of_part.norm()
        assert error < 0.02


def test_the_gradient_of_a_gradient_is_refused():
    qkv, d_out = draw(7)
    d_out.requires_grad_()
    out = attend_in_tiles(*qkv.unbind(1))
    (gradient,) = torch.autograd.grad(out, qkv, d_out, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("length", "dtype", "amx", "pays"),
    [
        (512, torch.bfloat16, False, True),
        (512, torch.bfloat16, True, False),
        (511, torch.bfloat16, False, False),
        (512, torch.float32, False, False),
    ],
)
def test_where_it_pays(length, dtype, amx, pays, monkeypatch):
    monkeypatch.setattr(tiled_attention, "has_amx", lambda: amx)
    assert pays_to_tile(torch.zeros(length, 2, 16, dtype=dtype)) == pays
