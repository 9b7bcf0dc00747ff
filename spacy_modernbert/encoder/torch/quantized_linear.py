"""Products of int8, to predict on CPU.

Weights have a scale for each output, found once; activations have one for each
wordpiece, found as they come ("dynamic quantization"). Both are symmetric, from
-127 to 127, so that there are no zero points to correct for.
"""

from typing import Optional, Tuple

import torch
from torch import Tensor

from ..availability import multiplies_int8
from ..int8 import LARGEST
from .projection import Multiply


def quantize_rows(x: Tensor) -> Tuple[Tensor, Tensor]:
    """Round each row to 255 steps.

    x (Tensor): `(rows, width)` float.
    RETURNS (Tuple[Tensor, Tensor]): `(rows, width)` int8, and `(rows, 1)` float32 what
        the row is to be multiplied with. A row of zeros stays one.
    """
    x = x.float()
    largest = torch.linalg.vector_norm(x, torch.inf, dim=-1, keepdim=True)
    scale = largest / LARGEST
    # The smallest of normal numbers, for rows of zeros.
    steps = x / scale.clamp_min(torch.finfo(torch.float32).tiny)
    return steps.round_().to(torch.int8), scale


def multiply_int8(x: Tensor, weight: Tensor) -> Tensor:
    """x (Tensor): `(rows, n_in)` int8, none of it -128.
    weight (Tensor): `(n_out, n_in)` int8, likewise.
    RETURNS (Tensor): `(rows, n_out)`, int32 where the processor multiplies int8, else
        float32, in which products of int8 are exact and their sums all but exact.
    """
    # Without these instructions, torch's product of int8 is a plain loop; and for rows
    # of one number, its result is arbitrary.
    if multiplies_int8() and x.shape[1] > 1:
        return torch._int_mm(x, weight.t())
    return x.float() @ weight.float().t()


def quantize(weight: Tensor, bias: Optional[Tensor], dtype: torch.dtype) -> Multiply:
    """Multiply in int8.

    weight (Tensor): `(n_out, n_in)` float32.
    bias (Optional[Tensor]): `(n_out,)`.
    dtype (torch.dtype): What comes out.
    RETURNS (Multiply): The product. It keeps a copy of the weights in int8.
    """
    rows, scale = quantize_rows(weight.detach())
    of_outputs = scale.t()

    def multiply(x: Tensor) -> Tensor:
        steps, of_inputs = quantize_rows(x)
        product = (multiply_int8(steps, rows) * of_outputs).mul_(of_inputs)
        if bias is not None:
            product += bias
        return product.to(dtype)

    return multiply
