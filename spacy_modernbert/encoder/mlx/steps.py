"""Training steps in MLX, on the device where the weights are."""

from typing import Any, Mapping, MutableMapping, Tuple

import mlx.core as mx
import numpy as np

from ..steps import StepSettings, StepState, average_share, lr_scale, radam_scale


def take_step(
    weights: MutableMapping[str, mx.array],
    gradients: Mapping[str, mx.array],
    n_layers: int,
    settings: StepSettings,
    state: StepState,
) -> None:
    """Step every weight that has a gradient. MLX's arrays do not change: the stepped
    ones take the places of the others.

    weights (MutableMapping[str, mx.array]): The weights, float32, by name. Updated.
    gradients (Mapping[str, mx.array]): Likewise, of the same shapes.
    n_layers (int): The layers of the encoder.
    settings (StepSettings): The rule.
    state (StepState): What is remembered. Updated.
    """
    changed = []
    for name, gradient in gradients.items():
        old = weights[name]
        state.n_steps[name] = n_steps = state.n_steps.get(name, 0) + 1
        scale = lr_scale(name, n_layers, settings.layer_lr_decay)
        learn_rate = settings.learn_rate * scale
        if settings.L2 and not settings.L2_is_weight_decay:
            gradient = gradient + settings.L2 * old
        if settings.grad_clip:
            gradient = _clip(gradient, settings.grad_clip)
        if settings.has_moments:
            rule = _step_radam if settings.rectified else _step_adam
            mom1, mom2 = _recall(state.mom1, name, old), _recall(state.mom2, name, old)
            new, mom1, mom2 = rule(
                old, gradient, mom1, mom2, n_steps, learn_rate, settings
            )
            state.mom1[name], state.mom2[name] = mom1.flatten(), mom2.flatten()
            changed += [state.mom1[name], state.mom2[name]]
        else:
            new = old - learn_rate * gradient
        if settings.L2 and settings.L2_is_weight_decay:
            new = new * (1 - learn_rate * settings.L2)
        if state.averages is not None:
            average = _recall(state.averages, name, old)
            average = average + average_share(n_steps) * (new - average)
            state.averages[name] = average
            changed.append(average)
        weights[name] = new
        changed.append(new)
    # Evaluated here: another thread may read them next, and could not compute them.
    mx.eval(changed)


def _clip(gradient: mx.array, threshold: float) -> mx.array:
    norm = mx.linalg.norm(gradient)
    return gradient * mx.where(norm >= threshold, threshold / norm, 1.0)


def _recall(table: MutableMapping[str, Any], name: str, weights: mx.array) -> mx.array:
    """RETURNS (mx.array): What is remembered of a weight, in its shape."""
    if name not in table:
        return mx.zeros_like(weights)
    return table[name].reshape(weights.shape)


Stepped = Tuple[mx.array, mx.array, mx.array]


def _step_adam(
    weights: mx.array,
    gradient: mx.array,
    mom1: mx.array,
    mom2: mx.array,
    n_steps: int,
    learn_rate: float,
    settings: StepSettings,
) -> Stepped:
    """RETURNS (Tuple[mx.array, mx.array, mx.array]): The weights and the moments."""
    fix1, fix2 = 1 - settings.b1**n_steps, 1 - settings.b2**n_steps
    # Thinc's kernel rounds them to float32, which changes 1 - b2 by 1e-5 of its value.
    b1, b2 = float(np.float32(settings.b1)), float(np.float32(settings.b2))
    mom1 = b1 * mom1 + (1 - b1) * gradient
    mom2 = b2 * mom2 + (1 - b2) * gradient * gradient
    rate = learn_rate * fix2**0.5 / fix1
    return weights - rate * mom1 / (mx.sqrt(mom2) + settings.eps), mom1, mom2


def _step_radam(
    weights: mx.array,
    gradient: mx.array,
    mom1: mx.array,
    mom2: mx.array,
    n_steps: int,
    learn_rate: float,
    settings: StepSettings,
) -> Stepped:
    """RETURNS (Tuple[mx.array, mx.array, mx.array]): The weights and the moments."""
    b1, b2 = settings.b1, settings.b2
    mom1 = b1 * mom1 + (1 - b1) * gradient
    mom2 = b2 * mom2 + (1 - b2) * gradient * gradient
    scale, is_adaptive = radam_scale(n_steps, b1, b2)
    way = mom1 / (mx.sqrt(mom2) + settings.eps) if is_adaptive else mom1
    return weights - scale * learn_rate * way, mom1, mom2
