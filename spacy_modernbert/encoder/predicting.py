"""What the encoders that predict only have in common: OpenVINO and ONNX Runtime."""

from abc import ABC, abstractmethod
from typing import Any, Callable, Mapping, NoReturn, Optional, Tuple

import numpy as np
import numpy.typing as npt

from ..errors import Errors
from ..types import PackedBatch, TokenRows
from .pooling import pool_means
from .steps import StepSettings, StepState

Floats = npt.NDArray[np.floating]


class PredictingEncoder(ABC):
    """An encoder that pools on the host and does not train. See `backend.Encoder`.

    backend (str): Its name in a config.
    """

    backend: str
    can_train = False

    @abstractmethod
    def encode(self, batch: PackedBatch) -> Floats:
        """RETURNS (Floats): The last hidden state, `(total, width)` float32."""

    def encode_tokens(self, batch: PackedBatch, rows: TokenRows) -> Floats:
        """The mean of each token's rows in the last hidden state.

        batch (PackedBatch): The sequences.
        rows (TokenRows): The rows of each token.
        RETURNS (Floats): `(n_tokens, width)` float32; zeros for a token without rows.
        """
        return pool_means(self.encode(batch), rows)

    def encode_train(
        self, batch: PackedBatch
    ) -> Tuple[Floats, Callable[[Floats], None]]:
        """RAISES (ValueError): Always."""
        self._refuse_to_train()

    def step(self, settings: StepSettings, state: StepState) -> None:
        """RAISES (ValueError): Always."""
        self._refuse_to_train()

    def update(self, optimizer: Callable[..., Tuple[Floats, Floats]]) -> None:
        """RAISES (ValueError): Always."""
        self._refuse_to_train()

    def gradients(self) -> Mapping[str, Floats]:
        """RETURNS (Mapping[str, Floats]): Nothing: there are none."""
        return {}

    def _refuse_to_train(self) -> NoReturn:
        raise ValueError(Errors.BACKEND_CANNOT_TRAIN.format(value=self.backend))


def is_8_bit(quantization: Optional[Mapping[str, Any]], backend: str) -> bool:
    """Whether to multiply in 8 bits, which is the one quantization that there is.

    quantization (Optional[Mapping[str, Any]]): None, or `{"bits": 8}`.
    backend (str): The name of the backend.
    RETURNS (bool): Whether.
    RAISES (ValueError): If it is to be another.
    """
    if quantization is None:
        return False
    if dict(quantization) != {"bits": 8}:
        raise ValueError(
            Errors.QUANTIZATION_UNAVAILABLE.format(
                backend=backend, value=dict(quantization), known="null or {'bits': 8}"
            )
        )
    return True
