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
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...types import PackedBatch
from ..config import FULL, SLIDING, ModernBertConfig
from .block_attention import Blocks, attend_in_blocks, cut_blocks
from .dropping_attention import attend_dropping
from .flash import EVERYTHING, MAX_HALF_NEARBY, FlashAttention
from .projection import product_dtype
from .rope import Rotation, make_rotation
from .tiled_attention import attend_in_tiles, pays_to_tile
from .transfer import to_device


@dataclass(frozen=True)
class FlashPlan:
    """What flash attention needs to know.

    kernel (FlashAttention): The kernel.
    cu_seqlens (Tensor): `(n_seqs + 1,)` int32, on the device.
    longest (int): The longest length.
    bounds (Tensor): `(2, total)` int32, on the device: for each wordpiece, where its
        sequence starts and ends in the stream.
    half_window (int): That of the sliding-window layers.
    """

    kernel: FlashAttention
    cu_seqlens: Tensor
    longest: int
    bounds: Tensor
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


def plan_attention(
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
        blocks = cut_blocks(batch, config.half_window, device)
    else:
        flash = FlashPlan(
            kernel=kernel,
            cu_seqlens=to_device(batch.cu_seqlens.astype(np.int32), device),
            longest=int(batch.lengths.max()),
            bounds=on_device,
            half_window=config.half_window,
        )
    return AttentionPlan(
        spans=list(itertools.pairwise(cu_seqlens)),
        rotations={
            layer_type: make_rotation(positions, config.rope_periods(layer_type))
            for layer_type in set(config.layer_types)
        },
        blocks=blocks,
        flash=flash,
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
    # Not slices: the gradient of each would be as long as all sequences.
    lengths = [end - start for start, end in plan.spans]
    parts = (x.split(lengths) for x in (query, key, value))
    for q, k, v in zip(*parts, strict=True):
        # Tiles drop nothing out.
        if not dropout and pays_to_tile(q):
            outputs.append(attend_in_tiles(q, k, v))
            continue
        q, k, v = (x.transpose(0, 1) for x in (q, k, v))
        if dropout and q.device.type == "cpu":
            outputs.append(attend_dropping(q, k, v, dropout).transpose(0, 1))
            continue
        if q.device.type == "mps":
            output = attend_by_queries(q, k, v, dropout)
        else:
            output = _attend(q, k, v, dropout)
        outputs.append(output.transpose(0, 1))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def attend_by_queries(
    query: Tensor, key: Tensor, value: Tensor, dropout: float, n_queries: int = 1024
) -> Tensor:
    """Attention of so many queries at a time, where torch makes the scores of all
    queries and keys at once: 3.2 GB for 8,192 wordpieces and 12 heads. If gradients are
    wanted, these scores are made again, unless something is dropped out, which would
    differ then.

    query, key, value (Tensor): `(heads, length, head_dim)`.
    dropout (float): Probability by which an attention weight is dropped.
    n_queries (int): How many queries, at most.
    RETURNS (Tensor): `(heads, length, head_dim)`.
    """
    # In parts of one size: for few queries in half precision, torch 2.8 to 2.10 writes
    # beyond its memory on MPS (https://github.com/pytorch/pytorch/issues/174861).
    parts = query.tensor_split(-(-query.shape[1] // n_queries), dim=1)
    if len(parts) > 1 and not dropout and torch.is_grad_enabled():
        return torch.cat(
            [
                checkpoint(_attend, part, key, value, dropout, use_reentrant=False)
                for part in parts
            ],
            dim=1,
        )
    return torch.cat([_attend(part, key, value, dropout) for part in parts], dim=1)


def _attend(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    # A batch of one: for less, some kernels are not taken.
    output = F.scaled_dot_product_attention(
        query[None], key[None], value[None], dropout_p=dropout
    )
    return output[0]


def attend_within_window(
    query: Tensor, key: Tensor, value: Tensor, plan: AttentionPlan, dropout: float
) -> Tensor:
    """Every wordpiece sees those of its sequence within the sliding window.

    Arguments and result are those of `attend_globally`.
    """
    assert plan.blocks is not None
    return attend_in_blocks(query, key, value, plan.blocks, dropout)


def _flash_globally(
    query: Tensor, key: Tensor, value: Tensor, plan: AttentionPlan, dropout: float
) -> Tensor:
    flash = plan.flash
    assert flash is not None and not dropout
    return flash.kernel.attend(
        query, key, value, flash.cu_seqlens, flash.longest, EVERYTHING
    )


def _flash_within_window(
    query: Tensor, key: Tensor, value: Tensor, plan: AttentionPlan, dropout: float
) -> Tensor:
    flash = plan.flash
    assert flash is not None and not dropout
    half, kernel = flash.half_window, flash.kernel
    if kernel.attend_nearby is not None and half <= MAX_HALF_NEARBY:
        return kernel.attend_nearby(query, key, value, flash.bounds, half)
    return kernel.attend(
        query, key, value, flash.cu_seqlens, flash.longest, (half, half)
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
    dtype = query.dtype
    products = product_dtype(dtype, query.device)
    query, key, value = (x.to(products) for x in (query, key, value))
    return table[layer_type](query, key, value, plan, dropout).to(dtype)
