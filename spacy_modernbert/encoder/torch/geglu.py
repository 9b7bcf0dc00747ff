"""GeGLU (Shazeer 2020, https://arxiv.org/abs/2002.05202): `gelu(value) * gate`."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_gelu_backward = torch.ops.aten.gelu_backward


def geglu(x: Tensor) -> Tensor:
    """Apply GeGLU.

    x (Tensor): Values and their gates, side by side. `(total, 2 * inner)`.
    RETURNS (Tensor): `(total, inner)`.
    """
    gated: Tensor = _GeGLU.apply(x)
    return gated


def geglu_(x: Tensor) -> Tensor:
    """Apply GeGLU in place, without gradients: the result lies where the values lay.
    Argument and result are those of `geglu`.
    """
    value, gate = x.chunk(2, dim=-1)
    gated: Tensor = torch.ops.aten.gelu_(value).mul_(gate)
    return gated


class _GeGLU(torch.autograd.Function):
    """Only the input is kept. The gradients of values and gates are written side by
    side into one array, to which autograd would have to copy them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        value, gate = x.chunk(2, dim=-1)
        return F.gelu(value).mul_(gate)

    @staticmethod
    def backward(ctx: Any, d_gated: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        value, gate = x.chunk(2, dim=-1)
        d_x = torch.empty_like(x)
        d_value, d_gate = d_x.chunk(2, dim=-1)
        torch.mul(d_gated, F.gelu(value), out=d_gate)
        _gelu_backward(d_gated * gate, value, grad_input=d_value)
        return d_x
