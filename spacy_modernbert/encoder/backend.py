"""The Encoder protocol, and the switch that picks one."""

import os
from typing import TYPE_CHECKING, Any, Callable, Mapping, Protocol, Tuple, Union

import numpy as np
import numpy.typing as npt

from ..errors import Errors
from ..types import PackedBatch
from .config import ModernBertConfig
from .steps import StepSettings, StepState

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.floating]

BACKENDS = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("auto", "float32")

# Overrides the `backend` of a config, so that a pipeline opens on another machine
# with no word of it changed.
BACKEND_VARIABLE = "SPACY_MODERNBERT_BACKEND"


class Encoder(Protocol):
    """ModernBERT on some device. What goes in and comes out is NumPy."""

    @property
    def config(self) -> ModernBertConfig:
        """RETURNS (ModernBertConfig): The config."""

    @property
    def device(self) -> str:
        """RETURNS (str): Where it runs: "cpu", "cuda:0", "mps"."""

    def encode(self, batch: PackedBatch) -> Floats:
        """RETURNS (Floats): The last hidden state, `(total, width)` float32."""

    def encode_train(
        self, batch: PackedBatch
    ) -> Tuple[Floats, Callable[[Floats], None]]:
        """RETURNS (Tuple[Floats, Callable[[Floats], None]]): The last hidden state,
        `(total, width)` float32, and a function that takes the gradient with respect
        to it and adds the weights' gradients to those gathered so far.
        """

    def step(self, settings: StepSettings, state: StepState) -> None:
        """Step every weight that has a gradient, without leaving the device, and
        forget the gradients. The arrays in the state are the encoder's own.
        """

    def update(self, optimizer: Callable[..., Tuple[Floats, Floats]]) -> None:
        """The same by an optimizer of any other kind, through NumPy:
        `optimizer(name, weights, gradient)` returns the new weights and the gradient.
        """

    def copy(self, others: Mapping[str, Any]) -> "Encoder":
        """RETURNS (Encoder): A copy on the same device, in which some weights are
        replaced by others: NumPy's, or arrays of a `StepState`.
        """

    def tensors(self) -> Mapping[str, Floats]:
        """RETURNS (Mapping[str, Floats]): The weights, by the names that they have in
        transformers' `ModernBertModel`, whatever the backend.
        """

    def gradients(self) -> Mapping[str, Floats]:
        """RETURNS (Mapping[str, Floats]): The gradients gathered so far, likewise."""


def check_backend(backend: str) -> str:
    """RETURNS (str): The backend.
    RAISES (ValueError): If there is none of that name.
    """
    if backend not in BACKENDS:
        raise ValueError(
            Errors.UNKNOWN_BACKEND.format(value=backend, known=", ".join(BACKENDS))
        )
    return backend


def check_precision(precision: str) -> str:
    """RETURNS (str): The precision.
    RAISES (ValueError): If there is none of that name.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            Errors.UNKNOWN_PRECISION.format(
                value=precision, known=", ".join(PRECISIONS)
            )
        )
    return precision


def make_encoder(
    config: ModernBertConfig,
    tensors: Mapping[str, Floats],
    *,
    backend: str = "auto",
    precision: str = "auto",
    gradient_checkpointing: Union[bool, str] = "auto",
    frozen_layers: int = 0,
) -> Encoder:
    """An encoder on the device that the backend names.

    config (ModernBertConfig): The config.
    tensors (Mapping[str, Floats]): The weights. They are copied, one at a time.
    backend (str): "auto" (CUDA where there is one, else Apple's GPU, else CPU), "cuda",
        "mps" or "cpu". The environment variable `SPACY_MODERNBERT_BACKEND` wins.
    precision (str): "auto" or "float32", which are the same today.
    gradient_checkpointing (Union[bool, str]): True, False or "auto".
    frozen_layers (int): The lowest so many layers, and with any of them the
        embeddings, are not trained.
    RETURNS (Encoder): The encoder.
    RAISES (ValueError): If a name is unknown, the device is not there, or more layers
        are to be frozen than there are.
    """
    from .torch_encoder import TorchEncoder

    check_precision(precision)
    if frozen_layers > config.num_hidden_layers:
        raise ValueError(
            Errors.TOO_MANY_FROZEN.format(
                value=frozen_layers, n_layers=config.num_hidden_layers
            )
        )
    return TorchEncoder(
        config,
        tensors,
        device=_find_device(os.environ.get(BACKEND_VARIABLE) or backend),
        gradient_checkpointing=gradient_checkpointing,
        frozen_layers=frozen_layers,
    )


def _find_device(backend: str) -> "torch.device":
    # From torch itself and never from Thinc's ops: without CuPy those know no GPU.
    import torch

    check_backend(backend)
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if backend == "auto":
        backend = "cuda" if cuda else "mps" if mps else "cpu"
    if (backend == "cuda" and not cuda) or (backend == "mps" and not mps):
        raise ValueError(
            Errors.BACKEND_UNAVAILABLE.format(value=backend, torch=torch.__version__)
        )
    return torch.device("cuda", 0) if backend == "cuda" else torch.device(backend)
