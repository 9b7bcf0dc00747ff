"""The Encoder in MLX: Metal, and MLX's builds for CPU and CUDA."""

import os
import random
import threading
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import mlx.core as mx
import numpy as np

from ...errors import Errors
from ...types import Floats, PackedBatch, TokenRows
from ..config import ModernBertConfig
from ..pooling import pool_means
from ..protocol import EncoderOutOfMemory
from ..quantize import (
    DEFAULT_GROUP_SIZE,
    QuantizedTensor,
    QuantizedTensors,
    Scheme,
    choose_schemes,
    part_names,
)
from ..steps import StepSettings, StepState
from ..tensor_files import OnDemand, Shape
from ..weights import expected_shapes
from .model import Dropout, Weights, embed, norm, plan_attention, run_layer, within
from .steps import take_step

_DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}

# MLX keeps the memory that it frees for arrays of the same size. Documents have all
# sizes, so that without a bound it keeps more and more.
_CACHE_BYTES = 1 << 30

# What MLX says of memory that is short, with Metal (of an array, and of commands that
# cannot be run) and with CUDA.
_OUT_OF_MEMORY = (
    "[metal::malloc]",
    "OutOfMemory",
    "Unable to allocate",
    "out of memory",
)


@dataclass(frozen=True)
class Part:
    """A part of the encoder: the embeddings, a layer, or the final norm.

    path (str): Where its weights are.
    run (Callable[[Weights, mx.array], mx.array]): Computes, from its weights and what
        enters it, what enters the next part.
    """

    path: str
    run: Callable[[Weights, mx.array], mx.array]


