"""Flash attention on packed sequences, without a mask and without padding: what lies
outside the sliding window is skipped, not masked.

For CUDA in half precision (Dao 2023, https://arxiv.org/abs/2307.08691). Of the packages
flash-attn-4 (for Hopper and later, to predict with) and flash-attn, the first that is
installed is taken, else the kernel that torch brings along.
"""

import importlib
import inspect
from dataclasses import dataclass, replace
from functools import partial
from typing import Callable, Optional, Tuple, Union

import torch
from torch import Tensor

from .kernels import load_kernels, why_no_kernels

# Kernels exist from Ampere on, for heads of up to 256 in steps of 8.
_CAPABILITY = (8, 0)
_MAX_HEAD_DIM = 256
_HEAD_DIM_STEP = 8

# Those of flash-attn-4: Hopper and the large Blackwell cards.
_MAJORS_OF_4 = (9, 10, 11)
_MAX_HEAD_DIM_OF_4 = 128

# The widest half window that `attend_nearby` is used for. Its kernel is unrolled block
# by block, so that a wide one would take long to compile.
MAX_HALF_NEARBY = 256

# The window of a layer that sees all.
EVERYTHING = (-1, -1)


@dataclass(frozen=True)
class FlashAttention:
    """A flash attention kernel for sequences of variable length.

    name (str): The library that it is of.
    attend (Callable): From query, key and value, each `(total, heads, head_dim)`, the
        `cu_seqlens`, the longest length and the window (how many keys to the left and
        to the right are seen, -1 for all), to `(total, heads, head_dim)`.
    attend_nearby (Optional[Callable]): What does the sliding window instead, if it is
        no wider than `MAX_HALF_NEARBY` and there is anything quicker:
        `triton_kernels.attend_within_window`.
    """

    name: str
    attend: Callable[[Tensor, Tensor, Tensor, Tensor, int, Tuple[int, int]], Tensor]
    attend_nearby: Optional[Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]] = (
        None
    )


def find_flash_attention(
    device: torch.device, dtype: torch.dtype, head_dim: int, *, to_train: bool
) -> Optional[FlashAttention]:
    """The flash attention that a device can run.

    device (torch.device): Where the encoder runs.
    dtype (torch.dtype): What it multiplies in.
    head_dim (int): The width of a head.
    to_train (bool): Whether it must give gradients, too.
    RETURNS (Optional[FlashAttention]): None where there is none: not on CUDA, in
        float32, on a card before Ampere, or for a width that the kernels do not know.
    """
    if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
        return None
    capability = torch.cuda.get_device_capability(device)
    if (
        capability < _CAPABILITY
        or head_dim > _MAX_HEAD_DIM
        or head_dim % _HEAD_DIM_STEP
    ):
        return None
    if to_train:
        return _of_flash_attn() or _of_torch()
    has_4 = capability[0] in _MAJORS_OF_4 and head_dim <= _MAX_HEAD_DIM_OF_4
    kernel = (_of_flash_attn_4() if has_4 else None) or _of_flash_attn() or _of_torch()
    if kernel is None or why_no_kernels():
        return kernel
    return replace(kernel, attend_nearby=load_kernels().attend_within_window)


def _of_flash_attn_4() -> Optional[FlashAttention]:
    # A package of its own, which puts itself into the folder of flash-attn.
    try:
        function = importlib.import_module("flash_attn.cute").flash_attn_varlen_func
    except Exception:  # of any kind, where what it compiles by is of another version
        return None
    return FlashAttention("flash-attn-4", partial(_attend_by_4, function))


def _of_flash_attn() -> Optional[FlashAttention]:
    try:
        function = importlib.import_module("flash_attn").flash_attn_varlen_func
    except (ImportError, AttributeError):  # a folder with flash-attn-4 in it alone
        return None
    return FlashAttention("flash-attn", partial(_attend, function))


def _of_torch() -> Optional[FlashAttention]:
    # torch for Windows has the function, and no kernel behind it.
    if not torch.backends.cuda.is_flash_attention_available():
        return None
    try:
        varlen = importlib.import_module("torch.nn.attention.varlen")
    except ImportError:
        return None
    # The first releases that have it know no window.
    if "window_size" not in inspect.signature(varlen.varlen_attn).parameters:
        return None
    return FlashAttention("torch", partial(_attend, varlen.varlen_attn))


def _attend(
    function: Callable[..., Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    longest: int,
    window: Tuple[int, int],
) -> Tensor:
    # torch's function takes what it takes from flash-attn in the same order. Its
    # `cu_seqlens` and lengths are those of queries and then of keys.
    return function(
        query, key, value, cu_seqlens, cu_seqlens, longest, longest, window_size=window
    )


def _attend_by_4(
    function: Callable[..., Union[Tensor, Tuple[Tensor, Optional[Tensor]]]],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    longest: int,
    window: Tuple[int, int],
) -> Tensor:
    output = function(
        query,
        key,
        value,
        cu_seqlens_q=cu_seqlens,
        cu_seqlens_k=cu_seqlens,
        max_seqlen_q=longest,
        max_seqlen_k=longest,
        window_size=(None, None) if window == EVERYTHING else window,
    )
    # With what the backward pass needs or, as flash-attn has it, alone.
    return output[0] if isinstance(output, tuple) else output
