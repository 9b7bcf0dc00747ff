"""Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864), in the
half-and-half layout of transformers' `ModernBertRotaryEmbedding`.
"""

from typing import Any, Tuple

import torch
from torch import Tensor

Rotation = Tuple[Tensor, Tensor]


def make_rotation(positions: Tensor, theta: float, head_dim: int) -> Rotation:
    """The angles of some positions. Float32: just below position 8,192, an angle in
    bfloat16 can be off by more than two turns.

    positions (Tensor): `(total,)`, counted from the start of each sequence.
    theta (float): The base.
    head_dim (int): The width of a head.
    RETURNS (Rotation): Cosine and sine, each `(total, 1, 1, head_dim / 2)` float32.
    """
    steps = torch.arange(0, head_dim, 2, dtype=torch.int64, device=positions.device)
    frequencies = 1.0 / theta ** (steps.float() / head_dim)
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
