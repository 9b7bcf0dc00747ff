"""Attention of one sequence on CPU in bfloat16, some queries at a time, and back.

torch's kernel multiplies small blocks, at a fraction of the rate of its matrix product
where the processor has instructions for bfloat16. Here the product does the work; what
lies between stays in the cache. With Intel's AMX torch's kernel has a way of its own,
which is twice as quick as this (torch 2.11, 1,024 to 8,192 wordpieces).
"""

from typing import Any, List, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .availability import has_amx

# What the scores of a tile may take.
_TILE_BYTES = 8 << 20

# Shorter sequences are left to torch's kernel.
_MIN_LENGTH = 512


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
    tiles = _cut_tiles(query)
    scores = _empty_scores(query)
    output = query.new_empty(query.shape)
    for head in range(query.shape[1]):
        q, k, v = (x[:, head].contiguous() for x in (query, key, value))
        for rows in tiles:
            output[rows, head] = torch.mm(_weigh(q[rows], k, scores), v)
    return output


@once_differentiable
def _attend_back(ctx: Any, d_output: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """The weights are computed anew: only what went in is kept. What the tiles say of a
    key is added up in float32.
    """
    query, key, value = ctx.saved_tensors
    tiles = _cut_tiles(query)
    scale = query.shape[-1] ** -0.5
    scores, d_scores = _empty_scores(query), _empty_scores(query)
    d_query, d_key, d_value = (x.new_empty(x.shape) for x in (query, key, value))
    for head in range(query.shape[1]):
        q, k, v, d_out = (
            x[:, head].contiguous() for x in (query, key, value, d_output)
        )
        d_k, d_v = torch.zeros(2, *k.shape)
        for rows in tiles:
            weights = _weigh(q[rows], k, scores)
            d_weights = torch.mm(d_out[rows], v.T, out=d_scores[: len(weights)])
            d_v += torch.mm(weights.T, d_out[rows])
            torch.ops.aten._softmax_backward_data.out(
                d_weights, weights, -1, weights.dtype, grad_input=d_weights
            )
            d_query[rows, head] = torch.mm(d_weights, k).mul_(scale)
            d_k.add_(torch.mm(d_weights.T, q[rows]), alpha=scale)
        d_key[:, head] = d_k
        d_value[:, head] = d_v
    return d_query, d_key, d_value


def _keep_inputs(
    ctx: Any, inputs: Tuple[Tensor, Tensor, Tensor], output: Tensor
) -> None:
    ctx.save_for_backward(*inputs)


def _cut_tiles(query: Tensor) -> List[slice]:
    length = query.shape[0]
    size = _tile_size(query)
    return [slice(start, start + size) for start in range(0, length, size)]


def _tile_size(query: Tensor) -> int:
    return max(1, _TILE_BYTES // (query.shape[0] * query.element_size()))


def _empty_scores(query: Tensor) -> Tensor:
    length = query.shape[0]
    return query.new_empty(min(_tile_size(query), length), length)


def _weigh(q: Tensor, k: Tensor, scores: Tensor) -> Tensor:
    """q (Tensor): `(size or less, head_dim)`, a tile of one head.
    k (Tensor): `(length, head_dim)`.
    scores (Tensor): `(size, length)`, where the result is laid.
    RETURNS (Tensor): `(size or less, length)`, the attention weights.
    """
    weights = scores[: len(q)]
    # With `beta` 0, what is in there is not read.
    torch.addmm(weights, q, k.T, beta=0, alpha=q.shape[-1] ** -0.5, out=weights)
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
