"""Attention on packed sequences: global and sliding-window, without padding.

A packed batch lies end to end in one `(total, ...)` array. Which positions belong
together, and where each stands in its sequence, is worked out once per batch
(`AttentionPlan`) and read by every layer.
"""

import itertools
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import PackedBatch
from .config import FULL, SLIDING, ModernBertConfig

Rotation = Tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Blocks:
    """How the sliding-window layers cut the packed stream.

    The stream is cut into blocks of `size` queries, and each block looks at its own
    positions and `half_window` more on either side. Cost and memory grow with
    `total * (size + 2 * half_window)`, never with the square of a length.

    size (int): Queries of a block.
    half_window (int): Query i sees key j where `|i - j| <= half_window`.
    n_blocks (int): Blocks; the last one may reach beyond the stream.
    mask (Tensor): `(n_blocks, 1, size, size + 2 * half_window)` bool, True where the
        query sees the key: within the window and in the same sequence. Boolean and
        never additive: a large negative number that is cast to another type is how
        rows become NaN.

    Invariant: every row of the mask has a True in it, since a position sees itself,
    also one beyond the stream.
    """

    size: int
    half_window: int
    n_blocks: int
    mask: Tensor

    def queries(self, x: Tensor) -> Tensor:
        """x (Tensor): `(total, heads, head_dim)`.
        RETURNS (Tensor): `(n_blocks, heads, size, head_dim)`.
        """
        missing = self.n_blocks * self.size - x.shape[0]
        padded = F.pad(x, (0, 0, 0, 0, 0, missing))
        return padded.unflatten(0, (self.n_blocks, self.size)).transpose(1, 2)

    def keys(self, x: Tensor) -> Tensor:
        """x (Tensor): `(total, heads, head_dim)`.
        RETURNS (Tensor): `(n_blocks, heads, size + 2 * half_window, head_dim)`, a
            view in which neighbouring blocks share memory.
        """
        missing = self.n_blocks * self.size - x.shape[0]
        padded = F.pad(x, (0, 0, 0, 0, self.half_window, missing + self.half_window))
        width = self.size + 2 * self.half_window
        return padded.unfold(0, width, self.size).transpose(-1, -2)


@dataclass(frozen=True)
class AttentionPlan:
    """What every layer needs to know of a packed batch.

    spans (List[Tuple[int, int]]): Start and end of each sequence in the stream.
    blocks (Blocks): For the sliding-window layers.
    rotations (Mapping[str, Rotation]): By layer type, cosine and sine of the rotary
        embedding, each `(total, 1, head_dim)` float32. Positions count from the
        start of each sequence.
    """

    spans: List[Tuple[int, int]]
    blocks: Blocks
    rotations: Mapping[str, Rotation]


def make_plan(
    batch: PackedBatch, config: ModernBertConfig, device: torch.device
) -> AttentionPlan:
    """Work out a packed batch on the host, so that no layer waits for the device.

    batch (PackedBatch): The batch.
    config (ModernBertConfig): The encoder's config.
    device (torch.device): Where the layers run.
    RETURNS (AttentionPlan): The plan.
    """
    cu_seqlens = batch.cu_seqlens.tolist()
    starts = np.repeat(batch.cu_seqlens[:-1], batch.lengths)
    positions = torch.from_numpy(np.arange(batch.total) - starts).to(device)
    return AttentionPlan(
        spans=list(itertools.pairwise(cu_seqlens)),
        blocks=_cut_blocks(batch, config.half_window, device),
        rotations={
            layer_type: _rotation(
                positions, config.rope_theta(layer_type), config.head_dim
            )
            for layer_type in set(config.layer_types)
        },
    )


def _cut_blocks(batch: PackedBatch, half_window: int, device: torch.device) -> Blocks:
    # Blocks as long as the half window: of the keys that a query is multiplied with,
    # two in three are its own. Longer blocks waste more, shorter ones have more
    # overhead. Windows of a few wordpieces would make blocks too small to be worth
    # a product.
    size = max(half_window, 16)
    n_blocks = -(-batch.total // size)
    # Which sequence each position belongs to, from half_window before the stream to
    # half_window after its last block; positions outside belong to none, and see
    # each other.
    sequence = np.full(n_blocks * size + 2 * half_window, -1, dtype=np.int32)
    sequence[half_window : half_window + batch.total] = np.repeat(
        np.arange(batch.n_seqs, dtype=np.int32), batch.lengths
    )
    of_keys = np.lib.stride_tricks.sliding_window_view(
        sequence, size + 2 * half_window
    )[::size]
    of_queries = of_keys[:, half_window : half_window + size]
    offset = np.arange(size + 2 * half_window) - np.arange(size)[:, None]
    near = (offset >= 0) & (offset <= 2 * half_window)
    mask = (of_queries[:, :, None] == of_keys[:, None, :]) & near
    return Blocks(
        size=size,
        half_window=half_window,
        n_blocks=n_blocks,
        mask=torch.from_numpy(mask)[:, None].to(device),
    )


def _rotation(positions: Tensor, theta: float, head_dim: int) -> Rotation:
    """Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864), in
    the half-and-half layout of transformers' `ModernBertRotaryEmbedding`. Float32:
    at position 8,191 a half-precision angle is off by several turns.
    """
    steps = torch.arange(0, head_dim, 2, dtype=torch.int64, device=positions.device)
    frequencies = 1.0 / theta ** (steps.float() / head_dim)
    angles = positions.float()[:, None] * frequencies
    angles = torch.cat((angles, angles), dim=-1)[:, None]
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Apply the rotary embedding.

    x (Tensor): Queries or keys, `(total, heads, head_dim)`.
    rotation (Rotation): Cosine and sine, each `(total, 1, head_dim)`.
    RETURNS (Tensor): `(total, heads, head_dim)`.
    """
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def attend_globally(
    query: Tensor, key: Tensor, value: Tensor, plan: AttentionPlan, dropout: float
) -> Tensor:
    """Every wordpiece sees every other one of its sequence.

    query, key, value (Tensor): `(total, heads, head_dim)`.
    plan (AttentionPlan): The plan of the batch.
    dropout (float): Probability by which an attention weight is dropped.
    RETURNS (Tensor): `(total, heads, head_dim)`.
    """
    outputs = []
    for start, end in plan.spans:
        q, k, v = (x[start:end].transpose(0, 1)[None] for x in (query, key, value))
        output = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        outputs.append(output[0].transpose(0, 1))
    return torch.cat(outputs)


def attend_within_window(
    query: Tensor, key: Tensor, value: Tensor, plan: AttentionPlan, dropout: float
) -> Tensor:
    """Every wordpiece sees those of its sequence within the sliding window.

    Arguments and result are those of `attend_globally`.
    """
    blocks = plan.blocks
    output = F.scaled_dot_product_attention(
        blocks.queries(query),
        blocks.keys(key),
        blocks.keys(value),
        attn_mask=blocks.mask,
        dropout_p=dropout,
    )
    return output.transpose(1, 2).flatten(0, 1)[: query.shape[0]]


Attend = Callable[[Tensor, Tensor, Tensor, AttentionPlan, float], Tensor]

ATTENTION: Dict[str, Attend] = {
    FULL: attend_globally,
    SLIDING: attend_within_window,
}
