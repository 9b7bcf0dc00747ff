"""Few shapes for torch's products in bfloat16 and in int8 on the CPU.

torch and oneDNN cache half a megabyte or a whole one for each shape that was
multiplied, and do so for a thousand shapes and more: with documents of many lengths,
that is gigabytes (torch 2.13). So lengths are rounded up, by 1.5 % on average.
"""

import numpy as np
import torch
from torch import Tensor

from ...types import PackedBatch
from ..availability import multiplies_int8
from ..rounding import round_up


def counts_shapes(
    device: torch.device, dtype: torch.dtype, is_quantized: bool = False
) -> bool:
    """RETURNS (bool): Whether it matters how many shapes are multiplied. Products of
    float32 are those of another library, and with them those of int8 where the
    processor has none of its own (`multiply_int8`).
    """
    by_onednn = dtype != torch.float32 or (is_quantized and multiplies_int8())
    return device.type == "cpu" and by_onednn


def round_batch(batch: PackedBatch) -> PackedBatch:
    """RETURNS (PackedBatch): The batch, followed by a filler sequence that rounds its
    total up.
    """
    n_more = round_up(batch.total) - batch.total
    if n_more == 0:
        return batch
    cu_seqlens = np.append(batch.cu_seqlens, batch.cu_seqlens[-1] + n_more)
    return PackedBatch(np.pad(batch.ids, (0, n_more)), cu_seqlens)


def pad_rows(x: Tensor, n_rows: int) -> Tensor:
    """x (Tensor): `(length, width)`.
    n_rows (int): At least `length`.
    RETURNS (Tensor): `(n_rows, width)`, a copy with zeros behind it.
    """
    padded = x.new_zeros(n_rows, x.shape[1])
    padded[: len(x)] = x
    return padded
