"""What every encoder can do, whatever it runs on."""

from typing import Any, Callable, Mapping, Protocol, Tuple

from ..types import Floats, PackedBatch, TokenRows
from .config import ModernBertConfig
from .steps import StepSettings, StepState


class EncoderOutOfMemory(MemoryError):
    """The device has too little memory.

    If it was a pass that ran out, what it had computed is freed; the weights, and the
    gradients gathered before it, are unchanged. So a smaller batch may be tried.

    may_fit (bool): Whether the same batch may fit now. A library beside torch found too
        little memory, while torch held some for later, which is free now.
    """

    def __init__(self, message: str, *, may_fit: bool = False):
        super().__init__(message)
        self.may_fit = may_fit


class Encoder(Protocol):
    """ModernBERT on some device. What goes in and comes out is NumPy."""

    @property
    def config(self) -> ModernBertConfig:
        """RETURNS (ModernBertConfig): The config."""

    @property
    def device(self) -> str:
        """RETURNS (str): Where it runs: "cpu", "cuda:0", "mps", "mlx:gpu",
        "openvino:CPU", "onnx:CPUExecutionProvider".
        """

    @property
    def can_train(self) -> bool:
        """RETURNS (bool): Whether it can train. What cannot raises ValueError in
        `encode_train`, `step` and `update`, and has no gradients.
        """

    @property
    def has_gradients(self) -> bool:
        """RETURNS (bool): Whether any weight has a gradient to be stepped by."""

    def encode(self, batch: PackedBatch) -> Floats:
        """RETURNS (Floats): The last hidden state, `(total, width)` float32.
        RAISES (EncoderOutOfMemory): If the batch is too large for the device, with
            torch or MLX. So do `encode_train` and the function that it returns.
        """

    def encode_tokens(self, batch: PackedBatch, rows: TokenRows) -> Floats:
        """RETURNS (Floats): The mean of each token's rows in the last hidden state,
        `(n_tokens, width)` float32; zeros for a token that has none. Computed where
        the hidden state is, so that nothing else leaves the device. `pool_means` of
        `encoder.pooling` does it in NumPy.
        RAISES (EncoderOutOfMemory): As `encode`.
        """

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
        transformers' `ModernBertModel`, whatever the backend. If the encoder has some
        of them quantized, `quantize.QuantizedTensors`.
        """
