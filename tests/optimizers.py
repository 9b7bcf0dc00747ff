"""Optimizers of Thinc of every kind, and steps to compare with its own."""

from typing import Any, Callable, Dict, List, Mapping, Tuple

import numpy as np
from thinc.api import SGD, Adam, Optimizer, RAdam

from spacy_modernbert.encoder.protocol import Encoder
from spacy_modernbert.layers.optimizer import step_encoder
from spacy_modernbert.types import PackedBatch

from .util import gradients_of

OWNER = 7
STEPS = 16  # after six, RAdam begins to look at how gradients vary


class Foreign:
    """An optimizer that is used like Thinc's, but is none of its own kind."""

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer

    def __call__(self, key: Any, weights: Any, gradient: Any, **scale: float) -> Any:
        return self.optimizer(key, weights, gradient, **scale)


def falling(first: float) -> List[float]:
    """RETURNS (List[float]): It falls for half of the steps, and then stays."""
    return [first * 0.97**i for i in range(STEPS // 2)]


OPTIMIZERS: Dict[str, Callable[[], Optimizer]] = {
    "adam": lambda: Adam(0.01, use_averages=False),
    "no clipping": lambda: Adam(0.01, grad_clip=0.0, use_averages=False),
    "clipping": lambda: Adam(0.01, grad_clip=0.05, use_averages=False),
    "weight decay": lambda: Adam(0.01, L2=0.1, use_averages=False),
    "L2": lambda: Adam(0.01, L2=0.1, L2_is_weight_decay=False, use_averages=False),
    "L2, clipping, averages": lambda: Adam(
        0.01, L2=0.1, L2_is_weight_decay=False, grad_clip=0.05
    ),
    "averages": lambda: Adam(0.01, use_averages=True),
    "betas": lambda: Adam(0.01, beta1=0.5, beta2=0.9, eps=0.001),
    "schedules": lambda: Adam(
        falling(0.02),
        beta1=falling(0.9),
        beta2=falling(0.999),
        eps=falling(1e-3),
        L2=falling(0.2),
        grad_clip=falling(0.5),
    ),
    "radam": lambda: RAdam(0.01, L2=0.01),
    "sgd": lambda: SGD(0.1, L2=0.01, use_averages=True),
    "sgd, L2": lambda: SGD(0.1, L2=0.01, L2_is_weight_decay=False, grad_clip=0.3),
    "sgd with momentum alone": lambda: Optimizer(0.1, beta1=0.9, beta2=0.0),
}


def draw_pass(encoder: Encoder, rng: np.random.Generator) -> Tuple[PackedBatch, Any]:
    """RETURNS (Tuple[PackedBatch, np.ndarray]): Two sequences, and a gradient of their
    hidden states, of any size.
    """
    ids = rng.integers(4, encoder.config.vocab_size, 48)
    batch = PackedBatch(ids, np.array([0, 20, 48], np.int32))
    d_out = rng.standard_normal((48, encoder.config.hidden_size)).astype(np.float32)
    return batch, d_out / np.float32(rng.integers(1, 100))


def give_gradient(encoder: Encoder, rng: np.random.Generator) -> None:
    """Let an encoder gather the gradient of one pass."""
    batch, d_out = draw_pass(encoder, rng)
    _, backprop = encoder.encode_train(batch)
    backprop(d_out)


def copied(tensors: Mapping[str, Any]) -> Dict[str, np.ndarray]:
    """RETURNS (Dict[str, np.ndarray]): Tensors that no step of the encoder changes."""
    return {name: np.array(tensor) for name, tensor in tensors.items()}


def assert_near(found: Any, wanted: np.ndarray, name: object) -> None:
    """Within 5e-6 of the largest value."""
    error = np.abs(np.array(found) - wanted).max() / np.abs(wanted).max()
    assert error <= 5e-6, f"{name}: off by {error}"


def follow_thinc(
    encoder: Encoder, kind: str, steps: int = STEPS
) -> Tuple[Optimizer, Optimizer]:
    """Let an encoder take steps, and Thinc's optimizer the same steps on NumPy arrays.
    Its weights are to become what these become.

    RETURNS (Tuple[Optimizer, Optimizer]): The optimizer of the encoder, and that of the
        arrays.
    """
    found, wanted = OPTIMIZERS[kind](), OPTIMIZERS[kind]()
    rng = np.random.default_rng(0)
    weights = copied(encoder.tensors())
    for _ in range(steps):
        give_gradient(encoder, rng)
        for name, gradient in gradients_of(encoder).items():
            weights[name], _ = wanted((OWNER, name), weights[name], gradient)
        step_encoder(encoder, found, OWNER, layer_lr_decay=1.0)
        for optimizer in (found, wanted):
            optimizer.step_schedules()
    for name, tensor in encoder.tensors().items():
        assert_near(tensor, weights[name], name)
    return found, wanted
