"""Attention of one sequence on CPU in half precision, some queries at a time.

torch's kernel multiplies small blocks, at a fraction of the rate of its matrix product
where the processor has instructions for bfloat16. Here the product does the work; what
lies between stays in the cache. With Intel's AMX torch's kernel has a way of its own,
which is twice as quick as this (torch 2.11, 1,024 to 8,192 wordpieces).
"""

import torch
from torch import Tensor

from .availability import has_amx

# What the scores of a tile may take, for all heads together.
_TILE_BYTES = 8 << 20

# Shorter sequences are left to torch's kernel.
_MIN_LENGTH = 1024


def pays_to_tile(query: Tensor) -> bool:
    """Whether `attend_in_tiles` is quicker than torch's kernel.

    query (Tensor): `(length, heads, head_dim)`.
    RETURNS (bool): Whether it is. Never in float32, where torch's kernel comes near the
        rate of its matrix product.
    """
    return (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and query.shape[0] >= _MIN_LENGTH
        and not torch.is_grad_enabled()
        and not has_amx()
    )


def attend_in_tiles(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Every wordpiece sees every other one. Without gradients.

    query, key, value (Tensor): `(length, heads, head_dim)`.
    RETURNS (Tensor): `(length, heads, head_dim)`.
    """
    length, n_heads, head_dim = query.shape
    query, key, value = (
        x.transpose(0, 1).contiguous() for x in (query, key, value)
    )  # (heads, length, head_dim)
    size = max(1, _TILE_BYTES // (n_heads * length * query.element_size()))
    scores = query.new_empty(n_heads, min(size, length), length)
    output = query.new_empty(length, n_heads, head_dim)
    for start in range(0, length, size):
        tile = query[:, start : start + size]
        weights = scores[:, : tile.shape[1]]
        torch.baddbmm(
            weights,
            tile,
            key.transpose(1, 2),
            beta=0,  # what is in `scores` is not read
            alpha=head_dim**-0.5,
            out=weights,
        )
        # Computed in float32, whatever goes in and comes out.
        torch.softmax(weights, dim=-1, out=weights)
        attended = torch.bmm(weights, value)
        output[start : start + size] = attended.transpose(0, 1)
    return output
