"""What the encoders that can only predict have in common: OpenVINO and ONNX Runtime."""

import ctypes
import os
import sys
import threading
from abc import ABC, abstractmethod
from copy import copy
from typing import (
    Any,
    Callable,
    Generic,
    Mapping,
    NoReturn,
    Optional,
    Tuple,
    TypeVar,
)
from weakref import WeakSet

import numpy as np

from ..errors import Errors
from ..types import Floats, PackedBatch, TokenRows
from .config import ModernBertConfig
from .pooling import pool_means
from .steps import StepSettings, StepState
from .weights import expected_shapes

MadeT = TypeVar("MadeT")


class PredictingEncoder(ABC, Generic[MadeT]):
    """An encoder that pools on the host and does not train. See `protocol.Encoder`.

    It runs a graph, which is made of its weights when it is first needed (see
    `PerProcess`), and would not see a change of them: so nobody writes into them.

    backend (str): Its name in a config.
    device (str): Where it runs.
    """

    backend: str
    device: str
    can_train = False
    has_gradients = False

    def __init__(self, config: ModernBertConfig, tensors: Mapping[str, Any]):
        """config (ModernBertConfig): The config.
        tensors (Mapping[str, Any]): The weights, each read once and copied.
        """
        self.config = config
        self._tensors = {
            name: _copied(tensors[name]) for name in expected_shapes(config)
        }
        self._made: PerProcess[MadeT] = PerProcess()

    def encode(self, batch: PackedBatch) -> Floats:
        """The last hidden state.

        batch (PackedBatch): The sequences.
        RETURNS (Floats): `(total, width)` float32.
        RAISES (ValueError): If what it runs on does not start.
        """
        if batch.total == 0:
            return np.zeros((0, self.config.hidden_size), dtype=np.float32)
        return self._run(self._made.get(count_threads(), self._make), batch)

    @abstractmethod
    def _make(self, n_threads: int) -> MadeT:
        """RETURNS (MadeT): The graph, ready to run on so many threads."""

    @abstractmethod
    def _run(self, made: MadeT, batch: PackedBatch) -> Floats:
        """RETURNS (Floats): The last hidden state of a batch that is not empty."""

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

    def copy(self, others: Mapping[str, Any]) -> "PredictingEncoder[MadeT]":
        """Copy the encoder. The copies share the weights that are the same, and what
        was made of them if all are.

        others (Mapping[str, Any]): Weights to take in the place of its own, by name.
        RETURNS (PredictingEncoder): The copy.
        """
        copied = copy(self)
        if others:
            replaced = {name: _copied(weights) for name, weights in others.items()}
            copied._tensors = {**self._tensors, **replaced}
            copied._made = PerProcess()
        return copied

    def tensors(self) -> Mapping[str, Floats]:
        """RETURNS (Mapping[str, Floats]): The weights by their names in a checkpoint,
        float32 and exact, whatever is computed in: views, which cannot be written.
        """
        return {name: _read_only(tensor) for name, tensor in self._tensors.items()}

    def _refuse_to_train(self) -> NoReturn:
        raise ValueError(Errors.BACKEND_CANNOT_TRAIN.format(value=self.backend))


class PerProcess(Generic[MadeT]):
    """A compiled graph, which runs on threads of its own. Each process makes it when it
    first needs it.

    A fork from before that inherits none. A later one inherits a graph whose threads do
    not exist there: it is kept and never used, since whoever takes it down would wait
    for them for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: Optional[Tuple[int, MadeT]] = None
        self._of_thread = threading.local()
        _per_process.add(self)

    def get(self, n_threads: int, make: Callable[[int], MadeT]) -> MadeT:
        """Get what was made, or make it.

        n_threads (int): The threads that it is to run on. OpenMP has a number for each
            thread, so that they may differ for good: a thread that asks for the same as
            before gets what there is, or two would make it in turn.
        make (Callable[[int], MadeT]): Makes it, for so many threads.
        RETURNS (MadeT): What runs on so many, or as many as another thread asked for
            since this one did.
        """
        with self._lock:
            is_new = n_threads != getattr(self._of_thread, "n_threads", None)
            self._of_thread.n_threads = n_threads
            if self._made is None or (is_new and self._made[0] != n_threads):
                self._made = None  # its memory is free before it is used again
                self._made = n_threads, make(n_threads)
            return self._made[1]

    def _fork(self) -> None:
        # A thread that the fork has not copied may hold the lock for ever.
        self._lock = threading.Lock()
        if self._made is not None:
            _never_release(self._made[1])
            self._made = None


_per_process: "WeakSet[PerProcess[Any]]" = WeakSet()


def _never_release(made: Any) -> None:
    """Keep what was made for ever. A list would be emptied when Python shuts down."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))


def _fork_all() -> None:
    for each in list(_per_process):
        each._fork()


if hasattr(os, "register_at_fork"):  # absent on Windows, as are forks
    os.register_at_fork(after_in_child=_fork_all)


def count_threads() -> int:
    """RETURNS (int): As many threads as torch has: it is what `torch.set_num_threads`
    and `OMP_NUM_THREADS` say, and 1 in a worker process. 0, for as many as there are
    cores, where torch is not in use.
    """
    return sys.modules["torch"].get_num_threads() if "torch" in sys.modules else 0


def current_gpu() -> int:
    """RETURNS (int): Of several GPUs, the one that spaCy's `--gpu-id` chose, where
    torch is in use and has CUDA; else the first.
    """
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        return sys.modules["torch"].cuda.current_device()
    return 0


def _copied(weights: Any) -> Floats:
    return np.array(weights, dtype=np.float32, order="C")


def _read_only(tensor: Floats) -> Floats:
    view = tensor.view()
    view.flags.writeable = False
    return view
