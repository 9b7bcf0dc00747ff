"""Attention on CPU in bfloat16, one sequence and some queries at a time, and its
gradient.

torch's kernel multiplies small blocks, at a fraction of the rate of its matrix product
where the processor has instructions for bfloat16. Here the product does the work; what
lies between stays in the cache. With Intel's AMX, torch's kernel takes another way,
which is twice as fast as this module (torch 2.11, 1,024 to 8,192 wordpieces).
"""

from dataclasses import dataclass
from typing import Any, Iterator, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..availability import has_amx
from ..rounding import round_up
from .shapes import pad_rows

# What the scores of a tile may take.
_TILE_BYTES = 8 << 20

# Shorter sequences are left to torch's kernel.
_MIN_LENGTH = 512


@dataclass(frozen=True)
class Tiles:
    """How the queries of a head are cut.

    n_rows (int): The number of queries, and of keys, padded so that there are few
        shapes.
    size (int): The queries of a tile. The last one may have fewer.
    """

    n_rows: int
    size: int

    @classmethod
    def cut(cls, query: Tensor) -> "Tiles":
        """query (Tensor): `(length, heads, head_dim)`.
        RETURNS (Tiles): Its tiles.
        """
        n_rows = round_up(query.shape[0])
        size = max(1, _TILE_BYTES // (n_rows * query.element_size()))
        return cls(n_rows, min(size, n_rows))

    def rows(self) -> Iterator[slice]:
        """YIELDS (slice): The queries of each tile, in order."""
        return (
            slice(start, start + self.size)
            for start in range(0, self.n_rows, self.size)
        )

    def empty(self, query: Tensor) -> Tensor:
        """RETURNS (Tensor): `(size, n_rows)`, room for the scores of a tile."""
        return query.new_empty(self.size, self.n_rows)


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
        and not has_amx()
    )


def attend_in_tiles(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Every wordpiece sees every other one.

    query, key, value (Tensor): `(length, heads, head_dim)`.
    RETURNS (Tensor): `(length, heads, head_dim)`.
    """
    attended: Tensor = ATTEND_IN_TILES(query, key, value)
    return attended


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    length, n_heads, head_dim = query.shape
    tiles = Tiles.cut(query)
    scores = tiles.empty(query)
    output = query.new_empty(tiles.n_rows, n_heads, head_dim)
    for head in range(n_heads):
        q, k, v = (pad_rows(x[:, head], tiles.n_rows) for x in (query, key, value))
        for rows in tiles.rows():
            output[rows, head] = torch.mm(_weigh(q[rows], k, length, scores), v)
    return output[:length]


@once_differentiable
def _attend_back(ctx: Any, d_output: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """The attention weights are recomputed from the inputs, which are all that is kept.
    The gradients that the tiles give for a key are summed in float32.
    """
    query, key, value = ctx.saved_tensors
    length, n_heads, head_dim = query.shape
    tiles = Tiles.cut(query)
    scale = head_dim**-0.5
    scores, d_scores = tiles.empty(query), tiles.empty(query)
    d_query, d_key, d_value = query.new_empty(3, tiles.n_rows, n_heads, head_dim)
    for head in range(n_heads):
        q, k, v, d_out = (
            pad_rows(x[:, head], tiles.n_rows) for x in (query, key, value, d_output)
        )
        d_k, d_v = k.new_zeros(2, *k.shape, dtype=torch.float32)
        for rows in tiles.rows():
            weights = _weigh(q[rows], k, length, scores)
            d_weights = torch.mm(d_out[rows], v.T, out=d_scores[: len(weights)])
            d_v += torch.mm(weights.T, d_out[rows])
            torch.ops.aten._softmax_backward_data.out(
                d_weights, weights, -1, weights.dtype, grad_input=d_weights
            )
            d_query[rows, head] = torch.mm(d_weights, k).mul_(scale)
            d_k.add_(torch.mm(d_weights.T, q[rows]), alpha=scale)
        d_key[:, head] = d_k
        d_value[:, head] = d_v
    return d_query[:length], d_key[:length], d_value[:length]


def _keep_inputs(
    ctx: Any, inputs: Tuple[Tensor, Tensor, Tensor], output: Tensor
) -> None:
    ctx.save_for_backward(*inputs)


def _weigh(q: Tensor, k: Tensor, length: int, scores: Tensor) -> Tensor:
    """q (Tensor): `(size or less, head_dim)`, a tile of one head.
    k (Tensor): `(n_rows, head_dim)`.
    length (int): How many of the keys there are.
    scores (Tensor): `(size, n_rows)`, where the result is laid.
    RETURNS (Tensor): `(size or less, n_rows)`, the attention weights.
    """
    weights = scores[: len(q)]
    # With `beta` 0, what is in there is not read.
    torch.addmm(weights, q, k.T, beta=0, alpha=q.shape[-1] ** -0.5, out=weights)
    weights[:, length:] = -torch.inf
    # Computed in float32, whatever goes in and comes out.
    torch.softmax(weights, dim=-1, out=weights)
    return weights


# An operation of torch, so that gradient checkpointing can tell it from others.
# `torch.library.custom_op` would import torch's compiler when it first runs: a second.
_LIBRARY = torch.library.Library("spacy_modernbert", "DEF")
_LIBRARY.define("attend_in_tiles(Tensor query, Tensor key, Tensor value) -> Tensor")
_LIBRARY.impl("attend_in_tiles", _attend, "CPU")
torch.library.register_autograd(
    "spacy_modernbert::attend_in_tiles",
    _attend_back,
    setup_context=_keep_inputs,
    lib=_LIBRARY,
)
ATTEND_IN_TILES = torch.ops.spacy_modernbert.attend_in_tiles.default
