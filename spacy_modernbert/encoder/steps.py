"""What a training step needs: the rule, its numbers, and the optimizer's state.

The rules are those of `thinc.optimizers.Optimizer` (Adam, RAdam and SGD), which trains
the rest of a pipeline. Here are the numbers; the backends do the work on their arrays.
"""

import math
from dataclasses import dataclass
from typing import Any, MutableMapping, Optional, Tuple

import numpy as np

from ..errors import Errors


@dataclass(frozen=True)
class StepSettings:
    """The numbers of one step, the schedules of the optimizer already followed.

    learn_rate (float): The learning rate.
    b1 (float): Decay of the first moment. Plain SGD where it is 0, unless rectified.
    b2 (float): Decay of the second moment.
    eps (float): Added to the root of the second moment. That root is not corrected
        for its start at 0, so this is the "epsilon hat" of Kingma and Ba.
    L2 (float): Regularization.
    L2_is_weight_decay (bool): Whether it shrinks the weights after the step. If not,
        it is added to the gradient.
    grad_clip (float): The largest norm that the gradient of a weight may have; 0 for
        any.
    rectified (bool): RAdam (Liu et al. 2020, https://arxiv.org/abs/1908.03265).
    layer_lr_decay (float): See `lr_scale`.

    Invariants: `0 <= b1 < 1` and `0 <= b2 < 1` in single precision; with `b1 == 0`, so
    is `b2`, unless rectified.
    """

    learn_rate: float
    b1: float = 0.0
    b2: float = 0.0
    eps: float = 1e-8
    L2: float = 0.0
    L2_is_weight_decay: bool = True
    grad_clip: float = 0.0
    rectified: bool = False
    layer_lr_decay: float = 1.0

    def __post_init__(self) -> None:
        known = all(beta >= 0 and np.float32(beta) < 1 for beta in (self.b1, self.b2))
        if not known or (self.b1 == 0 < self.b2 and not self.rectified):
            raise ValueError(Errors.BAD_BETAS.format(beta1=self.b1, beta2=self.b2))

    @property
    def has_moments(self) -> bool:
        """RETURNS (bool): Whether moments are kept: in Adam and RAdam."""
        return self.rectified or (self.b1 > 0 and self.b2 > 0)


@dataclass(frozen=True)
class StepState:
    """What an optimizer remembers of an encoder's weights, by their names.

    n_steps (MutableMapping[str, int]): The steps that were taken.
    mom1, mom2 (MutableMapping[str, Any]): The moments, `(size of the weight,)`. Of an
        encoder on the CPU, NumPy arrays, as Thinc keeps them; else arrays of the
        backend on its device, which only the encoder knows how to use.
    averages (Optional[MutableMapping[str, Any]]): The running averages of the weights,
        likewise, in the weights' shapes; None if there are to be none.

    It belongs to an optimizer, and not to the encoder: a new one remembers nothing.
    """

    n_steps: MutableMapping[str, int]
    mom1: MutableMapping[str, Any]
    mom2: MutableMapping[str, Any]
    averages: Optional[MutableMapping[str, Any]]


def lr_scale(name: str, n_layers: int, decay: float) -> float:
    """What the learning rate of a weight is multiplied by, where lower layers learn
    more slowly.

    This is the formula of BEiT (Bao et al. 2022, https://arxiv.org/abs/2106.08254),
    which follows ELECTRA (Clark et al. 2020, https://arxiv.org/abs/2003.10555): `1`
    for what is above the layers, `decay ** (n_layers - i)` for layer `i` (from 0, so
    that the topmost has `decay`), and `decay ** (n_layers + 1)` for the embeddings.

    name (str): The weight's name.
    n_layers (int): The layers of the encoder.
    decay (float): Above 0 and at most 1, which lets all learn alike.
    RETURNS (float): The factor.
    """
    return decay ** (n_layers + 1 - _depth(name, n_layers))


def is_frozen(name: str, n_layers: int, frozen_layers: int) -> bool:
    """RETURNS (bool): Whether a weight is not trained: one of the lowest layers, or,
    if there are any such layers, of the embeddings.
    """
    return frozen_layers > 0 and _depth(name, n_layers) <= frozen_layers


def _depth(name: str, n_layers: int) -> int:
    """RETURNS (int): 0 for the embeddings, then 1 to `n_layers`, and one more."""
    room, _, rest = name.partition(".")
    if room == "layers":
        return int(rest.partition(".")[0]) + 1
    return 0 if room == "embeddings" else n_layers + 1


def radam_scale(n_steps: int, b1: float, b2: float) -> Tuple[float, bool]:
    """The step of RAdam. Thinc counts one step more than the paper does.

    n_steps (int): The steps taken, this one included.
    RETURNS (Tuple[float, bool]): What the learning rate is multiplied by, and whether
        the first moment is divided by the root of the second. In the first steps,
        when that is no good estimate yet, it is not.
    """
    step = n_steps + 1
    correction = 1 - b1**step
    b2_step = b2**step
    longest = 2 / (1 - b2) - 1
    length = longest - 2 * step * b2_step / (1 - b2_step)
    if length < 5:
        return 1 / correction, False
    rectification = (length - 4) / (longest - 4) * (length - 2) / (longest - 2)
    rectification *= longest / length
    return math.sqrt((1 - b2_step) * rectification) / correction, True


def average_share(n_steps: int) -> float:
    """RETURNS (float): The share that the weights have in their running average after
    so many steps. It starts at 9/11 and falls to 1/10,000.
    """
    return 1 - min((1 + n_steps) / (10 + n_steps), 0.9999)
