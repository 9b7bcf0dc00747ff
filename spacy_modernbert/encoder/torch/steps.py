"""Training steps in torch, on the device where the weights are.

Nothing here asks the device for a value, so that the host does not wait for it.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, MutableMapping, Tuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from ..steps import StepSettings, StepState, average_share, lr_scale, radam_scale


@dataclass(frozen=True)
class _Due:
    """A weight to be stepped.

    name (str): Its name in a checkpoint, under which it is remembered.
    weights, gradient (Tensor): Float32, of one shape. Both are changed in place.
    n_steps (int): Its steps, this one included.
    learn_rate (float): That of its layer.
    """

    name: str
    weights: Tensor
    gradient: Tensor
    n_steps: int
    learn_rate: float


@torch.no_grad()
def take_step(
    parameters: Iterable[Tuple[str, nn.Parameter]],
    n_layers: int,
    settings: StepSettings,
    state: StepState,
) -> None:
    """Step every weight that has a gradient, in place, and forget the gradients.

    parameters (Iterable[Tuple[str, nn.Parameter]]): The weights, float32, by name.
    n_layers (int): The layers of the encoder.
    settings (StepSettings): The rule.
    state (StepState): What is remembered. Updated.
    """
    due = []
    for name, parameter in parameters:
        if parameter.grad is None:
            continue
        n_steps = state.n_steps.get(name, 0) + 1
        scale = lr_scale(name, n_layers, settings.layer_lr_decay)
        learn_rate = settings.learn_rate * scale
        due.append(_Due(name, parameter, parameter.grad, n_steps, learn_rate))
    if not due:
        return
    # Before anything is changed: there may be too little memory for it.
    for each in due:
        _make_room(each, settings, state)
    scratch = _make_scratch(due) if settings.rectified else None
    for each in due:
        state.n_steps[each.name] = each.n_steps
        each.weights.grad = None
        if settings.L2 and not settings.L2_is_weight_decay:
            each.gradient.add_(each.weights, alpha=settings.L2)
        if settings.grad_clip:
            _clip(each.gradient, settings.grad_clip)
    if scratch is not None:
        _step_radam(due, settings, state, scratch)
    elif settings.has_moments:
        _step_adam(due, settings, state)
    else:
        for each in due:
            each.weights.add_(each.gradient, alpha=-each.learn_rate)
    for each in due:
        if settings.L2 and settings.L2_is_weight_decay:
            each.weights.mul_(1 - each.learn_rate * settings.L2)
        if state.averages is not None:
            average = _recall(state.averages, each, each.weights.shape)
            average.lerp_(each.weights, average_share(each.n_steps))


def _clip(gradient: Tensor, threshold: float) -> None:
    norm = torch.linalg.vector_norm(gradient)
    gradient.mul_(torch.where(norm >= threshold, threshold / norm, 1.0))


def _make_room(due: _Due, settings: StepSettings, state: StepState) -> None:
    """Make what is going to be remembered of a weight, if it is not there."""
    if settings.has_moments:
        _moments(due, state)
    if state.averages is not None:
        _recall(state.averages, due, due.weights.shape)


def _make_scratch(due: List[_Due]) -> Tensor:
    """RETURNS (Tensor): As long as the largest weight."""
    longest = max(each.weights.numel() for each in due)
    return torch.empty(longest, device=due[0].weights.device)


def _moments(due: _Due, state: StepState) -> Tuple[Tensor, Tensor]:
    shape = torch.Size([due.weights.numel()])
    return _recall(state.mom1, due, shape), _recall(state.mom2, due, shape)


def _recall(table: MutableMapping[str, Any], due: _Due, shape: torch.Size) -> Tensor:
    """RETURNS (Tensor): What is remembered of a weight, in the weight's shape. It is
    kept in another shape, and on the CPU as NumPy, so that Thinc can use it as well.
    """
    if due.name not in table:
        fresh = torch.zeros(shape, device=due.weights.device)
        table[due.name] = fresh.numpy() if fresh.device.type == "cpu" else fresh
    kept = table[due.name]
    if isinstance(kept, np.ndarray):
        kept = torch.from_numpy(kept)
    return kept.view_as(due.weights)


def _step_adam(due: List[_Due], settings: StepSettings, state: StepState) -> None:
    groups: Dict[Tuple[int, float], List[_Due]] = defaultdict(list)
    for each in due:
        groups[each.n_steps, each.learn_rate].append(each)
    b1, b2 = settings.b1, settings.b2
    # Thinc's kernel rounds them to float32, which changes 1 - b2 by 1e-5 of its value.
    rounded1, rounded2 = float(np.float32(b1)), float(np.float32(b2))
    for (n_steps, learn_rate), group in groups.items():
        moments = [_moments(each, state) for each in group]
        device = group[0].weights.device
        # torch counts the step itself.
        n_before = torch.full((len(group),), n_steps - 1.0, device=device)
        # torch corrects the moments for their start at 0 by the betas that it gets,
        # and then adds epsilon. Thinc corrects by exact betas, and adds it before.
        fix1, fix2 = 1 - b1**n_steps, (1 - b2**n_steps) ** 0.5
        torch_fix1, torch_fix2 = 1 - rounded1**n_steps, (1 - rounded2**n_steps) ** 0.5
        adam(
            [each.weights for each in group],
            [each.gradient for each in group],
            [mom1 for mom1, _ in moments],
            [mom2 for _, mom2 in moments],
            [],
            list(n_before.unbind()),
            fused=True,
            amsgrad=False,
            beta1=rounded1,
            beta2=rounded2,
            lr=learn_rate * (fix2 / fix1) * (torch_fix1 / torch_fix2),
            weight_decay=0.0,
            eps=settings.eps / torch_fix2,
            maximize=False,
        )


def _step_radam(
    due: List[_Due], settings: StepSettings, state: StepState, scratch: Tensor
) -> None:
    for each in due:
        mom1, mom2 = _moments(each, state)
        mom1.lerp_(each.gradient, 1 - settings.b1)
        mom2.mul_(settings.b2)
        mom2.addcmul_(each.gradient, each.gradient, value=1 - settings.b2)
        scale, is_adaptive = radam_scale(each.n_steps, settings.b1, settings.b2)
        if is_adaptive:
            root = scratch[: mom2.numel()].view_as(mom2)
            torch.sqrt(mom2, out=root).add_(settings.eps)
            each.weights.addcdiv_(mom1, root, value=-scale * each.learn_rate)
        else:
            each.weights.add_(mom1, alpha=-scale * each.learn_rate)
