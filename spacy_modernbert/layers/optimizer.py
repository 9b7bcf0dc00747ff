"""Thinc's optimizer, and the steps that an encoder takes by it on its own device."""

import inspect
from typing import Any, Callable, Dict, Iterator, Mapping, MutableMapping, Tuple

from thinc.api import Optimizer

from ..encoder.protocol import Encoder
from ..encoder.steps import StepSettings, StepState, lr_scale


def step_encoder(
    encoder: Encoder, optimizer: Optimizer, owner: int, layer_lr_decay: float
) -> None:
    """Step every weight of an encoder that has a gradient.

    encoder (Encoder): The encoder.
    optimizer (Optimizer): Thinc's, or any callable that is used like it. Of Thinc's,
        only numbers are read, and the moments and averages are left on the encoder's
        device. Any other is called with NumPy arrays, and with `lr_scale` if lower
        layers are to learn more slowly and it takes such an argument. (The function
        with which `nlp.rehearse` gathers gradients does not, so that all layers are
        rehearsed at the same rate.)
    owner (int): The first part of the optimizer's keys; the second is the name of a
        weight.
    layer_lr_decay (float): See `encoder.steps.lr_scale`.
    """
    # Not a subclass, which may step in another way.
    if type(optimizer) is Optimizer:
        settings = read_settings(optimizer, layer_lr_decay)
        encoder.step(settings, state_of(optimizer, owner, encoder.device))
        return
    n_layers = encoder.config.num_hidden_layers
    scales = _takes_lr_scale(optimizer)

    def step(name: str, weights: Any, gradient: Any) -> Tuple[Any, Any]:
        scale = lr_scale(name, n_layers, layer_lr_decay)
        scaled = {"lr_scale": scale} if scales and scale != 1.0 else {}
        return optimizer((owner, name), weights, gradient, **scaled)

    encoder.update(step)


def _takes_lr_scale(optimizer: Callable[..., Any]) -> bool:
    parameters = inspect.signature(optimizer).parameters.values()
    return any(
        each.name == "lr_scale" or each.kind is each.VAR_KEYWORD for each in parameters
    )


def read_settings(optimizer: Optimizer, layer_lr_decay: float = 1.0) -> StepSettings:
    """RETURNS (StepSettings): The numbers of an optimizer, as its schedules have them
    now.
    """
    return StepSettings(
        learn_rate=float(optimizer.learn_rate),
        b1=float(optimizer.b1),
        b2=float(optimizer.b2),
        eps=float(optimizer.eps),
        L2=float(optimizer.L2),
        L2_is_weight_decay=optimizer.L2_is_weight_decay,
        grad_clip=float(optimizer.grad_clip or 0.0),
        rectified=optimizer.use_radam,
        layer_lr_decay=layer_lr_decay,
    )


def state_of(optimizer: Optimizer, owner: int, device: str) -> StepState:
    """What an optimizer remembers of an encoder. It is kept in the optimizer's own
    tables, so that it lives as long as the optimizer.

    The keys are Thinc's, `(owner, name)`, if the encoder is on the CPU. What is on
    another device has keys of its own, `(owner, "name@device")`: Thinc, which knows
    arrays on the host only, may be asked to step the same weight, as `nlp.rehearse`
    does.

    optimizer (Optimizer): The optimizer.
    owner (int): The first part of the optimizer's keys.
    device (str): The encoder's device.
    RETURNS (StepState): Views of the tables, by the names of the weights.
    """
    averages = optimizer.averages
    return StepState(
        n_steps=_Owned(optimizer.nr_update, owner, device),
        mom1=_Owned(optimizer.mom1, owner, device),
        mom2=_Owned(optimizer.mom2, owner, device),
        averages=None if averages is None else _Owned(averages, owner, device),
    )


def find_params(
    params: Mapping[Any, Any], owner: int, encoder: Encoder
) -> Dict[str, Any]:
    """The weights of an encoder among some parameters, such as the averages that an
    optimizer keeps.

    params (Mapping[Any, Any]): By the optimizer's keys.
    owner (int): The first part of the keys.
    encoder (Encoder): The encoder. What is on its device is preferred.
    RETURNS (Dict[str, Any]): Those that there are, by name.
    """
    here = _Owned(params, owner, encoder.device)
    on_host = _Owned(params, owner, "cpu")
    found = {}
    for name in encoder.tensors():
        for table in (here, on_host):
            if name in table:
                found[name] = table[name]
                break
    return found


class _Owned(MutableMapping[str, Any]):
    def __init__(self, table: Any, owner: int, device: str):
        self._table = table
        self._owner = owner
        self._suffix = "" if device == "cpu" else f"@{device}"

    def __getitem__(self, name: str) -> Any:
        return self._table[self._owner, name + self._suffix]

    def __setitem__(self, name: str, value: Any) -> None:
        self._table[self._owner, name + self._suffix] = value

    def __delitem__(self, name: str) -> None:
        del self._table[self._owner, name + self._suffix]

    def __contains__(self, name: Any) -> bool:
        # Asking a defaultdict for what is not there would put it there.
        return (self._owner, name + self._suffix) in self._table

    def __iter__(self) -> Iterator[str]:
        for owner, name in self._table:
            own_name, at, device = name.partition("@")
            if owner == self._owner and at + device == self._suffix:
                yield own_name

    def __len__(self) -> int:
        return sum(1 for _ in self)
