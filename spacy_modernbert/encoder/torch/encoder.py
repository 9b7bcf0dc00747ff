"""The Encoder in torch: CPU, CUDA and MPS.

The oracle for the numbers is transformers' `ModernBertModel`.
"""

import threading
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from typing import (
    Any,
    Callable,
    ContextManager,
    Iterator,
    Mapping,
    Optional,
    Tuple,
    Union,
)

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import Errors
from ...types import Floats, PackedBatch, TokenRows
from ..config import ModernBertConfig
from ..pooling import pool_means
from ..steps import StepSettings, StepState, is_frozen
from ..tensor_files import OnDemand
from .attention import AttentionPlan, plan_attention
from .checkpointing import recomputes
from .flash import FlashAttention, find_flash_attention
from .fused import forward_fused
from .kernels import why_no_kernels
from .model import ModernBert
from .out_of_memory import bound_cache, watch_memory
from .projection import Projection, cast
from .quantized_linear import quantize
from .shapes import counts_shapes, round_batch
from .steps import take_step
from .transfer import to_device, to_host

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

# How large an array of a pass on the CPU should be at most, where sequences allow it.
_LARGE_BYTES = 24 << 20


class TorchEncoder:
    """ModernBERT on a torch device. See `protocol.Encoder`.

    Weights are kept, stepped and given in float32.
    """

    def __init__(
        self,
        config: ModernBertConfig,
        tensors: Mapping[str, Any],
        *,
        device: torch.device,
        precision: str = "float32",
        quantization: Optional[Mapping[str, Any]] = None,
        gradient_checkpointing: Union[bool, str] = "auto",
        frozen_layers: int = 0,
    ):
        """config (ModernBertConfig): The config.
        tensors (Mapping[str, Any]): The weights, NumPy's or torch's, each read once and
            one at a time, so that loading holds one tensor more than the weights.
        device (torch.device): Where to run.
        precision (str): "float32", "bfloat16" or "float16": what matrices and
            attention are computed in. With float16 it can only predict: gradients
            are often too small for it.
        quantization (Optional[Mapping[str, Any]]): None, or on CPU `{"bits": 8}`, with
            which it can only predict.
        gradient_checkpointing (Union[bool, str]): True, False, or "auto": where a
            pass would keep more activations than 2 GiB or, on CUDA, than half of the
            memory that is free.
        frozen_layers (int): How many of the lowest layers are not trained, at most all.
            If there are any, the embeddings are not trained either. What is frozen gets
            no gradient, and nothing is kept for one.
        """
        self.config = config
        self.can_train = precision != "float16" and quantization is None
        self.device = str(device)
        self._device = device
        self._precision = precision
        self._quantization = quantization
        self._checkpointing = gradient_checkpointing
        self._dtype = dtype = _DTYPES[precision]
        self._rounds = counts_shapes(device, dtype, quantization is not None)
        self._flash = self._find_flash(to_train=False)
        project = partial(
            Projection, dtype=dtype, prepare=cast if quantization is None else quantize
        )
        with torch.device("meta"):
            self._model = ModernBert(config, frozen_layers, project)
        # Copies: the optimizer writes into the weights, and may not write into a file
        # that is mapped or into the weights of another encoder.
        names = [name for name, _ in self._model.named_parameters()]
        weights = {name: _copied(tensors[name], device) for name in names}
        self._model.load_state_dict(weights, assign=True)
        for name, parameter in self._model.named_parameters():
            frozen = is_frozen(name, config.num_hidden_layers, frozen_layers)
            parameter.requires_grad_(not frozen)
        self._model.eval()
        with _current(device):
            self._model.prepare()
        is_fused = device.type == "cuda" and not why_no_kernels()
        self._forward: Callable[[Tensor, AttentionPlan], Tensor] = (
            partial(forward_fused, self._model) if is_fused else self._model
        )

    def encode(self, batch: PackedBatch) -> Floats:
        """The last hidden state.

        batch (PackedBatch): The sequences.
        RETURNS (Floats): `(total, width)` float32.
        RAISES (EncoderOutOfMemory): If the batch is too large for the device.
        """
        if batch.total == 0:
            return np.zeros((0, self.config.hidden_size), dtype=np.float32)
        with self._passing(batch), torch.inference_mode():
            return to_host(self._predict(batch))

    def encode_tokens(self, batch: PackedBatch, rows: TokenRows) -> Floats:
        """The mean of each token's rows in the last hidden state.

        batch (PackedBatch): The sequences.
        rows (TokenRows): The rows of each token.
        RETURNS (Floats): `(n_tokens, width)` float32; zeros for a token without rows.
        RAISES (EncoderOutOfMemory): As `encode`.
        """
        # MPS has embedding_bag only since torch 2.10, and shares its memory anyway.
        if batch.total == 0 or self._device.type == "mps":
            return pool_means(self.encode(batch), rows)
        with self._passing(batch), torch.inference_mode():
            hidden = self._predict(batch)
            index, starts = (
                to_device(array, self._device).long()
                for array in (rows.rows, rows.starts)
            )
            return to_host(F.embedding_bag(index, hidden, starts, mode="mean"))

    def encode_train(
        self, batch: PackedBatch
    ) -> Tuple[Floats, Callable[[Floats], None]]:
        """The last hidden state, and the backward pass.

        batch (PackedBatch): The sequences.
        RETURNS (Tuple[Floats, Callable[[Floats], None]]): `(total, width)` float32, and
            a function that takes the gradient of the loss with respect to it, of the
            same shape, and adds the weights' gradients to those gathered so far.
        RAISES (ValueError): If the encoder cannot train.
        RAISES (EncoderOutOfMemory): As `encode`. So does the function that is returned.
        """
        self._check_training()
        if batch.total == 0:
            return self.encode(batch), lambda d_hidden: None
        with self._passing(batch), self._dropping_out(), torch.enable_grad():
            # Flash attention as torch has it drops nothing out.
            drops_out = self.config.attention_dropout > 0
            kernel = None if drops_out else self._flash_to_train
            ids, plan = self._place(batch, kernel)
            n_trained = self.config.num_hidden_layers - self._model.frozen_layers
            recompute = recomputes(
                self._checkpointing,
                self.config,
                self._device,
                self._dtype,
                n_trained,
                batch.total,
            )
            hidden = self._model(ids, plan, recompute)[: batch.total]
            output = to_host(hidden.detach())

        def backprop(d_hidden: Floats) -> None:
            gradient = np.ascontiguousarray(d_hidden, np.float32)
            # The layers that are recomputed drop out as they did before.
            with (
                self._passing(batch),
                self._restoring_gradients(),
                self._dropping_out(),
            ):
                hidden.backward(to_device(gradient, self._device))

        return output, backprop

    @property
    def has_gradients(self) -> bool:
        """RETURNS (bool): Whether any weight has a gradient."""
        return any(each.grad is not None for each in self._model.parameters())

    def step(self, settings: StepSettings, state: StepState) -> None:
        """Step every weight that has a gradient, on the device, and forget the
        gradients.

        settings (StepSettings): The rule and its numbers.
        state (StepState): What was remembered of the steps before. Updated.
        RAISES (EncoderOutOfMemory): If there is too little memory for what is to be
            remembered. Then no step was taken, and the gradients are still there.
        """
        self._check_training()
        n_layers = self.config.num_hidden_layers
        message = Errors.STEP_OUT_OF_MEMORY.format(device=self._device)
        try:
            with _current(self._device), watch_memory(self._device, message):
                take_step(self._model.named_parameters(), n_layers, settings, state)
        finally:
            # Some have changed even if the step was interrupted.
            self._model.weights_changed()

    def update(self, optimizer: Callable[..., Tuple[Floats, Floats]]) -> None:
        """Step every weight that has a gradient by NumPy arrays, and forget the
        gradients.

        optimizer (Callable): Called for each as `optimizer(name, weights, gradient)`,
            all float32 NumPy arrays. It returns the new weights and the gradient.
        """
        self._check_training()
        try:
            with _current(self._device):
                self._update_each(optimizer)
        finally:
            self._model.weights_changed()

    def copy(self, others: Mapping[str, Any]) -> "TorchEncoder":
        """Copy the encoder on its device. Gradients are not copied.

        others (Mapping[str, Any]): Weights to take in the place of its own, by name:
            NumPy's, or torch's on any device.
        RETURNS (TorchEncoder): The copy.
        """
        return TorchEncoder(
            self.config,
            {**dict(self._model.named_parameters()), **others},
            device=self._device,
            precision=self._precision,
            quantization=self._quantization,
            gradient_checkpointing=self._checkpointing,
            frozen_layers=self._model.frozen_layers,
        )

    def tensors(self) -> Mapping[str, Floats]:
        """RETURNS (Mapping[str, Floats]): The weights by their names in a checkpoint,
        read when asked for. On CPU they are views of the weights.
        """
        parameters = dict(self._model.named_parameters())

        def copy_to_host(name: str) -> Floats:
            with _current(self._device):
                return parameters[name].detach().cpu().numpy()

        return OnDemand(parameters, copy_to_host)

    @contextmanager
    def _passing(self, batch: PackedBatch) -> Iterator[None]:
        message = Errors.DEVICE_OUT_OF_MEMORY.format(
            device=self._device, total=batch.total, n_seqs=batch.n_seqs
        )
        with _current(self._device), watch_memory(self._device, message):
            yield
            bound_cache(self._device)

    @contextmanager
    def _dropping_out(self) -> Iterator[None]:
        self._model.train()
        try:
            yield
        finally:
            self._model.eval()

    @contextmanager
    def _restoring_gradients(self) -> Iterator[None]:
        """Add to the gradients all of a pass or, if it fails half-way, nothing."""
        parameters = list(self._model.parameters())
        before = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        try:
            yield
        except BaseException:
            for parameter, gradient in zip(parameters, before, strict=True):
                parameter.grad = gradient
            raise
        for parameter, gradient in zip(parameters, before, strict=True):
            if gradient is not None:
                parameter.grad = _add(gradient, parameter.grad)

    def _update_each(self, optimizer: Callable[..., Tuple[Floats, Floats]]) -> None:
        for name, parameter in self._model.named_parameters():
            if parameter.grad is None:
                continue
            # On CPU these are views: the step is taken in place.
            weights = parameter.detach().cpu().numpy()
            stepped, _ = optimizer(name, weights, parameter.grad.cpu().numpy())
            if stepped is not weights or self._device.type != "cpu":
                with torch.no_grad():
                    parameter.copy_(torch.from_numpy(np.asarray(stepped)))
            parameter.grad = None

    def _check_training(self) -> None:
        if self._quantization is not None:
            raise ValueError(
                Errors.QUANTIZED_CANNOT_TRAIN.format(value=self._quantization)
            )
        if not self.can_train:
            raise ValueError(
                Errors.PRECISION_CANNOT_TRAIN.format(value=self._precision)
            )

    @cached_property
    def _flash_to_train(self) -> Optional[FlashAttention]:
        # Only where it trains: to import torch's own takes seconds.
        return self._find_flash(to_train=True)

    def _find_flash(self, *, to_train: bool) -> Optional[FlashAttention]:
        dtype, head_dim = self._dtype, self.config.head_dim
        return find_flash_attention(self._device, dtype, head_dim, to_train=to_train)

    def _predict(self, batch: PackedBatch) -> Tensor:
        """RETURNS (Tensor): `(total, width)`, the last hidden state, on the device."""
        if self._device.type != "cpu":
            return self._forward(*self._place(batch, self._flash))
        # More rows at a time are no faster, and for larger arrays the system has to
        # provide new pages each time.
        parts = batch.parts(_rows_at_a_time(self.config))
        outputs = [
            self._forward(*self._place(part, self._flash))[: part.total]
            for part in parts
        ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _place(
        self, batch: PackedBatch, kernel: Optional[FlashAttention]
    ) -> Tuple[Tensor, AttentionPlan]:
        """RETURNS (Tuple[Tensor, AttentionPlan]): The ids and their plan, maybe with a
        filler sequence at the end (`round_batch`).
        """
        if self._rounds:
            batch = round_batch(batch)
        ids = to_device(batch.ids.astype(np.int64, copy=False), self._device)
        return ids, plan_attention(batch, self.config, self._device, kernel)


# Torch has one stream of commands on MPS, and two threads that write to it at a time
# can crash the process (https://github.com/pytorch/pytorch/issues/197805).
_MPS = threading.RLock()


def _current(device: torch.device) -> ContextManager[Any]:
    """RETURNS (ContextManager): Makes a GPU the current one of this thread, since
    Triton launches kernels there, wherever their arguments are. On MPS, has other
    threads wait.
    """
    if device.type == "mps":
        return _MPS
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _rows_at_a_time(config: ModernBertConfig) -> int:
    """RETURNS (int): How many wordpieces are best computed at a time on the CPU."""
    widest = max(3 * config.hidden_size, 2 * config.intermediate_size)
    return max(256, _LARGE_BYTES // (4 * widest))


def _add(gathered: Tensor, gradient: Optional[Tensor]) -> Tensor:
    return gathered if gradient is None else gathered.add_(gradient)


def _copied(weights: Any, device: torch.device) -> Tensor:
    with _current(device):
        if isinstance(weights, Tensor):
            return weights.detach().to(device, torch.float32, copy=True)
        return torch.from_numpy(np.array(weights, dtype=np.float32)).to(device)
