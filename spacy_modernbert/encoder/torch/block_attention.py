"""Attention of the sliding-window layers block by block, and its gradient.

Cost and memory grow with the length of the stream, never with the square of a length.
"""

from dataclasses import dataclass
from typing import Any, List, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...types import PackedBatch
from ..blocks import mask_blocks
from .transfer import to_device

# How many blocks the CPU multiplies together, so that queries and their keys fit into
# its cache: in the forward pass, and in the backward pass with two arrays of scores.
_BLOCKS_AT_A_TIME = 16
_BLOCKS_BACK = 8


@dataclass(frozen=True)
class Blocks:
    """How the sliding-window layers cut the packed stream: into blocks of queries, each
    of which looks at its own positions and those of the blocks beside it.

    size (int): Queries of a block.
    n_blocks (int): Blocks; the last one may reach beyond the stream.
    at_a_time (int): Blocks that are multiplied together where autograd keeps nothing.
    mask (Tensor): `(n_blocks, 1, size, 3 * size)` bool, True where the query sees the
        key: within the window and in the same sequence. Boolean rather than additive,
        since a large negative number that is cast to another type can make rows NaN.

    Invariants: a window reaches no farther than one block. Every row of the mask has a
    True in it, since a position sees itself, also one beyond the stream.
    """

    size: int
    n_blocks: int
    at_a_time: int
    mask: Tensor

    def parts(self, at_a_time: int) -> List[slice]:
        """RETURNS (List[slice]): All blocks, in order, so many at a time."""
        starts = range(0, self.n_blocks, at_a_time)
        return [slice(start, min(start + at_a_time, self.n_blocks)) for start in starts]

    def queries(self, x: Tensor, part: slice) -> Tensor:
        """x (Tensor): `(total, heads, head_dim)`.
        part (slice): Which blocks.
        RETURNS (Tensor): `(blocks of the part, heads, size, head_dim)`.
        """
        rows = _rows(x, part.start * self.size, part.stop * self.size)
        return rows.unflatten(0, (-1, self.size)).transpose(1, 2)

    def keys(self, x: Tensor, part: slice) -> Tensor:
        """x (Tensor): `(total, heads, head_dim)`.
        part (slice): Which blocks.
        RETURNS (Tensor): `(blocks of the part, heads, 3 * size, head_dim)`, a view in
            which neighbouring blocks share memory.
        """
        rows = _rows(x, (part.start - 1) * self.size, (part.stop + 1) * self.size)
        return rows.unfold(0, 3 * self.size, self.size).transpose(-1, -2)


def cut_blocks(batch: PackedBatch, half_window: int, device: torch.device) -> Blocks:
    """Cut a packed stream.

    batch (PackedBatch): The stream.
    half_window (int): Query i sees key j where `|i - j| <= half_window`.
    device (torch.device): Where the layers run.
    RETURNS (Blocks): The blocks.
    """
    size, mask = mask_blocks(batch, half_window)
    n_blocks = len(mask)
    return Blocks(
        size=size,
        n_blocks=n_blocks,
        # Other devices are kept busier by all blocks at once.
        at_a_time=_BLOCKS_AT_A_TIME if device.type == "cpu" else n_blocks,
        mask=to_device(mask, device)[:, None],
    )


def attend_in_blocks(
    query: Tensor, key: Tensor, value: Tensor, blocks: Blocks, dropout: float
) -> Tensor:
    """Every wordpiece sees those of its sequence within the sliding window.

    query, key, value (Tensor): `(total, heads, head_dim)`.
    blocks (Blocks): The blocks of the stream.
    dropout (float): Probability by which an attention weight is dropped.
    RETURNS (Tensor): `(total, heads, head_dim)`.
    """
    if not torch.is_grad_enabled():
        return _attend(query, key, value, blocks, blocks.at_a_time, dropout)
    # In float16, in which only tests ask for gradients, they would be too small.
    if query.device.type == "cpu" and not dropout and query.dtype != torch.float16:
        attended: Tensor = _BlockAttention.apply(query, key, value, blocks)
        return attended
    # All at once: autograd makes a gradient of each part as long as the stream.
    return _attend(query, key, value, blocks, blocks.n_blocks, dropout)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    blocks: Blocks,
    at_a_time: int,
    dropout: float,
) -> Tensor:
    outputs = []
    for part in blocks.parts(at_a_time):
        output = F.scaled_dot_product_attention(
            blocks.queries(query, part),
            blocks.keys(key, part),
            blocks.keys(value, part),
            attn_mask=blocks.mask[part],
            dropout_p=dropout,
        )
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    attended = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return attended[: query.shape[0]]


