"""A batch too large for the device: a clear error, nothing kept, nothing changed."""

import gc
import itertools
import weakref
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from spacy_modernbert.encoder.config import FULL
from spacy_modernbert.encoder.protocol import EncoderOutOfMemory
from spacy_modernbert.encoder.steps import StepSettings, StepState
from spacy_modernbert.encoder.torch import encoder as torch_encoder
from spacy_modernbert.encoder.torch import out_of_memory
from spacy_modernbert.encoder.torch import steps as torch_steps
from spacy_modernbert.encoder.torch.attention import ATTENTION
from spacy_modernbert.encoder.torch.out_of_memory import bound_cache, watch_memory

from ...util import gradients_of
from ..util import draw_batch, load

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 1.0 GB)."),
    RuntimeError("Invalid buffer size: 24.00 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: ..."),
]
IDS = ["CUDA", "CUDA itself", "cuBLAS", "Triton", "MPS", "MPS itself", "CPU"]


class Refusing(torch.autograd.Function):
    """Runs out of memory on the way back."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, d_x):
        raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.fixture
def encoder(oracle):
    return load(oracle)


@pytest.fixture
def batch():
    return draw_batch([5, 130])


def refuse(monkeypatch, attend):
    """Let the global layers do something else."""
    monkeypatch.setitem(ATTENTION, FULL, attend)


@pytest.mark.parametrize("error", ERRORS, ids=IDS)
@pytest.mark.parametrize("name", ["encode", "encode_train"])
def test_forward(encoder, batch, monkeypatch, error, name):
    before = encoder.encode(batch)
    seen = []

    def attend(query, *args):
        seen.append(weakref.ref(query))
        raise error

    with monkeypatch.context() as patch:
        refuse(patch, attend)
        with pytest.raises(EncoderOutOfMemory, match="135 wordpieces in 2") as caught:
            getattr(encoder, name)(batch)
        assert isinstance(caught.value, MemoryError)
        # Nothing of the pass is left, although the error is still held.
        gc.collect()
        assert seen[0]() is None
    np.testing.assert_array_equal(encoder.encode(batch), before)


def test_backward(encoder, batch, monkeypatch):
    """The layers above had their gradients already. They do not count."""
    d_out = np.ones((batch.total, 32), np.float32)
    _, backprop = encoder.encode_train(batch)
    backprop(d_out)
    before = gradients_of(encoder)
    plain = ATTENTION[FULL]
    with monkeypatch.context() as patch:
        refuse(patch, lambda query, *args: plain(Refusing.apply(query), *args))
        _, backprop = encoder.encode_train(batch)
        with pytest.raises(EncoderOutOfMemory):
            backprop(d_out)
    for name, tensor in gradients_of(encoder).items():
        np.testing.assert_array_equal(tensor, before[name])
    _, backprop = encoder.encode_train(batch)
    backprop(d_out)
    for name, tensor in gradients_of(encoder).items():
        np.testing.assert_allclose(tensor, 2 * before[name], rtol=1e-5)


@pytest.mark.parametrize("error", ERRORS, ids=IDS)
def test_what_torch_held_for_later_may_be_enough(error, monkeypatch):
    """Before it says that memory is short, it frees that itself; a library does not."""
    monkeypatch.setattr(out_of_memory, "_free_cache", lambda device: None)
    device = torch.device("cuda")
    with (
        pytest.raises(EncoderOutOfMemory) as caught,
        watch_memory(device, "too little"),
    ):
        raise error
    assert caught.value.may_fit != isinstance(error, torch.OutOfMemoryError)


@pytest.mark.parametrize("held, freed", [(2.5, 1), (1.5, 0)])
def test_cache_of_mps(monkeypatch, held, freed):
    """torch keeps the memory of each length that there was."""
    calls = []
    for name, value in (
        ("driver_allocated_memory", lambda: int(held * 2**30)),
        ("current_allocated_memory", lambda: 2**30),
        ("empty_cache", lambda: calls.append(1)),
    ):
        monkeypatch.setattr(torch.mps, name, value)
    bound_cache(torch.device("cpu"))
    assert not calls
    bound_cache(torch.device("mps"))
    assert len(calls) == freed


def test_other_errors_are_left_alone(encoder, batch, monkeypatch):
    def attend(*args):
        raise RuntimeError("mat1 and mat2 must have the same dtype")

    refuse(monkeypatch, attend)
    with pytest.raises(RuntimeError, match="same dtype") as caught:
        encoder.encode(batch)
    assert not isinstance(caught.value, MemoryError)


def test_memory_is_freed_in_turn(encoder, batch, monkeypatch):
    """On MPS, while no other thread uses the device."""
    is_inside, freed = False, []

    @contextmanager
    def current(device):
        nonlocal is_inside
        is_inside = True
        try:
            yield
        finally:
            is_inside = False

    def refuse_all(*args):
        raise ERRORS[0]

    monkeypatch.setattr(torch_encoder, "_current", current)
    monkeypatch.setattr(out_of_memory, "_free_cache", lambda _: freed.append(is_inside))
    monkeypatch.setattr(torch_encoder, "take_step", refuse_all)
    refuse(monkeypatch, refuse_all)
    for run in (
        lambda: encoder.encode(batch),
        lambda: encoder.step(StepSettings(0.01), StepState({}, {}, {}, {})),
    ):
        with pytest.raises(EncoderOutOfMemory):
            run()
    assert freed == [True, True]


class AllocateUpTo(TorchDispatchMode):
    """Refuses memory for one more array than so many, unless it is a small one."""

    def __init__(self, n_arrays, least):
        super().__init__()
        self.n_left, self.least = n_arrays, least

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        given = [*args, *(kwargs or {}).values()]
        known = {t.untyped_storage().data_ptr() for t in given if torch.is_tensor(t)}
        if (
            torch.is_tensor(out)
            and out.numel() >= self.least
            and out.untyped_storage().data_ptr() not in known
        ):
            self.n_left -= 1
            if self.n_left < 0:
                raise torch.OutOfMemoryError("CUDA out of memory.")
        return out


@pytest.mark.parametrize("rectified", [False, True])
def test_a_step_takes_its_memory_first(encoder, batch, rectified):
    """Whatever it gets no memory for, nothing has changed."""
    settings = StepSettings(0.01, 0.9, 0.999, L2=0.01, grad_clip=1, rectified=rectified)
    state = StepState({}, {}, {}, {})
    d_out = np.ones((batch.total, encoder.config.hidden_size), np.float32)
    for _ in range(6):  # RAdam takes a root from its fifth step on
        encoder.encode_train(batch)[1](d_out)
        before = {name: w.copy() for name, w in encoder.tensors().items()}
        gradients = {name: g.copy() for name, g in gradients_of(encoder).items()}
        n_steps = dict(state.n_steps)
        for n_arrays in itertools.count():
            try:
                with AllocateUpTo(n_arrays, encoder.config.hidden_size):
                    encoder.step(settings, state)
                break
            except EncoderOutOfMemory:
                assert state.n_steps == n_steps
                for name, gradient in gradients_of(encoder).items():
                    np.testing.assert_array_equal(gradient, gradients[name])
                    np.testing.assert_array_equal(encoder.tensors()[name], before[name])
    assert set(state.n_steps.values()) == {6}


def test_a_step(encoder, batch, monkeypatch):
    """Nothing is stepped, and the gradients wait for another try."""
    _, backprop = encoder.encode_train(batch)
    backprop(np.ones((batch.total, encoder.config.hidden_size), dtype=np.float32))
    before = {name: w.copy() for name, w in encoder.tensors().items()}
    gradients = {name: g.copy() for name, g in gradients_of(encoder).items()}
    recall = torch_steps._recall

    def refuse_averages(table, due, shape):
        if table is state.averages and due.name == "final_norm.weight":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return recall(table, due, shape)

    settings = StepSettings(0.01, b1=0.9, b2=0.999, grad_clip=1.0)
    state = StepState({}, {}, {}, {})
    with monkeypatch.context() as patch:
        patch.setattr(torch_steps, "_recall", refuse_averages)
        with pytest.raises(EncoderOutOfMemory, match="frozen_layers"):
            encoder.step(settings, state)
    assert not state.n_steps
    for name, gradient in gradients_of(encoder).items():
        np.testing.assert_array_equal(gradient, gradients[name])
        np.testing.assert_array_equal(encoder.tensors()[name], before[name])
    encoder.step(settings, state)
    assert set(state.n_steps.values()) == {1} and not encoder.has_gradients
    assert (encoder.tensors()["final_norm.weight"] != before["final_norm.weight"]).any()