class MLXEncoder:
    """ModernBERT on MLX's default device. See `protocol.Encoder`.

    Arrays that outlive a call are evaluated: in MLX, only the thread that has made an
    array can compute it, while any may read one that is computed.
    """

    def __init__(
        self,
        config: ModernBertConfig,
        tensors: Mapping[str, Any],
        *,
        precision: str = "float32",
        quantization: Optional[Mapping[str, Any]] = None,
        frozen_layers: int = 0,
    ):
        """config (ModernBertConfig): The config.
        tensors (Mapping[str, Any]): The weights, NumPy's or MLX's, each read once. If
            they are `QuantizedTensors`, those that are quantized stay as they are
            unless `quantization` asks for others.
        precision (str): "float32", "bfloat16" or "float16": what is computed in. The
            weights that are trained and saved are float32 in any case. As for the
            quantization, `make_encoder` checks it.
        quantization (Optional[Mapping[str, Any]]): `{"bits": 8, "group_size": 64}`, to
            quantize weights that are not yet, or in another way; None to take all as
            they are.
        frozen_layers (int): How many of the lowest layers are not trained, at most all.
            If there are any, the embeddings are not trained either. What is frozen gets
            no gradient, and nothing is kept for one.
        RAISES (ValueError): If no weight can be quantized in groups of that size.
        """
        self.config = config
        self.device = f"mlx:{mx.default_device().type.name}"
        self._precision = precision
        self._dtype = _DTYPES[precision]
        self._quantization = quantization
        self._frozen_layers = frozen_layers
        self._shapes = expected_shapes(config)
        found = tensors.schemes if isinstance(tensors, QuantizedTensors) else {}
        self._schemes = _choose_schemes(self._shapes, found, quantization)
        self._weights: Dict[str, mx.array] = {}
        for name in self._shapes:
            self._weights.update(_place(name, tensors, self._schemes.get(name)))
        self._lowered: Optional[Dict[str, mx.array]] = None
        self._gradients: Dict[str, mx.array] = {}
        # Training is for one thread at a time.
        self._training = threading.Lock()

    @property
    def can_train(self) -> bool:
        """RETURNS (bool): Whether it can train: not if weights are quantized."""
        return not self._schemes

    def encode(self, batch: PackedBatch) -> Floats:
        """The last hidden state.

        batch (PackedBatch): The sequences.
        RETURNS (Floats): `(total, width)` float32.
        RAISES (EncoderOutOfMemory): If the batch is too large for the device.
        RAISES (RuntimeError): If MLX computes on a GPU, and this process was forked
            after MLX had been imported.
        """
        if batch.total == 0:
            return np.zeros((0, self.config.hidden_size), np.float32)
        _check_not_forked()
        with self._watch_memory(batch):
            weights = self._lower_weights()
            x = mx.array(batch.ids.astype(np.int32))
            for part in self._find_parts(batch):
                x = part.run(within(weights, part.path), x)
            # Evaluated here, once.
            hidden = _to_numpy(x)
        _bound_cache()
        return hidden

    def encode_tokens(self, batch: PackedBatch, rows: TokenRows) -> Floats:
        """The mean of each token's rows in the last hidden state.

        batch (PackedBatch): The sequences.
        rows (TokenRows): The rows of each token.
        RETURNS (Floats): `(n_tokens, width)` float32; zeros for a token without rows.
        RAISES (EncoderOutOfMemory, RuntimeError): As `encode`.
        """
        return pool_means(self.encode(batch), rows)

    def encode_train(
        self, batch: PackedBatch
    ) -> Tuple[Floats, Callable[[Floats], None]]:
        """The last hidden state, and the backward pass.

        A pass keeps only what enters each part that is trained. The backward pass
        recomputes the parts one after the other. `mx.vjp` would do so in any case,
        since it takes the gradient of the output together with the inputs. So this is
        gradient checkpointing, and costs no more than doing without.

        batch (PackedBatch): The sequences.
        RETURNS (Tuple[Floats, Callable[[Floats], None]]): `(total, width)` float32, and
            a function that takes the gradient of the loss with respect to it, of the
            same shape, and adds the weights' gradients to those gathered so far.
        RAISES (ValueError): If weights are quantized.
        RAISES (EncoderOutOfMemory): As `encode`. So does the function that is returned.
        RAISES (RuntimeError): As `encode`.
        """
        self._check_trains()
        if batch.total == 0:
            return self.encode(batch), lambda d_hidden: None
        _check_not_forked()
        n_frozen = self._frozen_layers + 1 if self._frozen_layers else 0
        entered = []
        with self._watch_memory(batch):
            weights = self._lower_weights()
            parts = self._find_parts(batch, self._draw_key())
            x = mx.array(batch.ids.astype(np.int32))
            for depth, part in enumerate(parts):
                if depth >= n_frozen:
                    entered.append(x)
                x = part.run(within(weights, part.path), x)
            mx.eval(entered, x)
        trained = list(zip(parts[n_frozen:], entered, strict=True))

        def backprop(d_hidden: Floats) -> None:
            with self._training, self._watch_memory(batch):
                self._go_back(trained, np.ascontiguousarray(d_hidden, np.float32))

        return _to_numpy(x), backprop

    @property
    def has_gradients(self) -> bool:
        """RETURNS (bool): Whether any weight has a gradient."""
        return bool(self._gradients)

    def step(self, settings: StepSettings, state: StepState) -> None:
        """Step every weight that has a gradient, on the device, and forget the
        gradients.

        settings (StepSettings): The rule and its numbers.
        state (StepState): What was remembered of the steps before. Updated.
        RAISES (ValueError): If weights are quantized.
        """
        self._check_trains()
        with self._training:
            # First: MLX reuses the memory of old weights that nothing else refers to.
            self._lowered = None
            n_layers = self.config.num_hidden_layers
            # Of a step that is interrupted, nothing is taken twice.
            gradients, self._gradients = self._gradients, {}
            take_step(self._weights, gradients, n_layers, settings, state)
            _bound_cache()

    def update(self, optimizer: Callable[..., Tuple[Floats, Floats]]) -> None:
        """Step every weight that has a gradient by NumPy arrays, and forget the
        gradients.

        optimizer (Callable): Called for each as `optimizer(name, weights, gradient)`,
            all float32 NumPy arrays. It returns the new weights and the gradient.
        RAISES (ValueError): If weights are quantized.
        """
        self._check_trains()
        with self._training:
            try:
                for name in list(self._gradients):
                    weights = _to_numpy(self._weights[name])
                    gradient = _to_numpy(self._gradients.pop(name))
                    stepped, _ = optimizer(name, weights, gradient)
                    self._weights[name] = _to_mlx(stepped)
            finally:
                # Some weights have changed even if the step was interrupted.
                self._lowered = None

    def copy(self, others: Mapping[str, Any]) -> "MLXEncoder":
        """Copy the encoder. Gradients are not copied. MLX's arrays do not change, so
        that the two share those that they have in common.

        others (Mapping[str, Any]): Weights to take in the place of its own, by name:
            NumPy's, or MLX's.
        RETURNS (MLXEncoder): The copy.
        """
        return MLXEncoder(
            self.config,
            self.tensors() if self._schemes else {**self._weights, **others},
            precision=self._precision,
            quantization=self._quantization,
            frozen_layers=self._frozen_layers,
        )

    def tensors(self) -> Mapping[str, Floats]:
        """RETURNS (Mapping[str, Floats]): The weights by their names in a checkpoint,
        each copied when it is asked for. If some are quantized, `QuantizedTensors`.
        """
        if self._schemes:
            return QuantizedTensors(
                self._shapes,
                self._schemes,
                quantized=self._read_quantized,
                plain=lambda name: _to_numpy(self._weights[name]),
            )
        return OnDemand(self._shapes, lambda name: _to_numpy(self._weights[name]))

    @contextmanager
    def _watch_memory(self, batch: PackedBatch) -> Iterator[None]:
        """Raise EncoderOutOfMemory in the place of MLX's error, which is of no kind of
        its own.
        """
        try:
            yield
        except RuntimeError as error:
            if not any(message in str(error) for message in _OUT_OF_MEMORY):
                raise
            # The frames of the pass hold its arrays while somebody holds the error.
            traceback.clear_frames(error.__traceback__)
            mx.clear_cache()
            message = Errors.DEVICE_OUT_OF_MEMORY.format(
                device=self.device, total=batch.total, n_seqs=batch.n_seqs
            )
            raise EncoderOutOfMemory(message) from error

    def _find_parts(
        self, batch: PackedBatch, key: Optional[mx.array] = None
    ) -> List[Part]:
        """RETURNS (List[Part]): What a batch goes through, in order. The key is that of
        the random numbers of dropout; None for no dropout.
        """
        config, plan = self.config, plan_attention(batch, self.config)
        n_layers = config.num_hidden_layers
        keys: List[Optional[mx.array]] = [None] * (n_layers + 1)
        if key is not None:
            keys = list(mx.random.split(key, n_layers + 1))
            mx.eval(keys)

        def run_embeddings(weights: Weights, ids: mx.array) -> mx.array:
            return embed(weights, ids, config, Dropout(keys[0]))

        def run_one(i: int, weights: Weights, x: mx.array) -> mx.array:
            dropout = Dropout(keys[i + 1])
            return run_layer(weights, x, plan, config, config.layer_types[i], dropout)

        def run_norm(weights: Weights, x: mx.array) -> mx.array:
            return norm(weights, x, config)

        layers = [Part(f"layers.{i}", partial(run_one, i)) for i in range(n_layers)]
        return [
            Part("embeddings", run_embeddings),
            *layers,
            Part("final_norm", run_norm),
        ]

    def _draw_key(self) -> Optional[mx.array]:
        """RETURNS (Optional[mx.array]): A key for the dropout of a pass, if there is
        any. It follows from Python's random numbers, which spaCy seeds.
        """
        if not self.config.has_dropout:
            return None
        return mx.random.key(random.getrandbits(32))

    def _lower_weights(self) -> Mapping[str, mx.array]:
        """RETURNS (Mapping[str, mx.array]): The weights in the precision that is
        computed in. Kept until the next step.
        """
        lowered = self._lowered
        if lowered is None:
            lowered = _lower(self._weights, self._dtype)
            mx.eval(lowered)
            self._lowered = lowered
        return lowered

    def _go_back(self, trained: List[Tuple[Part, mx.array]], d_hidden: Floats) -> None:
        """trained (List[Tuple[Part, mx.array]]): Each part, with what entered it."""
        _check_not_forked()
        factor = _find_factor(d_hidden) if self._dtype == mx.float16 else 1.0
        d_x = mx.array(d_hidden * np.float32(factor)).astype(self._dtype)
        # Gradients are gathered beside those that there are: either all, or none.
        gathered = dict(self._gradients)
        for part, x in reversed(trained):
            d_weights, d_x = _pull_back(part, self._weights, x, d_x, self._dtype)
            for name, gradient in d_weights.items():
                gathered[name] = gathered.get(name, 0) + gradient / factor
            # One part after the other, so that only one is held.
            mx.eval(gathered, d_x)
        self._gradients = gathered
        _bound_cache()

    def _read_quantized(self, name: str) -> QuantizedTensor:
        parts = within(self._weights, name.removesuffix(".weight"))
        return QuantizedTensor(
            np.array(parts["weight"]),
            np.array(parts["scales"]),
            np.array(parts["biases"]),
            self._schemes[name],
        )

    def _check_trains(self) -> None:
        if self._quantization is not None:
            raise ValueError(
                Errors.QUANTIZED_CANNOT_TRAIN.format(value=self._quantization)
            )
        if self._schemes:
            bits = ", ".join(map(str, sorted({s.bits for s in self._schemes.values()})))
            raise ValueError(Errors.WEIGHTS_CANNOT_TRAIN.format(bits=bits))


