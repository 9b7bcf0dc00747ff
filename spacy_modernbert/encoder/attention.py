"""Attention on packed sequences: global and sliding-window, without padding.

A packed batch lies end to end in one `(total, ...)` array. Which positions belong
together, and where each stands in its sequence, is worked out once per batch
(`AttentionPlan`) and read by every layer. Where there is flash attention, it does the
work; else torch's `scaled_dot_product_attention` does, on sequences and on blocks.
"""

import itertools
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import PackedBatch
from .blocks import make_block_mask
from .config import FULL, SLIDING, ModernBertConfig
from .flash import FlashAttention
from .rope import Rotation, make_rotation
from .tiled_attention import attend_in_tiles, pays_to_tile

# Blocks of the sliding-window layers that the CPU multiplies together.
_BLOCKS_AT_A_TIME = 16


@dataclass(frozen=True)
class Blocks:
    """How the sliding-window layers cut the packed stream.

    The stream is cut into blocks of `size` queries, and each block looks at its own
    positions and `half_window` more on either side. Cost and memory grow with
    `total * (size + 2 * half_window)`, never with the square of a length.

    size (int): Queries of a block.
    half_window (int): Query i sees key j where `|i - j| <= half_window`.
    n_blocks (int): Blocks; the last one may reach beyond the stream.
    at_a_time (int): Blocks that are multiplied together where no gradient is asked for.
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
    at_a_time: int
    mask: Tensor

    def parts(self) -> List[slice]:
        """RETURNS (List[slice]): The blocks that are multiplied together, in order."""
        # The gradient of each part would be as long as the stream.
        size = self.n_blocks if torch.is_grad_enabled() else self.at_a_time
        starts = range(0, self.n_blocks, size)
        return [slice(start, min(start + size, self.n_blocks)) for start in starts]

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
        RETURNS (Tensor): `(blocks of the part, heads, size + 2 * half_window,
            head_dim)`, a view in which neighbouring blocks share memory.
        """
        start = part.start * self.size - self.half_window
        end = part.stop * self.size + self.half_window
        width = self.size + 2 * self.half_window
        return _rows(x, start, end).unfold(0, width, self.size).transpose(-1, -2)


def _rows(x: Tensor, start: int, end: int) -> Tensor:
    """RETURNS (Tensor): `x[start:end]`, with zeros where that reaches beyond `x`."""
    # A slice of all rows would be all the same, but for the work of its gradient.
    is_all = start <= 0 and end >= x.shape[0]
    rows = x if is_all else x[max(start, 0) : end]
    before, after = max(-start, 0), max(end - x.shape[0], 0)
    return F.pad(rows, (0, 0, 0, 0, before, after)) if before or after else rows


@dataclass(frozen=True)
class FlashPlan:
    """What flash attention needs to know.

    kernel (FlashAttention): The kernel.
    cu_seqlens (Tensor): `(n_seqs + 1,)` int32, on the device.
    longest (int): The longest length.
    spans (Tensor): `(2, total)` int32, on the device: for each wordpiece, where its
        sequence starts and ends in the stream.
    half_window (int): That of the sliding-window layers.
    """

    kernel: FlashAttention
    cu_seqlens: Tensor
    longest: int
    spans: Tensor
    half_window: int


@dataclass(frozen=True)
class AttentionPlan:
    """What every layer needs to know of a packed batch.

    spans (List[Tuple[int, int]]): Start and end of each sequence in the stream.
    rotations (Mapping[str, Rotation]): By layer type, the rotary embedding of each
        position, counted from the start of its sequence.
    blocks (Optional[Blocks]): For the sliding-window layers without flash attention.
    flash (Optional[FlashPlan]): For flash attention.

    Invariant: exactly one of `blocks` and `flash` is None.
    """

    spans: List[Tuple[int, int]]
    rotations: Mapping[str, Rotation]
    blocks: Optional[Blocks]
    flash: Optional[FlashPlan]


