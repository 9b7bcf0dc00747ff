"""OpenVINO gives what transformers' ModernBertModel gives, and does not train."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from spacy_modernbert.encoder import backend
from spacy_modernbert.encoder.availability import multiplies_int8
from spacy_modernbert.encoder.backend import make_encoder, resolve_precision
from spacy_modernbert.encoder.checkpoint import load_config, open_tensors
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.steps import StepSettings, StepState
from spacy_modernbert.types import PackedBatch

from ...scripts import needs_forks, run_script
from ...util import require
from ..util import (
    SHAPES,
    assert_close,
    assert_hidden_states,
    assert_rows_near,
    cosines,
    draw,
    draw_batch,
    encoder_of,
    load,
    made_of,
    make_masked_lm,
    make_oracle,
    state,
    to_new_dialect,
)

ov = require("openvino", reason="needs OpenVINO")

from spacy_modernbert.encoder.openvino import encoder as openvino_encoder  # noqa: E402
from spacy_modernbert.encoder.openvino.encoder import ElementTypes, OpenVinoEncoder  # noqa: E402
from spacy_modernbert.encoder.predicting import count_threads  # noqa: E402

F32, BF16 = ov.Type.f32, ov.Type.bf16

LENGTHS = [1, 2, 63, 64, 65, 127, 128, 129, 255, 256, 257, 300]


@pytest.fixture(scope="module")
def encoder(oracle):
    """Compiled once. Nothing changes it."""
    return load(oracle, "openvino")


# Every length


@pytest.mark.parametrize("length", LENGTHS)
def test_alone(oracle, encoder, length):
    assert_hidden_states(encoder, oracle, [length])


def test_packed(oracle, encoder):
    assert_hidden_states(encoder, oracle, LENGTHS)


@pytest.mark.parametrize(
    "lengths", [[1] * 5, [1, 200, 1], [64, 64, 64], [128, 1], [700, 650, 1500, 20]]
)
def test_odd_packs(oracle, encoder, lengths):
    assert_hidden_states(encoder, oracle, lengths)


def test_in_any_company(oracle, encoder):
    """A sequence gives the same vectors alone, packed, first or last."""
    rng = np.random.default_rng(0)
    sequences, _ = draw(LENGTHS)
    alone = [encoder.encode(PackedBatch.of([ids])) for ids in sequences]
    order = rng.permutation(len(LENGTHS))
    batch = PackedBatch.of([sequences[i] for i in order])
    parts = np.split(encoder.encode(batch), batch.cu_seqlens[1:-1])
    for i, part in zip(order, parts, strict=True):
        np.testing.assert_allclose(part, alone[i], atol=1e-5)


def test_no_sequences(encoder):
    batch = PackedBatch(ids=np.zeros(0, np.int64), cu_seqlens=np.zeros(1, np.int32))
    assert encoder.encode(batch).shape == (0, 32)


def test_results_are_the_callers(encoder):
    """Running again does not write into them."""
    first, second = (draw_batch([100], seed) for seed in range(2))
    found = encoder.encode(first)
    kept = found.copy()
    encoder.encode(second)
    np.testing.assert_array_equal(found, kept)
    found[:] = 0


# Every shape of model


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_every_shape(changes):
    model = make_oracle(**changes)
    assert_hidden_states(load(model, "openvino"), model, [1, 40, 130, 300])


@pytest.mark.parametrize("make", [make_oracle, make_masked_lm])
@pytest.mark.parametrize("new_dialect", [False, True])
def test_every_layout(tmp_path, make, new_dialect):
    """Saved by transformers, read from the disk."""
    model = make(global_attn_every_n_layers=2, local_attention=32)
    model.save_pretrained(tmp_path)
    if new_dialect:
        to_new_dialect(tmp_path)
    config = load_config(tmp_path)
    encoder = OpenVinoEncoder(
        config, open_tensors(tmp_path, config), precision="float32"
    )
    assert_hidden_states(encoder, encoder_of(model), [1, 40, 130])


@pytest.mark.parametrize("kinds", ["ssf", "sss", "sff"])
def test_any_layer_types(kinds):
    """Only the new dialect can say it: torch is the oracle."""
    names = {"s": "sliding_attention", "f": "full_attention"}
    model = make_oracle(num_hidden_layers=3)
    changes = {"layer_types": [names[kind] for kind in kinds]}
    batch = draw_batch([1, 130, 300])
    found, wanted = (
        load(model, backend, changes=changes).encode(batch)
        for backend in ("openvino", "cpu")
    )
    assert_close(found, wanted, kinds)


# What the plugin makes of the graph


def test_what_is_fused(encoder):
    """No operation is left that there is a better one for."""
    compiled = encoder._make(n_threads=1)
    kinds = [
        node.get_rt_info()["layerType"].value
        for node in compiled.get_runtime_model().get_ops()
    ]
    n_layers = encoder.config.num_hidden_layers
    assert kinds.count("RoPE") == 2 * n_layers
    assert kinds.count("MVN") == 2 * n_layers + 1
    assert kinds.count("FullyConnected") == 7 * n_layers
    assert not {"MatMul", "Softmax", "SoftMax"} & set(kinds)


# Precision


HAS_BFLOAT16 = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.parametrize(
    "precision, hint",
    [
        ("float32", F32),
        pytest.param(
            "bfloat16",
            BF16,
            marks=pytest.mark.skipif(not HAS_BFLOAT16, reason="needs bfloat16"),
        ),
        ("auto", BF16 if HAS_BFLOAT16 else F32),
    ],
)
def test_precisions(oracle, encoder, precision, hint, monkeypatch):
    monkeypatch.setattr(backend, "multiplies_bfloat16", lambda: HAS_BFLOAT16)
    other = load(oracle, "openvino", precision)
    assert other._types == ElementTypes(hint, F32, quantized=False, group_size=0)
    batch = draw_batch([1, 130, 300])
    assert_rows_near(other.encode(batch), encoder.encode(batch), 0.999)


def test_precisions_that_are_not_there(oracle, monkeypatch):
    """OpenVINO would not say that it computes in another one."""
    for precision in ["float16"] + ["bfloat16"] * (not HAS_BFLOAT16):
        with pytest.raises(ValueError, match=f"no precision '{precision}' here"):
            load(oracle, "openvino", precision)
    # What the processor can do, and what OpenVINO makes of it, may differ.
    monkeypatch.setattr(backend, "multiplies_bfloat16", lambda: True)
    wanted = "bfloat16" if HAS_BFLOAT16 else "float32"
    assert resolve_precision("auto", "openvino") == wanted
    load(oracle, "openvino", "auto")


@pytest.mark.parametrize(
    "precision", ["float32"] + ["bfloat16"] * HAS_BFLOAT16 + ["auto"]
)
@pytest.mark.parametrize("amx", [False, True])
def test_quantized(oracle, encoder, precision, amx, monkeypatch):
    """Its weights are the exact ones all the same."""
    monkeypatch.setattr(openvino_encoder, "has_amx", lambda: amx)
    other = load(oracle, "openvino", precision, quantization={"bits": 8})
    batch = draw_batch([1, 130, 300])
    found, wanted = other.encode(batch), encoder.encode(batch)
    assert_rows_near(found, wanted, 0.995)
    assert cosines(found, wanted).min() < 0.999999
    np.testing.assert_array_equal(other.copy({}).encode(batch), found)
    for name, tensor in encoder.tensors().items():
        np.testing.assert_array_equal(other.tensors()[name], tensor)


def test_what_is_multiplied_in_which_type(monkeypatch):
    """Activations are quantized in graphs of float32 only."""
    config = ModernBertConfig()
    for amx in (False, True):
        monkeypatch.setattr(openvino_encoder, "has_amx", lambda amx=amx: amx)
        plain = {
            "float32": ElementTypes(F32, F32, quantized=False, group_size=0),
            "bfloat16": ElementTypes(BF16, F32, quantized=False, group_size=0),
        }
        for precision, wanted in plain.items():
            assert ElementTypes.of(config, precision, quantized=False) == wanted
        float32 = ElementTypes.of(config, "float32", quantized=True)
        assert float32 == ElementTypes(F32, F32, quantized=True, group_size=384)
        bfloat16 = ElementTypes.of(config, "bfloat16", quantized=True)
        wanted = (BF16, F32, True, 0) if amx else (F32, BF16, True, 384)
        assert bfloat16 == ElementTypes(*wanted)


@pytest.mark.parametrize(
    "hidden_size, intermediate_size, group_size",
    [
        (768, 1152, 384),
        (256, 384, 128),
        (1024, 2624, 256),  # whose widths have no large divisor in common
        (64, 96, 64),
        (72, 144, 64),  # a multiple of 16 at most
        (8, 16, 0),  # too few to be quantized
    ],
)
def test_groups_that_share_a_scale(hidden_size, intermediate_size, group_size):
    config = ModernBertConfig(
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_attention_heads=1,
    )
    assert ElementTypes.of(config, "float32", quantized=True).group_size == group_size


@pytest.mark.skipif(not multiplies_int8(), reason="needs products of int8")
def test_activations_are_quantized(oracle):
    """And not only the weights."""
    exact, grouped = (load(oracle, "openvino", quantization={"bits": 8}) for _ in "ab")
    exact._types = replace(exact._types, group_size=0)
    batch = draw_batch([300])
    found, wanted = (each.encode(batch) for each in (grouped, exact))
    assert_rows_near(found, wanted, 0.995)
    assert cosines(found, wanted).min() < 0.999999


@pytest.mark.skipif(not HAS_BFLOAT16, reason="needs bfloat16")
def test_attention_in_another_type_than_the_rest(oracle, encoder):
    """In float32 without quantization, so that it alone makes a difference."""
    other = load(oracle, "openvino")
    other._types = replace(other._types, attention=BF16)
    batch = draw_batch([1, 130, 300])
    found, wanted = other.encode(batch), encoder.encode(batch)
    assert_rows_near(found, wanted, 0.999)
    assert cosines(found, wanted).min() < 0.999999


def test_a_row_of_zeros_is_quantized(oracle, encoder):
    name = "layers.1.mlp.Wo.weight"
    others = {name: np.zeros_like(encoder.tensors()[name])}
    quantized = OpenVinoEncoder(
        encoder.config,
        {**state(oracle), **others},
        precision="float32",
        quantization={"bits": 8},
    )
    assert np.isfinite(quantized.encode(draw_batch([10]))).all()


@pytest.mark.parametrize("quantization", [{"bits": 4}, {"bits": 8, "group_size": 32}])
def test_quantizations_of_others(oracle, quantization):
    message = r"'openvino' has no quantization .* {\"bits\": 8}"
    with pytest.raises(ValueError, match=message):
        load(oracle, "openvino", quantization=quantization)


# Weights


def test_tensors_are_those_that_went_in(oracle, encoder):
    tensors = encoder.tensors()
    assert list(tensors) == list(state(oracle))
    for name, tensor in state(oracle).items():
        np.testing.assert_array_equal(tensors[name], tensor)
        assert not np.shares_memory(tensors[name], tensor)
        assert not tensors[name].flags.writeable


def test_a_copy_with_other_weights(oracle, encoder):
    batch = draw_batch([100])
    before = encoder.encode(batch)
    others = {"final_norm.weight": np.full(32, 2.0, np.float32)}
    copied = encoder.copy(others)
    for name, tensor in encoder.tensors().items():
        np.testing.assert_array_equal(copied.tensors()[name], others.get(name, tensor))
    assert np.abs(copied.encode(batch) - before).max() > 0.1
    np.testing.assert_array_equal(encoder.encode(batch), before)


def test_copies_share_what_is_the_same(encoder):
    name = "final_norm.weight"
    ones = torch.ones(32)
    copied = encoder.copy({name: ones})
    ones.zero_()
    for other, tensor in copied.tensors().items():
        shared = np.shares_memory(tensor, encoder.tensors()[other])
        assert shared == (other != name)
    assert (copied.tensors()[name] == 1).all()
    encoder.encode(draw_batch([10]))
    assert made_of(encoder.copy({})) is made_of(encoder) is not None
    assert made_of(copied) is None


def test_another_backend_takes_over(encoder):
    """As the shim does when a pipeline is to train."""
    batch = draw_batch([1, 100])
    other = make_encoder(
        encoder.config, encoder.tensors(), backend="cpu", precision="float32"
    )
    assert_close(other.encode(batch), encoder.encode(batch), "hidden states")


# It predicts only


def test_it_cannot_train(encoder):
    assert not encoder.can_train
    batch = draw_batch([10])
    state = StepState({}, {}, {}, None)
    for train in (
        lambda: encoder.encode_train(batch),
        lambda: encoder.step(StepSettings(0.1), state),
        lambda: encoder.update(lambda *args: pytest.fail("called")),
    ):
        with pytest.raises(ValueError, match="'openvino' can only predict"):
            train()
    assert not encoder.has_gradients
    assert encoder.device == "openvino:CPU"


# Threads and processes


def test_it_has_the_threads_of_torch(oracle):
    encoder = load(oracle, "openvino")
    before = torch.get_num_threads()
    batch = draw_batch([100])
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            encoder.encode(batch)
            made_for, compiled = made_of(encoder)
            found = compiled.get_property("INFERENCE_NUM_THREADS")
            assert found == made_for == n_threads
    finally:
        torch.set_num_threads(before)


def test_without_torch_it_has_as_many_threads_as_it_likes(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    assert count_threads() == 0


def test_threads_that_encode_at_once(encoder):
    batches = [draw_batch([length, 20]) for length in (30, 90, 150, 200) * 3]
    wanted = [encoder.encode(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, alone in zip(pool.map(encoder.encode, batches), wanted, strict=True):
            np.testing.assert_allclose(found, alone, atol=1e-6)


FORK = """
import gc, multiprocessing, os, signal, sys, threading
import numpy as np
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.openvino.encoder import OpenVinoEncoder
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.types import PackedBatch

