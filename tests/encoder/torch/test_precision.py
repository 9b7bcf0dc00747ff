"""Precisions and int8: near float32, trained in float32, and never stale."""

import re

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from spacy_modernbert.encoder.steps import StepSettings, StepState
from spacy_modernbert.encoder.torch import (
    attention,
    projection,
    quantized_linear,
    tiled_attention,
)
from spacy_modernbert.encoder.torch.quantized_linear import (
    multiply_int8,
    quantize,
    quantize_rows,
)
from spacy_modernbert.types import PackedBatch

from ...util import gradients_of
from ..util import (
    assert_close,
    assert_gradients_near,
    assert_rows_near,
    draw_batch,
    draw_ids,
    load,
    make_oracle,
    state,
)

INT8 = {"bits": 8}

# Also a sequence that is long enough to be attended in tiles.
LENGTHS = [1, 2, 64, 130, 1100]


# Near float32


@pytest.mark.parametrize(
    "precision, quantization, least",
    [
        ("bfloat16", None, 0.999),
        ("float16", None, 0.9999),
        ("float32", INT8, 0.995),
        ("bfloat16", INT8, 0.995),
    ],
)
@pytest.mark.parametrize("biases", [False, True])
def test_near_float32(precision, quantization, least, biases):
    model = make_oracle(attention_bias=biases, mlp_bias=biases)
    batch = draw_batch(LENGTHS)
    wanted = load(model, "cpu", "float32").encode(batch)
    found = load(model, "cpu", precision, quantization=quantization).encode(batch)
    assert_rows_near(found, wanted, least)
    # It was indeed computed otherwise.
    assert np.abs(found - wanted).max() > 1e-4


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_alone_as_packed(oracle, precision):
    encoder = load(oracle, "cpu", precision)
    sequences = [draw_ids(np.random.default_rng(i), 90 + i) for i in range(3)]
    packed = encoder.encode(PackedBatch.of(sequences))
    alone = np.concatenate([encoder.encode(PackedBatch.of([ids])) for ids in sequences])
    assert_rows_near(packed, alone, 0.999)


class _Products(TorchDispatchMode):
    """Gathers the types in which matrices are multiplied."""

    def __init__(self):
        super().__init__()
        self.dtypes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if re.search(r"\.(linear|\w*mm|\w*dot_product\w*)\.", str(func)):
            self.dtypes.add(args[0].dtype)
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("biases", [False, True])
def test_nothing_is_emulated(precision, biases, monkeypatch):
    """Where the processor has no instructions for a precision, float32 multiplies the
    same rounded numbers.
    """
    model = make_oracle(attention_bias=biases, mlp_bias=biases)
    batch = draw_batch(LENGTHS)
    found, dtypes = [], []
    for emulated in (False, True):
        monkeypatch.setattr(projection, "emulates", lambda name, is_so=emulated: is_so)
        with _Products() as products:
            found.append(load(model, "cpu", precision).encode(batch))
        dtypes.append(products.dtypes)
    assert dtypes == [{getattr(torch, precision)}, {torch.float32}]
    # Rounding tells them apart.
    assert_rows_near(found[1], found[0], 0.999)


def test_nothing_is_emulated_in_training(oracle, monkeypatch):
    batch = draw_batch([1, 130, 70])
    d_out = np.random.default_rng(0).standard_normal((batch.total, 32))
    found = []
    for emulated in (False, True):
        monkeypatch.setattr(projection, "emulates", lambda name, is_so=emulated: is_so)
        encoder = load(oracle, "cpu", "bfloat16")
        with _Products() as products:
            _, backprop = encoder.encode_train(batch)
            backprop(d_out.astype(np.float32))
        assert products.dtypes == {torch.float32 if emulated else torch.bfloat16}
        found.append(gradients_of(encoder))
    assert_gradients_near(found[1], found[0], 0.99)


def test_int8_by_either_product(oracle, monkeypatch):
    """What the units for int8 compute, and what stands in for them."""
    batch = draw_batch([1, 65])
    found = []
    for native in (False, True):
        monkeypatch.setattr(quantized_linear, "multiplies_int8", lambda n=native: n)
        found.append(load(oracle, "cpu", "float32", quantization=INT8).encode(batch))
    assert_close(found[0], found[1], "hidden states")


# Weights and training


@pytest.mark.parametrize(
    "precision, quantization",
    [("bfloat16", None), ("float16", None), ("float32", INT8)],
)
def test_weights_are_kept_as_they_are(oracle, precision, quantization):
    encoder = load(oracle, "cpu", precision, quantization=quantization)
    encoder.encode(draw_batch([5]))
    for name, tensor in state(oracle).items():
        np.testing.assert_array_equal(encoder.tensors()[name], tensor)
        assert encoder.tensors()[name].dtype == np.float32


