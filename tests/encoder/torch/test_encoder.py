"""What parity does not show: steps, dropout, what is kept for the way back."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.config import SLIDING
from spacy_modernbert.encoder.torch import attention
from spacy_modernbert.encoder.torch import encoder as torch_encoder
from spacy_modernbert.encoder.torch import model as torch_model
from spacy_modernbert.encoder.torch.encoder import _current
from spacy_modernbert.encoder.torch.tiled_attention import ATTEND_IN_TILES
from spacy_modernbert.types import PackedBatch

from ...util import gradients_of
from ..util import (
    DROPOUTS,
    assert_close,
    bytes_kept,
    in_place,
    into_new_arrays,
    load,
    make_oracle,
    run_oracle,
    state,
)

ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    ATTEND_IN_TILES,
}


@pytest.fixture
def d_out():
    return np.random.default_rng(1).standard_normal((100, 32)).astype(np.float32)


class CountAttention(TorchDispatchMode):
    """Counts how often attention is computed."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in ATTENTION
        return func(*args, **(kwargs or {}))


def test_nothing_is_drawn_to_make_one(oracle, monkeypatch):
    """On the meta device, normal_ imports torch._dynamo, which takes seconds."""
    monkeypatch.delattr(torch.nn.init, "normal_")
    load(oracle)


@pytest.mark.parametrize("in_tiles", [False, True])
def test_global_attention_is_computed_once(oracle, ids, d_out, in_tiles, monkeypatch):
    """Gradient checkpointing keeps what it gives, on the CPU."""
    monkeypatch.setattr(attention, "pays_to_tile", lambda query: in_tiles)
    encoder = load(oracle, gradient_checkpointing=True)
    layer_types = encoder.config.layer_types
    with CountAttention() as forward:
        _, backprop = encoder.encode_train(PackedBatch.of([ids]))
    with CountAttention() as backward:
        backprop(d_out)
    assert forward.count == len(layer_types)
    assert backward.count == layer_types.count(SLIDING) < forward.count


# Steps


@pytest.mark.parametrize("optimizer", [in_place, into_new_arrays])
def test_a_step_moves_every_weight(oracle, ids, d_out, optimizer):
    encoder = load(oracle)
    _, backprop = encoder.encode_train(PackedBatch.of([ids]))
    backprop(d_out)
    _, gradients = run_oracle(oracle, [ids], [d_out])
    encoder.update(optimizer)
    for name, before in state(oracle).items():
        wanted = before - 0.01 * gradients[name]
        assert_close(encoder.tensors()[name], wanted, name)
    # It runs by the new weights.
    stepped = make_encoder(
        encoder.config, dict(encoder.tensors()), backend="cpu", precision="float32"
    )
    batch = PackedBatch.of([ids])
    np.testing.assert_array_equal(encoder.encode(batch), stepped.encode(batch))


def test_a_step_forgets_the_gradients(oracle, ids, d_out):
    encoder = load(oracle)
    _, backprop = encoder.encode_train(PackedBatch.of([ids]))
    backprop(d_out)
    encoder.update(in_place)
    assert all(not gradient.any() for gradient in gradients_of(encoder).values())
    # With nothing gathered there is nothing to step.
    encoder.update(lambda *args: pytest.fail("called"))


def test_a_step_asks_by_name(oracle, ids, d_out):
    encoder = load(oracle)
    _, backprop = encoder.encode_train(PackedBatch.of([ids]))
    backprop(d_out)
    asked = {}

    def optimizer(name, weights, gradient):
        asked[name] = (weights.shape, weights.dtype, gradient.dtype)
        return weights, gradient

    encoder.update(optimizer)
    assert asked == {
        name: (tensor.shape, np.float32, np.float32)
        for name, tensor in state(oracle).items()
    }


# Dropout


@pytest.mark.parametrize("kind", DROPOUTS)
def test_dropout_is_for_training(oracle, ids, kind):
    encoder = load(oracle, changes={kind: DROPOUTS[kind]})
    batch = PackedBatch.of([ids])
    plain = load(oracle).encode(batch)
    first, _ = encoder.encode_train(batch)
    second, _ = encoder.encode_train(batch)
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_array_equal(encoder.encode(batch), plain)


def test_what_is_recomputed_drops_out_as_before(oracle, ids, d_out):
    found = []
    for gradient_checkpointing in (False, True):
        setting = {"gradient_checkpointing": gradient_checkpointing}
        encoder = load(oracle, changes=DROPOUTS, **setting)
        torch.manual_seed(0)
        out, backprop = encoder.encode_train(PackedBatch.of([ids]))
        torch.manual_seed(1)
        backprop(d_out)
        found.append({"out": out, **gradients_of(encoder)})
    for name, tensor in found[0].items():
        assert_close(found[1][name], tensor, name)


# What is kept


