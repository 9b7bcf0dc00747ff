"""Attention in tiles, beside torch's."""

import pytest
import torch
import torch.nn.functional as F

from spacy_modernbert.encoder import tiled_attention
from spacy_modernbert.encoder.tiled_attention import attend_in_tiles, pays_to_tile


def draw(length, dtype):
    generator = torch.Generator().manual_seed(0)
    shape = (3, length, 2, 16)
    return torch.randn(shape, generator=generator).to(dtype).unbind()


@pytest.mark.parametrize("length", [1, 7, 100])
@pytest.mark.parametrize("tile_bytes", [1, 3000, 1 << 20])
def test_as_torch(length, tile_bytes, monkeypatch):
    monkeypatch.setattr(tiled_attention, "_TILE_BYTES", tile_bytes)
    query, key, value = draw(length, torch.float32)
    wanted = F.scaled_dot_product_attention(
        *(x.transpose(0, 1)[None] for x in (query, key, value))
    )[0].transpose(0, 1)
    torch.testing.assert_close(attend_in_tiles(query, key, value), wanted)


@pytest.mark.parametrize(
    ("length", "dtype", "amx", "pays"),
    [
        (1024, torch.bfloat16, False, True),
        (1024, torch.bfloat16, True, False),
        (1023, torch.bfloat16, False, False),
        (1024, torch.float32, False, False),
    ],
)
def test_where_it_pays(length, dtype, amx, pays, monkeypatch):
    monkeypatch.setattr(tiled_attention, "has_amx", lambda: amx)
    query, _, _ = draw(length, dtype)
    with torch.no_grad():
        assert pays_to_tile(query) == pays
    assert not pays_to_tile(query)  # with gradients, torch's kernel keeps less
