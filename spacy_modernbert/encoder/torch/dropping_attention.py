"""Attention with dropout on CPU, some queries at a time, and its gradient.

torch has no kernel for it there. It would compute and keep all attention weights,
which take memory with the square of the length.
"""

from typing import Any, Iterator, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# What the attention weights of the queries that are looked at together may take.
_WEIGHTS_BYTES = 16 << 20


def attend_dropping(
    query: Tensor, key: Tensor, value: Tensor, dropout: float
) -> Tensor:
    """Every wordpiece sees every other one, but for some by chance.

    query, key, value (Tensor): `(heads, length, head_dim)`.
    dropout (float): Probability by which an attention weight is dropped.
    RETURNS (Tensor): `(heads, length, head_dim)`.
    """
    attended: Tensor = _DroppingAttention.apply(query, key, value, dropout)
    return attended


class _DroppingAttention(torch.autograd.Function):
    """The attention weights are recomputed from the inputs, which are all that is kept,
    and dropped out by the same random numbers.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, dropout: float
    ) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.dropout, ctx.rng_state = dropout, torch.get_rng_state()
        output = torch.empty_like(query)
        for rows in _cut(query):
            weights = _weigh(query[:, rows], key)
            output[:, rows] = weights.mul_(_draw(weights, dropout)) @ value
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: Tensor) -> Tuple[Tensor, Tensor, Tensor, None]:
        query, key, value = ctx.saved_tensors
        scale = query.shape[-1] ** -0.5
        d_query = torch.empty_like(query)
        # Summed in float32 at least, whatever goes in and comes out.
        dtype = torch.promote_types(key.dtype, torch.float32)
        d_key, d_value = (torch.zeros_like(x, dtype=dtype) for x in (key, value))
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(ctx.rng_state)
            for rows in _cut(query):
                q, d_out = query[:, rows], d_output[:, rows]
                weights = _weigh(q, key)
                kept = _draw(weights, ctx.dropout)
                d_value += (weights * kept).mT @ d_out
                d_scores = torch.ops.aten._softmax_backward_data(
                    (d_out @ value.mT).mul_(kept), weights, -1, weights.dtype
                )
                d_query[:, rows] = (d_scores @ key).mul_(scale)
                d_key += (d_scores.mT @ q).mul_(scale)
        return d_query, d_key.to(key.dtype), d_value.to(value.dtype), None


def _cut(query: Tensor) -> Iterator[slice]:
    """YIELDS (slice): The queries that are looked at together."""
    n_heads, length, _ = query.shape
    size = max(1, _WEIGHTS_BYTES // (n_heads * length * query.element_size()))
    return (slice(start, start + size) for start in range(0, length, size))


def _weigh(q: Tensor, k: Tensor) -> Tensor:
    """RETURNS (Tensor): `(heads, queries, length)`, the attention weights."""
    return (q @ k.mT).mul_(q.shape[-1] ** -0.5).softmax(-1)


def _draw(weights: Tensor, dropout: float) -> Tensor:
    """RETURNS (Tensor): What to multiply weights with: 0 drops one out."""
    return torch.empty_like(weights).bernoulli_(1 - dropout).div_(1 - dropout)
