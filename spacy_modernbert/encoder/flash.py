"""Flash attention on packed sequences: no mask, no padding, and the sliding window is
walked, not masked.

For CUDA in half precision (Dao 2023, https://arxiv.org/abs/2307.08691). The package
flash-attn is taken where it is installed, else the kernel that torch brings along.
"""

import importlib
import importlib.util
import inspect
from dataclasses import dataclass
from functools import partial
from typing import Callable, Optional, Tuple

import torch
from torch import Tensor

# Kernels exist from Ampere on, for heads of up to 256 in steps of 8.
_CAPABILITY = (8, 0)
_MAX_HEAD_DIM = 256
_HEAD_DIM_STEP = 8

_EVERYTHING = (-1, -1)


@dataclass(frozen=True)
class FlashAttention:
    """A flash attention kernel for sequences of variable length.

    name (str): The library that it is of.
    attend (Callable): From query, key and value, each `(total, heads, head_dim)`, the
        `cu_seqlens`, the longest length and the window (how many keys to the left and
        to the right are seen, -1 for all), to `(total, heads, head_dim)`.
    """

    name: str
    attend: Callable[[Tensor, Tensor, Tensor, Tensor, int, Tuple[int, int]], Tensor]

    def attend_globally(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seqlens: Tensor,
        longest: int,
    ) -> Tensor:
        """Every wordpiece sees every other one of its sequence.

        query, key, value (Tensor): `(total, heads, head_dim)`, half precision.
        cu_seqlens (Tensor): `(n_seqs + 1,)` int32, on the device.
        longest (int): The longest length.
        RETURNS (Tensor): `(total, heads, head_dim)`.
        """
        return self.attend(query, key, value, cu_seqlens, longest, _EVERYTHING)

    def attend_within_window(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seqlens: Tensor,
        longest: int,
        half_window: int,
    ) -> Tensor:
        """Every wordpiece sees those of its sequence that are at most `half_window`
        away. Arguments and result are else those of `attend_globally`.
        """
        window = (half_window, half_window)
        return self.attend(query, key, value, cu_seqlens, longest, window)


def find_flash_attention(
    device: torch.device, dtype: torch.dtype, head_dim: int
) -> Optional[FlashAttention]:
    """The flash attention that a device can run.

    device (torch.device): Where the encoder runs.
    dtype (torch.dtype): What it multiplies in.
    head_dim (int): The width of a head.
    RETURNS (Optional[FlashAttention]): None where there is none: not on CUDA, in
        float32, on a card before Ampere, or for a width that the kernels do not know.
    """
    if (
        device.type != "cuda"
        or dtype not in (torch.float16, torch.bfloat16)
        or torch.cuda.get_device_capability(device) < _CAPABILITY
        or head_dim > _MAX_HEAD_DIM
        or head_dim % _HEAD_DIM_STEP
    ):
        return None
    if importlib.util.find_spec("flash_attn") is not None:
        return _of_package()
    return _of_torch()


def _of_package() -> FlashAttention:
    function = importlib.import_module("flash_attn").flash_attn_varlen_func
    return FlashAttention("flash-attn", partial(_attend, function))


def _of_torch() -> Optional[FlashAttention]:
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