class _BlockAttention(torch.autograd.Function):
    """The gradient by matrix products, in half the time that torch's kernel takes on
    blocks as small as these. The attention weights are recomputed from the inputs,
    which are all that is kept.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, blocks: Blocks
    ) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.blocks = blocks
        return _attend(query, key, value, blocks, blocks.at_a_time, dropout=0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_attended: Tensor) -> Tuple[Tensor, Tensor, Tensor, None]:
        query, key, value = ctx.saved_tensors
        blocks: Blocks = ctx.blocks
        total, n_heads, head_dim = query.shape
        scale = head_dim**-0.5
        shape = (blocks.size, n_heads, head_dim)
        d_query = query.new_empty(blocks.n_blocks, *shape)
        # With a block before the stream and one behind it.
        d_key, d_value = query.new_zeros(2, 1 + blocks.n_blocks + 1, *shape)
        for part in blocks.parts(_BLOCKS_BACK):
            # (blocks * heads, size or 3 * size, head_dim)
            q = blocks.queries(query, part).flatten(0, 1) * scale
            k = blocks.keys(key, part).flatten(0, 1)
            v = blocks.keys(value, part).flatten(0, 1)
            d_out = blocks.queries(d_attended, part).flatten(0, 1)
            weights = _weigh(q, k, blocks.mask[part])
            d_scores = torch.ops.aten._softmax_backward_data(
                torch.bmm(d_out, v.mT), weights, -1, weights.dtype
            )
            d_q = torch.bmm(d_scores, k).mul_(scale)
            d_query[part] = d_q.unflatten(0, (-1, n_heads)).transpose(1, 2)
            _add_thirds(d_key, part, torch.bmm(d_scores.mT, q))
            _add_thirds(d_value, part, torch.bmm(weights.mT, d_out))
        d_query = d_query.flatten(0, 1)[:total]
        d_key, d_value = (d_x[1:-1].flatten(0, 1)[:total] for d_x in (d_key, d_value))
        return d_query, d_key, d_value, None


def _weigh(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """q (Tensor): `(blocks * heads, size, head_dim)`, scaled.
    k (Tensor): `(blocks * heads, 3 * size, head_dim)`.
    mask (Tensor): `(blocks, 1, size, 3 * size)` bool.
    RETURNS (Tensor): `(blocks * heads, size, 3 * size)`, the attention weights.
    """
    scores = torch.bmm(q, k.mT)
    scores.unflatten(0, (len(mask), -1)).masked_fill_(~mask, -torch.inf)
    return scores.softmax(-1)


def _add_thirds(d_x: Tensor, part: slice, d_keys: Tensor) -> None:
    """Add what each block says of its own positions and of the blocks beside it.

    d_x (Tensor): `(1 + n_blocks + 1, size, heads, head_dim)`. Added to.
    part (slice): The blocks that speak.
    d_keys (Tensor): `(blocks * heads, 3 * size, head_dim)`.
    """
    _, size, n_heads, _ = d_x.shape
    thirds = d_keys.unflatten(0, (-1, n_heads)).unflatten(2, (3, size))
    for i, third in enumerate(thirds.unbind(2)):
        d_x[part.start + i : part.stop + i] += third.transpose(1, 2)


def _rows(x: Tensor, start: int, end: int) -> Tensor:
    """RETURNS (Tensor): `x[start:end]`, with zeros where that reaches beyond `x`."""
    # A slice of all rows would give the same, but its gradient would cost time.
    is_all = start <= 0 and end >= x.shape[0]
    rows = x if is_all else x[max(start, 0) : end]
    before, after = max(-start, 0), max(end - x.shape[0], 0)
    return F.pad(rows, (0, 0, 0, 0, before, after)) if before or after else rows
