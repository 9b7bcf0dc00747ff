"""The optimizers of a masked language model: AdamW, or Muon together with AdamW."""

from collections import defaultdict
from itertools import compress
from operator import not_
from typing import Any, Dict, Iterable, List, Tuple

import torch
from torch import Tensor, nn

from .masked_lm import MaskedLM
from .settings import PretrainingSettings

# Of the quintic Newton-Schulz iteration, chosen to be as steep as possible at 0.
# Singular values then end between 0.7 and 1.2 and not at 1, which does no harm.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
# Nesterov's.
_MOMENTUM = 0.95
# So that an update is as large as one of AdamW, and both take one learning rate.
_RMS_OF_ADAMW = 0.2


class Muon(torch.optim.Optimizer):
    """Steps matrices by their momentum, made orthogonal, so that every direction of it
    counts alike (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; the
    size of a step: Liu et al. 2025, https://arxiv.org/abs/2502.16982).

    `torch.optim.Muon` is the same in bfloat16, always, which is fifty times slower on
    a processor that does not multiply it natively.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        weight_decay: float,
        dtype: torch.dtype = torch.float32,
    ):
        """params (Iterable[Tensor]): Matrices.
        lr (float): The learning rate.
        weight_decay (float): The share of the weights that decays in a step, if the
            learning rate is 1.
        dtype (torch.dtype): What the momentum is made orthogonal in.
        """
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take a step.

        closure (Any): Not used.
        """
        for group in self.param_groups:
            alike: Dict[torch.Size, List[Tensor]] = defaultdict(list)
            for weights in group["params"]:
                if weights.grad is not None:
                    alike[weights.shape].append(weights)
            for shape, matrices in alike.items():
                updates = self._updates(matrices)
                size = _RMS_OF_ADAMW * max(shape) ** 0.5
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, updates, alpha=-group["lr"] * size)

    def _updates(self, matrices: List[Tensor]) -> Tuple[Tensor, ...]:
        """The updates of all matrices of one shape at once: they are small, so that
        launching a product for each would take a GPU longer than to multiply them.
        """
        gradients = [_gradient(each) for each in matrices]
        for each in matrices:
            if "momentum_buffer" not in self.state[each]:
                self.state[each]["momentum_buffer"] = torch.zeros_like(each)
        buffers = [self.state[each]["momentum_buffer"] for each in matrices]
        torch._foreach_lerp_(buffers, gradients, 1 - _MOMENTUM)
        ahead = torch.stack(torch._foreach_lerp(gradients, buffers, _MOMENTUM))
        return orthogonalize(ahead.to(self._dtype)).to(ahead.dtype).unbind()


def _gradient(weights: Tensor) -> Tensor:
    assert weights.grad is not None
    return weights.grad


def orthogonalize(matrices: Tensor) -> Tensor:
    """Bring the singular values of matrices near to 1, by Newton and Schulz.

    matrices (Tensor): `(k, n, m)`.
    RETURNS (Tensor): `(k, n, m)`.
    """
    a, b, c = _COEFFICIENTS
    is_tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if is_tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, gram, x, beta=a)
    return x.mT if is_tall else x


def make_optimizers(
    model: MaskedLM, settings: PretrainingSettings, dtype: torch.dtype
) -> Tuple[torch.optim.Optimizer, ...]:
    """model (MaskedLM): The model.
    settings (PretrainingSettings): What to make.
    dtype (torch.dtype): What matrices are multiplied in.
    RETURNS (Tuple[torch.optim.Optimizer, ...]): Each parameter is in one of them.
    """
    parameters = list(model.parameters())
    if settings.optimizer == "adamw":
        return (_make_adamw(parameters, settings),)
    # Not the embedding table, which is also the output layer: Jordan et al. leave both
    # to AdamW.
    is_matrix = [each.ndim == 2 and each is not model.table for each in parameters]
    by_muon = list(compress(parameters, is_matrix))
    others = list(compress(parameters, map(not_, is_matrix)))
    rate, decay = settings.learn_rate, settings.weight_decay
    return _make_adamw(others, settings), Muon(by_muon, rate, decay, dtype=dtype)


def _make_adamw(
    parameters: List[nn.Parameter], settings: PretrainingSettings
) -> torch.optim.AdamW:
    decaying = [each for each in parameters if each.ndim > 1]
    others = [each for each in parameters if each.ndim <= 1]
    return torch.optim.AdamW(
        [
            {"params": decaying, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=settings.learn_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        fused=True,
    )
