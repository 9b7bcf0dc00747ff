"""What the tests of torch's encoder have in common."""

from typing import Sequence

import torch
from torch import Tensor


def assert_same_gradients(
    found: Tensor, wanted: Tensor, leaves: Sequence[Tensor]
) -> None:
    """Two outputs of the same leaves, each with the same gradient of its own."""
    d_out = torch.randn_like(wanted)
    for ours, theirs in zip(
        torch.autograd.grad(found, leaves, d_out),
        torch.autograd.grad(wanted, leaves, d_out),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
