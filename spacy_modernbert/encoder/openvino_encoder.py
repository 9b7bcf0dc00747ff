"""ModernBERT by OpenVINO, on the CPU. It predicts only.

OpenVINO makes its own form of the weights. The arrays that the graph was made from stay
beside it: they are what is saved, and what another backend takes over.
"""

import os
import sys
import threading
from copy import copy
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional

import numpy as np
import numpy.typing as npt
import openvino as ov

from ..types import PackedBatch
from .backend import resolve_precision
from .config import ModernBertConfig
from .openvino_batch import Blocks, group_by_length, make_inputs
from .openvino_graph import Graph
from .predicting import PredictingEncoder, is_8_bit
from .weights import expected_shapes

Floats = npt.NDArray[np.floating]

_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


@dataclass(frozen=True)
class _Compiled:
    """A graph that was compiled.

    model (ov.CompiledModel): The graph.
    pid (int): The process that compiled it. Its threads are in no other.
    n_threads (int): The threads that it runs on; 0 for as many as OpenVINO likes.
    """

    model: ov.CompiledModel
    pid: int
    n_threads: int


# Compiled models that a fork brought along: to take one down, OpenVINO would wait for
# threads that are not in this process.
_left_by_the_parent: List[_Compiled] = []


class _ProcessLock:
    """A lock that a forked process has anew: a thread that is not there may hold the
    inherited one, and would never let it go.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def get(self) -> threading.Lock:
        """RETURNS (threading.Lock): The lock of this process."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock = threading.Lock()
        return self._lock


class OpenVinoEncoder(PredictingEncoder):
    """ModernBERT by OpenVINO. See `backend.Encoder`.

    The graph is compiled when it is first run: so a process that is forked before that
    costs nothing, and one that is forked afterwards compiles its own.
    """

    backend = "openvino"
    device = "openvino:CPU"

    def __init__(
        self,
        config: ModernBertConfig,
        tensors: Mapping[str, Any],
        *,
        precision: str = "auto",
        quantization: Optional[Mapping[str, Any]] = None,
    ):
        """config (ModernBertConfig): The config.
        tensors (Mapping[str, Any]): The weights, each read once and copied.
        precision (str): "auto", "float32" or "bfloat16".
        quantization (Optional[Mapping[str, Any]]): None, or `{"bits": 8}`.
        RAISES (ValueError): If the processor has no such precision, or OpenVINO no such
            quantization.
        """
        self.config = config
        self._quantized = is_8_bit(quantization, self.backend)
        self._properties = _properties(precision)
        self._tensors = {
            name: _copied(tensors[name]) for name in expected_shapes(config)
        }
        self._compiled: Optional[_Compiled] = None
        self._compiling = _ProcessLock()

    def encode(self, batch: PackedBatch) -> Floats:
        """The last hidden state.

        batch (PackedBatch): The sequences.
        RETURNS (Floats): `(total, width)` float32.
        """
        hidden = np.empty((batch.total, self.config.hidden_size), dtype=np.float32)
        if batch.total == 0:
            return hidden
        # Of its own: threads that encode at the same time share the graph only.
        request = self._compile().create_infer_request()
        for group in group_by_length(batch.lengths):
            inputs = make_inputs(batch, group, self.config)
            outputs = request.infer(inputs, share_inputs=True, share_outputs=True)
            rows = outputs[0].reshape(*inputs["ids"].shape, -1)
            for row, index in zip(rows, group, strict=True):
                start, end = batch.cu_seqlens[index : index + 2]
                hidden[start:end] = row[: end - start]
        return hidden

    def copy(self, others: Mapping[str, Any]) -> "OpenVinoEncoder":
        """Copy the encoder. Nobody writes into its weights, so the copies share those
        that are the same, and the compiled graph if all are.

        others (Mapping[str, Any]): Weights to take in the place of its own, by name.
        RETURNS (OpenVinoEncoder): The copy.
        """
        copied = copy(self)
        copied._compiling = _ProcessLock()
        if others:
            replaced = {name: _copied(weights) for name, weights in others.items()}
            copied._tensors = {**self._tensors, **replaced}
            copied._compiled = None
        return copied

    def tensors(self) -> Mapping[str, Floats]:
        """RETURNS (Mapping[str, Floats]): The weights by their names in a checkpoint.
        They are views, which cannot be written: the graph would not see it.
        """
        return {name: _read_only(tensor) for name, tensor in self._tensors.items()}

    def _compile(self) -> ov.CompiledModel:
        with self._compiling.get():
            pid, n_threads = os.getpid(), _n_threads()
            if self._compiled is not None and self._compiled.pid != pid:
                _left_by_the_parent.append(self._compiled)
                self._compiled = None
            if self._compiled is None or self._compiled.n_threads != n_threads:
                self._compiled = None  # its memory is free before it is used again
                self._compiled = _Compiled(
                    self._compile_anew(n_threads), pid, n_threads
                )
            return self._compiled.model

    def _compile_anew(self, n_threads: int) -> ov.CompiledModel:
        blocks = Blocks.of(self.config)
        graph = Graph(self.config, self._tensors, quantized=self._quantized)
        model = graph.build(blocks.size, blocks.n_keys)
        properties = {**self._properties, "INFERENCE_NUM_THREADS": n_threads}
        return ov.Core().compile_model(model, "CPU", properties)


def _properties(precision: str) -> Dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": _PRECISIONS[
            resolve_precision(precision, "openvino")
        ],
        # One request at a time on all threads. More of them would each need memory.
        "NUM_STREAMS": 1,
        # Where a process is bound to cores, or has siblings, the system knows better.
        "ENABLE_CPU_PINNING": False,
    }


def _n_threads() -> int:
    """RETURNS (int): As many threads as torch has, where it is in use: it is what
    `torch.set_num_threads` and `OMP_NUM_THREADS` say, and 1 in a forked process.
    """
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    return int(os.environ.get("OMP_NUM_THREADS", 0))


def _copied(weights: Any) -> Floats:
    return np.array(weights, dtype=np.float32, order="C")


def _read_only(tensor: Floats) -> Floats:
    view = tensor.view()
    view.flags.writeable = False
    return view
