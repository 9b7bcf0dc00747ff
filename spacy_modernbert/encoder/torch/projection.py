"""Matrices that are kept in float32 and multiplied in another form.

The float32 weights are what the optimizer steps and what is saved. To predict, each
matrix is brought into its other form once, and again after it was trained.
"""

from typing import Callable, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..availability import emulates

Multiply = Callable[[Tensor], Tensor]

# On MPS before torch 2.14, a product that sums over 32,767 numbers or more may read
# beyond its operands (https://github.com/pytorch/pytorch/issues/177116).
_MAX_SUM_ON_MPS = 1 << 14


class Projection(nn.Linear):
    """`x @ W.T + b`.

    Whoever changes the weights must call `weights_changed`: without gradients, only the
    form that was made of the older ones is used.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        bias: bool,
        dtype: torch.dtype,
        prepare: Callable[[Tensor, Optional[Tensor], torch.dtype], Multiply],
    ):
        """n_in, n_out (int): Widths.
        bias (bool): Whether there is a bias.
        dtype (torch.dtype): What is multiplied in, and what comes out.
        prepare (Callable): Makes, from weights, bias and `dtype`, the function that
            multiplies `(rows, n_in)` of any type in prediction. In training, `cast`
            makes it.
        """
        super().__init__(n_in, n_out, bias=bias)
        self._dtype = dtype
        self._prepare = prepare
        self._multiply: Optional[Multiply] = None

    def weights_changed(self) -> None:
        """Forget the form for predicting, which was made of older weights."""
        self._multiply = None

    def forward(self, x: Tensor) -> Tensor:
        """x (Tensor): `(rows, n_in)`.
        RETURNS (Tensor): `(rows, n_out)`.
        """
        if torch.is_grad_enabled():
            return cast(self.weight, self.bias, self._dtype)(x)
        return self.prepared()(x)

    def prepared(self) -> Multiply:
        """RETURNS (Multiply): The form for predicting, made if there is none."""
        # In a variable, as another thread may reset the attribute in between.
        multiply = self._multiply
        if multiply is None:
            with torch.no_grad():
                multiply = self._prepare(self.weight, self.bias, self._dtype)
            self._multiply = multiply
        return multiply


def cast(weight: Tensor, bias: Optional[Tensor], dtype: torch.dtype) -> Multiply:
    """Multiply in another precision, or in the same one. Gradients arrive in that of
    the weights.

    weight (Tensor): `(n_out, n_in)`.
    bias (Optional[Tensor]): `(n_out,)`.
    dtype (torch.dtype): What is multiplied in.
    RETURNS (Multiply): The product. In float32 it reads the weights themselves.
    """
    weight = weight.to(dtype)
    if bias is not None:
        bias = bias.to(dtype)
    products = product_dtype(dtype, weight.device)
    if products == dtype:
        return lambda x: _multiply(x.to(dtype), weight, bias)

    # The weights are brought into the wider type each time, and kept in the narrow one.
    def multiply(x: Tensor) -> Tensor:
        wide_bias = None if bias is None else bias.to(products)
        rounded = x.to(dtype).to(products)
        return F.linear(rounded, weight.to(products), wide_bias).to(dtype)

    return multiply


def _multiply(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    if x.device.type == "mps" and torch.is_grad_enabled():
        return multiply_in_parts(x, weight, bias, _MAX_SUM_ON_MPS)
    return F.linear(x, weight, bias)


def multiply_in_parts(
    x: Tensor, weight: Tensor, bias: Optional[Tensor], n: int
) -> Tensor:
    """`x @ W.T + b` by `n` rows and `n` outputs at a time, since its gradients are sums
    over the rows and over the outputs.

    x (Tensor): `(rows, n_in)`.
    weight (Tensor): `(n_out, n_in)`.
    bias (Optional[Tensor]): `(n_out,)`.
    n (int): How many, at most.
    RETURNS (Tensor): `(rows, n_out)`.
    """
    if max(len(x), len(weight)) <= n:
        return F.linear(x, weight, bias)
    weights = weight.split(n)
    biases = [None] * len(weights) if bias is None else bias.split(n)
    columns = [
        torch.cat([F.linear(rows, each, its_bias) for rows in x.split(n)])
        for each, its_bias in zip(weights, biases, strict=True)
    ]
    return columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)


def product_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """What numbers are multiplied in: in float32 where the processor has no
    instructions for their type. It holds their products exactly, and is far faster
    than to emulate these instructions.

    dtype (torch.dtype): The type of the numbers.
    device (torch.device): Where they are.
    RETURNS (torch.dtype): The type to bring them into first. What comes out is to be
        brought back.
    """
    if device.type == "cpu" and emulates(str(dtype).removeprefix("torch.")):
        return torch.float32
    return dtype