def _pull_back(
    part: Part,
    weights: Weights,
    x: mx.array,
    d_y: mx.array,
    dtype: mx.Dtype,
) -> Tuple[Dict[str, mx.array], mx.array]:
    """The backward pass through a part, which is recomputed.

    part (Part): The part.
    weights (Weights): All weights, float32.
    x (mx.array): What entered it: vectors, or, of the embeddings, ids.
    d_y (mx.array): The gradient with respect to what left it.
    dtype (mx.Dtype): What is computed in.
    RETURNS (Tuple[Dict[str, mx.array], mx.array]): The gradients of its weights,
        float32, by their names among all; and that of what entered it (of ids, none).
    """
    names, arrays = zip(*within(weights, part.path).items(), strict=True)
    is_ids = x.dtype == mx.int32

    def run(*primals: mx.array) -> mx.array:
        lowered = _lower(dict(zip(names, primals, strict=False)), dtype)
        return part.run(lowered, x if is_ids else primals[-1])

    primals = [*arrays] if is_ids else [*arrays, x]
    _, gradients = mx.vjp(run, primals, [d_y])
    d_x = x if is_ids else gradients.pop()
    paths = (f"{part.path}.{name}" for name in names)
    return dict(zip(paths, gradients, strict=True)), d_x


def _find_factor(d_hidden: Floats) -> float:
    """What to enlarge a gradient by on its way through float16, in which small numbers
    are 0. A power of 2, so that it loses nothing.

    RETURNS (float): The factor that gives the whole gradient a norm of about 16. Its
        elements are then far above the least of float16, and its sums far below the
        largest.
    """
    size = float(np.linalg.norm(d_hidden))
    usable = np.isfinite(size) and size > 0
    return float(2 ** np.rint(np.log2(16 / size))) if usable else 1.0