def test_gradient_checkpointing_keeps_less(oracle, ids):
    batch = PackedBatch.of([ids])
    without = bytes_kept(load(oracle, gradient_checkpointing=False), batch)
    assert bytes_kept(load(oracle, gradient_checkpointing=True), batch) < 0.3 * without
    # "auto" begins where it matters.
    assert bytes_kept(load(oracle, gradient_checkpointing="auto"), batch) == without


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_frozen_layers_keep_nothing(oracle, ids, gradient_checkpointing):
    n_layers = oracle.config.num_hidden_layers
    batch = PackedBatch.of([ids])
    setting = {"gradient_checkpointing": gradient_checkpointing}
    kept = [
        bytes_kept(load(oracle, frozen_layers=frozen, **setting), batch)
        for frozen in range(n_layers + 1)
    ]
    assert kept == sorted(kept, reverse=True) and len(set(kept)) == len(kept)
    # Of the final norm: what enters it, its weights, a mean and a deviation a row.
    width = oracle.config.hidden_size
    assert kept[-1] <= 4 * (len(ids) * (width + 2) + 2 * width)


@pytest.mark.parametrize("padding", [3, None])
def test_padding_learns_nothing(monkeypatch, padding):
    """On MPS, torch gives it a gradient."""
    model = make_oracle(pad_token_id=padding)
    batch = PackedBatch.of([np.array([5, 3, 7])])

    def train():
        encoder = load(model)
        out, backprop = encoder.encode_train(batch)
        backprop(np.random.default_rng(0).normal(size=out.shape).astype("f"))
        return gradients_of(encoder)

    wanted, plain = train(), F.embedding
    monkeypatch.setattr(F, "embedding", lambda ids, table, pad, *_: plain(ids, table))
    monkeypatch.setattr(torch_model, "_PADDING_GETS_GRADIENT", ("cpu",))
    for name, gradient in train().items():
        np.testing.assert_allclose(gradient, wanted[name], atol=1e-6)


def test_what_enters_the_first_trained_norm_needs_a_gradient(oracle, ids, monkeypatch):
    """On MPS, torch's norms get wrong gradients without."""
    monkeypatch.setattr(torch_model, "_NORMS_NEED_GRADIENT", ("cpu",))
    entered = []

    def note(norm, inputs):
        entered.append(inputs[0].requires_grad)

    batch = PackedBatch.of([ids])
    for frozen in (1, oracle.config.num_hidden_layers):
        encoder = load(oracle, frozen_layers=frozen)
        model = encoder._model
        norms = [*(layer.attn_norm for layer in model.layers), model.final_norm]
        with norms[frozen].register_forward_pre_hook(note):
            out, backprop = encoder.encode_train(batch)
            np.testing.assert_array_equal(encoder.encode(batch), out)
        backprop(out)
    assert entered == [True, False] * 2


def test_on_mps_one_thread_runs_at_a_time():
    mps = torch.device("mps")
    n_inside, most = 0, 0

    def run(_):
        nonlocal n_inside, most
        with _current(mps), _current(mps):
            n_inside += 1
            most = max(most, n_inside)
            time.sleep(0.01)
            n_inside -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(8)))
    assert most == 1


def test_the_device_is_used_in_turn(oracle, ids, d_out, monkeypatch):
    """Also where an encoder is made, and where results are fetched."""
    n_inside, outside = 0, []

    @contextmanager
    def current(device):
        nonlocal n_inside
        n_inside += 1
        yield
        n_inside -= 1

    def watch(owner, name):
        method = getattr(owner, name)

        def watched(*args, **kwargs):
            if not n_inside:
                outside.append(name)
            return method(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    encoder = load(oracle)
    monkeypatch.setattr(torch_encoder, "_current", current)
    for name in ("to", "cpu", "backward"):
        watch(torch.Tensor, name)
    watch(torch_encoder.Projection, "prepared")
    encoder = encoder.copy({"final_norm.weight": np.ones(32, np.float32)})
    _, backprop = encoder.encode_train(PackedBatch.of([ids]))
    backprop(d_out)
    encoder.encode(PackedBatch.of([ids]))
    assert not outside
    torch.zeros(1).cpu()
    assert outside == ["cpu"]


# Copies


def test_a_copy_with_other_weights(oracle, ids):
    encoder = load(oracle)
    batch = PackedBatch.of([ids])
    before = encoder.encode(batch)
    ones, twos = np.ones(32, np.float32), torch.full((32,), 2.0)
    others = {"final_norm.weight": twos, "layers.1.mlp_norm.weight": ones}
    copied = encoder.copy(others)
    for name, tensor in encoder.tensors().items():
        wanted = np.asarray(others.get(name, tensor))
        np.testing.assert_array_equal(copied.tensors()[name], wanted)
        assert not np.shares_memory(copied.tensors()[name], tensor)
    twos.zero_()
    assert (copied.tensors()["final_norm.weight"] == 2).all()
    assert np.abs(copied.encode(batch) - before).max() > 0.1
    np.testing.assert_array_equal(encoder.encode(batch), before)


def test_predicting_keeps_nothing(oracle, ids):
    encoder, kept = load(oracle), []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda x: x):
        out = encoder.encode(PackedBatch.of([ids]))
    assert isinstance(out, np.ndarray) and out.dtype == np.float32
    assert not kept
