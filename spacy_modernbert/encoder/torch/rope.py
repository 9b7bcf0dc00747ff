"""Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864), in the
half-and-half layout of transformers' `ModernBertRotaryEmbedding`.
"""

from typing import Any, Tuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .transfer import to_device

Rotation = Tuple[Tensor, Tensor]


def make_rotation(positions: Tensor, periods: npt.NDArray[np.float32]) -> Rotation:
    """The angles of some positions. Float32: just below position 8,192, an angle in
    bfloat16 can be off by more than two turns.

    positions (Tensor): `(total,)`, counted from the start of each sequence.
    periods (npt.NDArray[np.float32]): `rope_periods` of the config.
    RETURNS (Rotation): Cosine and sine, each `(total, 1, 1, head_dim / 2)` float32.
    """
    frequencies = to_device(np.float32(1.0) / periods, positions.device)
    angles = (positions.float()[:, None] * frequencies)[:, None, None]
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Apply the rotary embedding.

    x (Tensor): `(total, n, heads, head_dim)`: along `n`, queries, keys, and what is not
        turned, such as values.
    rotation (Rotation): Cosine and sine of the positions.
    RETURNS (Tensor): As `x`. In half precision it is rounded once, at the end.
    """
    turned: Tensor = _Rotate.apply(x, *rotation)
    return turned


class _Rotate(torch.autograd.Function):
    """Turns a copy, and turns its gradient back by the same angles. Autograd would make
    and keep several more arrays.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return rotate_(x.clone(), (cos, sin))

    @staticmethod
    def backward(ctx: Any, d_turned: Tensor) -> Tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return rotate_(d_turned.clone(), (cos, -sin)), None, None


def rotate_(x: Tensor, rotation: Rotation) -> Tensor:
    """Apply the rotary embedding in place, without gradients. Arguments and result are
    those of `rotate`.
    """
    cos, sin = rotation
    pair = x[:, :2]
    first, second = pair.float().chunk(2, dim=-1)
    to_second = first * sin
    first.mul_(cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).add_(to_second)
    if x.dtype != torch.float32:
        pair.copy_(torch.cat((first, second), dim=-1))
    return x