def test_gradients_of_bfloat16(oracle, monkeypatch):
    # So that attention of some sequences is in tiles, that of others by torch's kernel,
    # also where the processor has no instructions for bfloat16.
    tiled, attend_in_tiles = [], attention.attend_in_tiles

    def attend(query, key, value):
        tiled.append(len(query))
        return attend_in_tiles(query, key, value)

    monkeypatch.setattr(attention, "attend_in_tiles", attend)
    monkeypatch.setattr(projection, "emulates", lambda name: False)
    monkeypatch.setattr(tiled_attention, "has_amx", lambda: False)
    monkeypatch.setattr(tiled_attention, "_MIN_LENGTH", 100)
    batch = draw_batch([1, 130, 70])
    d_out = np.random.default_rng(0).standard_normal((batch.total, 32))
    found = []
    for precision in ("float32", "bfloat16"):
        encoder = load(oracle, "cpu", precision)
        _, backprop = encoder.encode_train(batch)
        backprop(d_out.astype(np.float32))
        found.append(gradients_of(encoder))
    assert set(tiled) == {130}
    assert_gradients_near(found[1], found[0], 0.99)


def by_settings(encoder):
    encoder.step(StepSettings(0.01, b1=0.9, b2=0.999), StepState({}, {}, {}, None))


def by_numpy(encoder):
    def optimizer(name, weights, gradient):
        weights -= 0.01 * gradient
        return weights, gradient

    encoder.update(optimizer)


@pytest.mark.parametrize("step", [by_settings, by_numpy])
def test_a_step_is_seen(oracle, step):
    encoder = load(oracle, "cpu", "bfloat16")
    batch = draw_batch([70])
    before = encoder.encode(batch)
    _, backprop = encoder.encode_train(batch)
    backprop(np.ones((batch.total, 32), np.float32))
    step(encoder)
    after = encoder.encode(batch)
    assert np.abs(after - before).max() > 1e-3
    # Exactly what an encoder makes of it that has never known other weights.
    fresh = encoder.copy({})
    np.testing.assert_array_equal(fresh.encode(batch), after)


@pytest.mark.parametrize("backend", ["cpu", "mlx"])
def test_an_interrupted_step_is_seen(oracle, backend):
    """What predicts next is what would be saved."""
    encoder = load(oracle, backend, "bfloat16")
    batch = draw_batch([70])
    before = encoder.encode(batch)
    _, backprop = encoder.encode_train(batch)
    backprop(np.ones((batch.total, 32), np.float32))
    asked = []

    def optimizer(name, weights, gradient):
        asked.append(name)
        if len(asked) > 5:
            raise KeyboardInterrupt
        return weights - 0.1 * gradient, gradient

    with pytest.raises(KeyboardInterrupt):
        encoder.update(optimizer)
    after = encoder.encode(batch)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_array_equal(encoder.copy({}).encode(batch), after)


@pytest.mark.parametrize(
    "precision, quantization, message",
    [
        ("float16", None, "'float16' can only predict"),
        ("float32", INT8, "is quantized"),
    ],
)
def test_what_only_predicts(oracle, precision, quantization, message):
    encoder = load(oracle, "cpu", precision, quantization=quantization)
    assert not encoder.can_train
    for train in (
        lambda: encoder.encode_train(draw_batch([5])),
        lambda: by_settings(encoder),
        lambda: by_numpy(encoder),
    ):
        with pytest.raises(ValueError, match=message):
            train()


# What there is not


@pytest.mark.parametrize(
    "quantization", [{"bits": 4}, {"bits": 8, "group_size": 64}, {"bits": 4, "x": 1}]
)
def test_quantizations_of_other_backends(oracle, quantization):
    with pytest.raises(ValueError, match="backend 'cpu' has no quantization"):
        load(oracle, "cpu", "float32", quantization=quantization)


# Rows of int8


def test_rows_of_int8():
    x = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0], [1e30, 0.0, -1e30]])
    steps, scale = quantize_rows(x)
    assert steps.tolist() == [[64, -127, 32], [0, 0, 0], [127, 0, -127]]
    torch.testing.assert_close(scale, torch.tensor([[2.0], [0.0], [1e30]]) / 127)


@pytest.mark.parametrize("native", [False, True])
def test_the_product_of_int8_does_not_overflow(native, monkeypatch):
    monkeypatch.setattr(quantized_linear, "multiplies_int8", lambda: native)
    # On processors without VNNI, a careless kernel adds pairs of these in 16 bits.
    ones = torch.full((3, 1152), 127, dtype=torch.int8)
    product = multiply_int8(ones, -ones[:2])
    assert product.double().eq(-1152 * 127 * 127).all()


def test_a_product_of_int8_with_one_input():
    x = torch.arange(1, 50, dtype=torch.int8)[:, None]
    found = multiply_int8(x, x[:20])
    assert found.double().equal(x.double() @ x[:20].double().t())


def test_a_quantized_product():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(50, 64), torch.randn(30, 64), torch.randn(30)
    wanted = x @ weight.T + bias
    for dtype in (torch.float32, torch.bfloat16):
        found = quantize(weight, bias, dtype)(x.to(dtype))
        assert found.dtype == dtype
        assert (found - wanted).abs().max() < 0.03 * wanted.abs().max()