config = ModernBertConfig(vocab_size=30, hidden_size=8, intermediate_size=8,
    num_attention_heads=2, num_hidden_layers=2, pad_token_id=3,
    layer_types=("full_attention", "sliding_attention"))
encoder = OpenVinoEncoder(config, init_tensors(config, seed=0), precision="float32")
batch = PackedBatch(np.arange(20), np.array([0, 5, 20], np.int32))
if sys.argv[1] == "after":
    encoder.encode(batch)
    # To let go of it, without having used it, is not to wait for the parent's threads,
    # nor is to end as a script does, and web servers' workers do.
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        del encoder
        gc.collect()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
forked = threading.Event()
if sys.argv[1] == "meanwhile":
    # A thread that compiles, and is in no fork.
    compile_now, begun, parent = encoder._make, threading.Event(), os.getpid()
    def compile_slowly(n_threads):
        if os.getpid() == parent:
            begun.set()
            forked.wait()
        return compile_now(n_threads)
    encoder._make = compile_slowly
    threading.Thread(target=encoder.encode, args=(batch,)).start()
    begun.wait()

def work(queue):
    queue.put(encoder.encode(batch))

context = multiprocessing.get_context("fork")
queue = context.Queue()
workers = [context.Process(target=work, args=(queue,)) for _ in range(2)]
for worker in workers:
    worker.start()
forked.set()
for worker in workers:
    np.testing.assert_allclose(queue.get(timeout=60), encoder.encode(batch), atol=1e-6)
for worker in workers:
    worker.join(60)
    assert worker.exitcode == 0
"""


@needs_forks
@pytest.mark.parametrize("forked", ["before", "after", "meanwhile"])
def test_a_fork_compiles_its_own(forked):
    """Before, during or after the first use. The parent's threads are not there."""
    run_script(FORK, forked, timeout=120)