def _choose_schemes(
    shapes: Mapping[str, Shape],
    found: Mapping[str, Scheme],
    quantization: Optional[Mapping[str, Any]],
) -> Mapping[str, Scheme]:
    """How each weight is to be quantized.

    shapes (Mapping[str, Shape]): The weights.
    found (Mapping[str, Scheme]): Of those that are quantized already, how.
    quantization (Optional[Mapping[str, Any]]): What is asked for. None to leave them as
        they were found.
    RETURNS (Mapping[str, Scheme]): The scheme of each weight that has one. What was
        found with the requested bits (and group size, if one is requested) keeps its
        own.
    RAISES (ValueError): If there would be none.
    """
    if quantization is None:
        return found
    bits, group_size = quantization["bits"], quantization.get("group_size")
    kept = {
        name: scheme
        for name, scheme in found.items()
        if scheme.bits == bits and group_size in (None, scheme.group_size)
    }
    wanted = Scheme(bits, group_size or DEFAULT_GROUP_SIZE)
    if kept and not any(map(wanted.fits, shapes.values())):
        return kept
    return {**choose_schemes(shapes, wanted), **kept}


def _place(
    name: str, tensors: Mapping[str, Any], scheme: Optional[Scheme]
) -> Dict[str, mx.array]:
    """RETURNS (Dict[str, mx.array]): A weight: one array, or three if quantized."""
    if scheme is None:
        return {name: _to_mlx(tensors[name])}
    if isinstance(tensors, QuantizedTensors) and tensors.schemes.get(name) == scheme:
        tensor = tensors.quantized(name)
        parts = [
            mx.array(each) for each in (tensor.words, tensor.scales, tensor.biases)
        ]
    else:
        floats = _to_mlx(tensors[name])
        parts = [*mx.quantize(floats, scheme.group_size, scheme.bits)]
        mx.eval(parts)
    return dict(zip((name, *part_names(name)), parts, strict=True))


def _lower(weights: Weights, dtype: mx.Dtype) -> Dict[str, mx.array]:
    """RETURNS (Dict[str, mx.array]): The weights in another precision. The integers of
    quantized ones stay integers.
    """
    return {
        name: w.astype(dtype) if mx.issubdtype(w.dtype, mx.floating) else w
        for name, w in weights.items()
    }


def _to_mlx(array: Any) -> mx.array:
    """RETURNS (mx.array): Float32, evaluated, and sharing nothing with NumPy."""
    if not isinstance(array, mx.array):
        return mx.array(np.asarray(array, np.float32))
    array = array.astype(mx.float32)
    mx.eval(array)
    return array


def _to_numpy(array: mx.array) -> Floats:
    """RETURNS (Floats): Float32, and a copy: writing to a view would change the array
    of MLX, and all others that share its memory.
    """
    return np.array(array.astype(mx.float32))


def _bound_cache() -> None:
    if mx.get_cache_memory() > _CACHE_BYTES:
        mx.clear_cache()


# -- Forks -------------------------------------------------------------------------

# Each of MLX's own threads serves one stream. A fork copies none of them, and whoever
# hands work to a stream from before the fork waits for ever.

_lost_in_fork = False


def _after_fork_in_child() -> None:
    global _lost_in_fork
    if mx.default_device().type == mx.cpu:
        mx.set_default_stream(mx.new_stream(mx.default_device()))
    else:
        _lost_in_fork = True  # GPUs are no use in a fork


def _check_not_forked() -> None:
    if _lost_in_fork:
        raise RuntimeError(Errors.MLX_FORKED)


if hasattr(os, "register_at_fork"):  # absent on Windows, as are forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