def make_plan(
    batch: PackedBatch,
    config: ModernBertConfig,
    device: torch.device,
    kernel: Optional[FlashAttention] = None,
) -> AttentionPlan:
    """Work out a packed batch on the host, so that no layer waits for the device.

    batch (PackedBatch): The batch.
    config (ModernBertConfig): The encoder's config.
    device (torch.device): Where the layers run.
    kernel (Optional[FlashAttention]): Flash attention, if there is any. It drops
        nothing out.
    RETURNS (AttentionPlan): The plan.
    """
    cu_seqlens = batch.cu_seqlens.tolist()
    spans = np.stack((batch.cu_seqlens[:-1], batch.cu_seqlens[1:])).astype(np.int32)
    on_device = to_device(np.repeat(spans, batch.lengths, axis=1), device)
    positions = torch.arange(batch.total, device=device) - on_device[0]
    blocks, flash = None, None
    if kernel is None:
        blocks = _cut_blocks(batch, config.half_window, device)
    else:
        flash = FlashPlan(
            kernel=kernel,
            cu_seqlens=to_device(batch.cu_seqlens.astype(np.int32), device),
            longest=int(batch.lengths.max()),
            spans=on_device,
            half_window=config.half_window,
        )
    return AttentionPlan(
        spans=list(itertools.pairwise(cu_seqlens)),
        rotations={
            layer_type: make_rotation(
                positions, config.rope_theta(layer_type), config.head_dim
            )
            for layer_type in set(config.layer_types)
        },
        blocks=blocks,
        flash=flash,
    )


def to_device(array: npt.NDArray, device: torch.device) -> Tensor:
    """RETURNS (Tensor): The array on a device. With CUDA, the host does not wait until
    it is there.
    """
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        # MPS copies from the array itself, which may be gone by then: torch does not
        # keep it (https://github.com/pytorch/pytorch/issues/139550).
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _cut_blocks(batch: PackedBatch, half_window: int, device: torch.device) -> Blocks:
    # Blocks as long as the half window: of the keys that a query is multiplied with,
    # two in three are its own. Longer blocks waste more, shorter ones have more
    # overhead. Windows of a few wordpieces would make blocks too small to be worth
    # a product.
    size = max(half_window, 16)
    mask = make_block_mask(batch.owners, size, half_window, margin=half_window)
    n_blocks = len(mask)
    return Blocks(
        size=size,
        half_window=half_window,
        n_blocks=n_blocks,
        # On the CPU, queries with their keys should fit into the cache, and copies of
        # all of them into no more memory than need be. Other devices are kept busy.
        at_a_time=_BLOCKS_AT_A_TIME if device.type == "cpu" else n_blocks,
        mask=to_device(mask, device)[:, None],
    )


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
        q, k, v = (x[start:end] for x in (query, key, value))
        if pays_to_tile(q):
            outputs.append(attend_in_tiles(q, k, v))
            continue
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
        output = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        outputs.append(output[0].transpose(0, 1))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def attend_within_window(
    query: Tensor, key: Tensor, value: Tensor, plan: AttentionPlan, dropout: float
) -> Tensor:
    """Every wordpiece sees those of its sequence within the sliding window.

    Arguments and result are those of `attend_globally`.
    """
    blocks = plan.blocks
    assert blocks is not None
    outputs = []
    for part in blocks.parts():
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


def _flash_globally(
    query: Tensor, key: Tensor, value: Tensor, plan: AttentionPlan, dropout: float
) -> Tensor:
    flash = plan.flash
    assert flash is not None and not dropout
    return flash.kernel.attend_globally(
        query, key, value, flash.cu_seqlens, flash.longest
    )


def _flash_within_window(
    query: Tensor, key: Tensor, value: Tensor, plan: AttentionPlan, dropout: float
) -> Tensor:
    flash = plan.flash
    assert flash is not None and not dropout
    return flash.kernel.attend_within_window(
        query,
        key,
        value,
        flash.cu_seqlens,
        flash.longest,
        flash.spans,
        flash.half_window,
    )


Attend = Callable[[Tensor, Tensor, Tensor, AttentionPlan, float], Tensor]

ATTENTION: Dict[str, Attend] = {
    FULL: attend_globally,
    SLIDING: attend_within_window,
}
FLASH_ATTENTION: Dict[str, Attend] = {
    FULL: _flash_globally,
    SLIDING: _flash_within_window,
}


def attend(
    layer_type: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: AttentionPlan,
    dropout: float,
) -> Tensor:
    """Attention, as a kind of layer does it.

    layer_type (str): The kind. The other arguments, and the result, are those of
        `attend_globally`.
    """
    table = ATTENTION if plan.flash is None else FLASH_ATTENTION
    return table[layer_type](query, key, value, plan, dropout)
