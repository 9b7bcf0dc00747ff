"""The oracles are transformers' ModernBertModel and the encoder in torch."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from spacy_modernbert.encoder.checkpoint import (
    load_config,
    open_tensors,
    save_checkpoint,
)
from spacy_modernbert.encoder.mlx import encoder as mlx_encoder
from spacy_modernbert.encoder.protocol import EncoderOutOfMemory
from spacy_modernbert.encoder.quantize import QuantizedTensors, Scheme, quantize
from spacy_modernbert.encoder.steps import StepSettings, StepState
from spacy_modernbert.encoder.weights import expected_shapes
from spacy_modernbert.types import PackedBatch

from ...scripts import FORKS, needs_forks, run_script
from ...util import gradients_of
from ..util import (
    DROPOUTS,
    SHAPES,
    assert_close,
    assert_gradients_near,
    assert_rows_near,
    cosines,
    draw,
    draw_batch,
    in_place,
    into_new_arrays,
    make_byte_tokenizer,
    make_irregular,
    make_oracle,
    run_oracle,
    state,
)
from .util import assert_gradients, assert_parity, load, mx

from spacy_modernbert.encoder.mlx import model as mlx_model  # isort: skip

# To either side of what may go wrong: one wordpiece, the edges of the local window
# and of a block, lengths at which padding has made others' rows NaN.
LENGTHS = [1, 2, 63, 64, 65, 127, 128, 129, 255, 256, 257, 320]


@pytest.fixture(scope="module")
def smooth():
    """Weights of a usual size: rounding them moves the hidden states a little."""
    return make_oracle(
        hidden_size=64, intermediate_size=96, initializer_range=0.06, seed=1
    )


# Parity


@pytest.mark.parametrize("length", LENGTHS)
def test_alone(oracle, length):
    assert_parity(load(oracle), oracle, [length])


def test_packed(oracle):
    assert_parity(load(oracle), oracle, LENGTHS)


def test_as_torch(oracle):
    batch = draw_batch(LENGTHS)
    encoders = load(oracle), load(oracle, backend="cpu")
    found, wanted = (encoder.encode(batch) for encoder in encoders)
    assert_close(found, wanted, "hidden states")


@pytest.mark.slow
def test_8192():
    """A layer of each kind. Positions are exact up to there, and queries are cut."""
    model = make_oracle(
        hidden_size=16,
        intermediate_size=16,
        num_attention_heads=1,
        num_hidden_layers=2,
    )
    batch = draw_batch([8192])
    encoders = load(model), load(model, backend="cpu")
    found, wanted = (encoder.encode(batch) for encoder in encoders)
    assert_close(found, wanted, "hidden states")


def test_long_sequences_are_attended_in_parts(oracle, monkeypatch):
    """Whatever the size of a part, forward and backward."""
    monkeypatch.setattr(mlx_model, "_QUERIES", 50)
    assert_parity(load(oracle), oracle, [1, 49, 50, 51, 130])


@pytest.mark.parametrize("lengths", [[1] * 5, [1, 200, 1], [64, 64, 64], [128, 1]])
def test_packed_as_alone(oracle, lengths):
    sequences, _ = draw(lengths)
    encoder = load(oracle)
    batch = PackedBatch.of(sequences)
    parts = np.split(encoder.encode(batch), batch.cu_seqlens[1:-1])
    for ids, part in zip(sequences, parts, strict=True):
        np.testing.assert_allclose(
            part, encoder.encode(PackedBatch.of([ids])), atol=1e-5
        )


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_every_shape(changes):
    model = make_oracle(**changes)
    assert_parity(load(model), model, [1, 40, 130])


def test_irregular_layer_types():
    model, changes = make_irregular()
    assert_parity(load(model, changes=changes), model, [1, 130, 300])


def test_no_sequences(oracle):
    batch = PackedBatch(ids=np.zeros(0, np.int64), cu_seqlens=np.zeros(1, np.int32))
    encoder = load(oracle)
    assert encoder.encode(batch).shape == (0, 32)
    out, backprop = encoder.encode_train(batch)
    assert out.shape == (0, 32)
    backprop(out)


# Precision


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision(smooth, precision):
    """Also where padding would have made rows NaN, and in training."""
    sequences, d_outs = draw(LENGTHS, width=64)
    batch = PackedBatch.of(sequences)
    wanted, gradients = run_oracle(smooth, sequences, d_outs)
    encoder = load(smooth, precision=precision)
    found = encoder.encode(batch)
    assert_rows_near(found, np.concatenate(wanted), 0.999)
    # So small that most of it would be 0 in float16.
    _, backprop = encoder.encode_train(batch)
    backprop(1e-6 * np.concatenate(d_outs))
    found = {name: 1e6 * gradient for name, gradient in gradients_of(encoder).items()}
    assert_gradients_near(found, gradients, 0.99)
    # What is trained and saved is not rounded.
    for name, tensor in state(smooth).items():
        np.testing.assert_array_equal(encoder.tensors()[name], tensor)


# Training


def test_gradients_add_up_over_batches(oracle):
    """Whatever the order of the backward passes."""
    sequences, d_outs = draw([1, 65, 130])
    _, gradients = run_oracle(oracle, sequences, d_outs)
    encoder = load(oracle)
    passes = [encoder.encode_train(PackedBatch.of([ids]))[1] for ids in sequences]
    for i in (2, 0, 1):
        passes[i](d_outs[i])
        encoder.encode(PackedBatch.of(sequences))
    assert_gradients(encoder, gradients)


def test_the_embedding_of_padding_never_learns(oracle):
    ids = np.array([1, 3, 7, 3, 2])
    _, d_outs = draw([5])
    _, gradients = run_oracle(oracle, [ids], d_outs)
    encoder = load(oracle)
    _, backprop = encoder.encode_train(PackedBatch.of([ids]))
    backprop(d_outs[0])
    assert_gradients(encoder, gradients)
    assert not gradients_of(encoder)["embeddings.tok_embeddings.weight"][3].any()


@pytest.mark.parametrize("n", range(5))
def test_frozen_layers(oracle, n):
    """No gradient, and nothing is kept for one."""
    sequences, d_outs = draw([70])
    _, gradients = run_oracle(oracle, sequences, d_outs)
    encoder = load(oracle, frozen_layers=n)
    _, backprop = encoder.encode_train(PackedBatch.of(sequences))
    (trained,) = (
        cell.cell_contents
        for cell in backprop.__closure__
        if isinstance(cell.cell_contents, list)
    )
    assert len(trained) == 6 - n - (n > 0)
    backprop(d_outs[0])
    rooms = ["embeddings.", *(f"layers.{i}." for i in range(n))] if n else []
    frozen = {name for name in gradients if name.startswith(tuple(rooms))}
    assert frozen or n == 0
    assert set(encoder._gradients) == set(gradients) - frozen
    wanted = {k: v * (k not in frozen) for k, v in gradients.items()}
    assert_gradients(encoder, wanted)


@pytest.mark.parametrize("optimizer", [in_place, into_new_arrays])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_update_moves_every_weight(oracle, optimizer, precision):
    """And no weight of a copy, with which it shares memory."""
    sequences, d_outs = draw([70])
    batch = PackedBatch.of(sequences)
    encoder = load(oracle, precision=precision)
    copied, before = encoder.copy({}), encoder.encode(batch)
    _, backprop = encoder.encode_train(batch)
    backprop(d_outs[0])
    gradients = gradients_of(encoder)
    encoder.update(optimizer)
    for name, tensor in state(oracle).items():
        wanted = tensor - np.float32(0.01) * gradients[name]
        np.testing.assert_allclose(encoder.tensors()[name], wanted, atol=1e-7)
        np.testing.assert_array_equal(copied.tensors()[name], tensor)
    assert np.abs(encoder.encode(batch) - before).max() > 1e-3
    np.testing.assert_array_equal(copied.encode(batch), before)
    assert not any(gradient.any() for gradient in gradients_of(encoder).values())
    encoder.update(lambda *args: pytest.fail("called"))


@pytest.mark.parametrize("kind", DROPOUTS)
def test_dropout_is_for_training(oracle, kind):
    batch = draw_batch([70])
    encoder = load(oracle, changes={kind: DROPOUTS[kind]})
    plain = load(oracle).encode(batch)
    random.seed(0)
    first, _ = encoder.encode_train(batch)
    second, _ = encoder.encode_train(batch)
    assert np.abs(first - second).max() > 0.1
    random.seed(0)
    np.testing.assert_array_equal(encoder.encode_train(batch)[0], first)
    np.testing.assert_array_equal(encoder.encode(batch), plain)


def test_what_is_recomputed_drops_out_as_before(smooth, monkeypatch):
    """By the slope of a random projection of the output, in a random direction."""
    monkeypatch.setattr(mlx_model, "_QUERIES", 30)
    sequences, d_outs = draw([70], width=64)
    batch, name = PackedBatch.of(sequences), "layers.1.attn.Wqkv.weight"
    encoder = load(smooth, changes=DROPOUTS)
    direction = np.random.default_rng(2).standard_normal((192, 64)).astype(np.float32)

    def project(step):
        random.seed(0)
        moved = encoder.copy({name: encoder.tensors()[name] + step * direction})
        return float((moved.encode_train(batch)[0] * d_outs[0]).sum(dtype=np.float64))

    random.seed(0)
    _, backprop = encoder.encode_train(batch)
    backprop(d_outs[0])
    slope = float((gradients_of(encoder)[name] * direction).sum())
    measured = (project(1e-3) - project(-1e-3)) / 2e-3
    assert measured == pytest.approx(slope, rel=0.02)


# Weights


def test_tensors_are_those_that_went_in(oracle):
    tensors = load(oracle).tensors()
    assert list(tensors) == list(state(oracle)) and len(tensors) == len(state(oracle))
    for name, tensor in state(oracle).items():
        np.testing.assert_array_equal(tensors[name], tensor)
        tensors[name][...] = 0  # a copy
        np.testing.assert_array_equal(tensors[name], tensor)
    with pytest.raises(KeyError):
        tensors["layers.0.attn_norm.weight"]


def test_a_copy_with_other_weights(oracle):
    encoder, batch = load(oracle), draw_batch([70])
    before = encoder.encode(batch)
    twos, ones = np.full(32, 2, np.float32), mx.ones(32)
    others = {"final_norm.weight": twos, "layers.1.mlp_norm.weight": ones}
    copied = encoder.copy(others)
    twos[...] = 0
    assert (copied.tensors()["final_norm.weight"] == 2).all()
    assert (copied.tensors()["layers.1.mlp_norm.weight"] == 1).all()
    assert np.abs(copied.encode(batch) - before).max() > 0.1
    np.testing.assert_array_equal(encoder.encode(batch), before)


def test_the_cache_of_mlx_is_bounded(oracle, monkeypatch):
    monkeypatch.setattr(mlx_encoder, "_CACHE_BYTES", 100_000)
    encoder = load(oracle)
    for length in range(60, 300, 20):
        encoder.encode(draw_batch([length]))
        assert mx.get_cache_memory() <= 100_000


# Quantized


@pytest.mark.parametrize("bits, least", [(8, 0.999), (4, 0.95)])
@pytest.mark.parametrize("group_size", [32, 64])
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_quantized(smooth, bits, least, group_size, precision, record_property):
    sequences, d_outs = draw([1, 40, 130], width=64)
    wanted, _ = run_oracle(smooth, sequences, d_outs)
    quantization = {"bits": bits, "group_size": group_size}
    encoder = load(smooth, precision=precision, quantization=quantization)
    hidden, wanted = encoder.encode(PackedBatch.of(sequences)), np.concatenate(wanted)
    found = cosines(hidden, wanted)
    record_property("cosine", f"mean {found.mean():.6f}, least {found.min():.6f}")
    assert_rows_near(hidden, wanted, least)
    # As by torch, with the weights that these stand for.
    if precision == "float32":
        other = mlx_encoder.MLXEncoder(encoder.config, dict(encoder.tensors()))
        batch = PackedBatch.of(sequences)
        assert_close(encoder.encode(batch), other.encode(batch), "hidden states")


def test_a_quantized_encoder_is_saved_as_it_is(smooth, tmp_path):
    """And goes from file to file, and to a copy, without a loss."""
    encoder = load(smooth, quantization={"bits": 8})
    batch = draw_batch([1, 40])
    wanted = encoder.encode(batch)
    for i in range(2):
        tensors = encoder.tensors()
        assert isinstance(tensors, QuantizedTensors)
        text = make_byte_tokenizer().to_str()
        save_checkpoint(tmp_path / str(i), encoder.config, tensors, text)
        tensors = open_tensors(tmp_path / str(i), load_config(tmp_path / str(i)))
        encoder = mlx_encoder.MLXEncoder(encoder.config, tensors)
        np.testing.assert_array_equal(encoder.encode(batch), wanted)
    files = [(tmp_path / i / "model.safetensors").read_bytes() for i in ("0", "1")]
    assert files[0] == files[1]
    np.testing.assert_array_equal(encoder.copy({}).encode(batch), wanted)


def test_what_is_quantized_otherwise_is_quantized_again(smooth):
    """And what is quantized as it is asked for, in groups of any size if none is named,
    is left as it is.
    """
    eight = load(smooth, quantization={"bits": 8, "group_size": 32})
    words = eight._weights["layers.0.attn.Wqkv.weight"]
    for asked, wanted in (
        ({"bits": 4}, (4, 64)),
        ({"bits": 4, "group_size": 32}, (4, 32)),
        ({"bits": 8, "group_size": 64}, (8, 64)),
        ({"bits": 8, "group_size": 32}, (8, 32)),
        ({"bits": 8}, (8, 32)),
    ):
        encoder = mlx_encoder.MLXEncoder(
            eight.config, eight.tensors(), quantization=asked
        )
        for each in (encoder, encoder.copy({})):
            schemes = each.tensors().schemes
            assert {(s.bits, s.group_size) for s in schemes.values()} == {wanted}
            found = each._weights["layers.0.attn.Wqkv.weight"]
            is_same = found.shape == words.shape and bool((found == words).all())
            assert is_same == (wanted == (8, 32))


def test_what_is_not_quantized_yet_is(smooth):
    config = load(smooth).config
    shapes = expected_shapes(config)
    floats = load(smooth).tensors()
    path = "layers.0.attn.Wqkv.weight"
    some = QuantizedTensors(
        shapes,
        {path: Scheme(8, 64)},
        quantized=lambda name: quantize(floats[name], Scheme(8, 64)),
        plain=floats.__getitem__,
    )
    assert set(mlx_encoder.MLXEncoder(config, some).tensors().schemes) == {path}
    encoder = mlx_encoder.MLXEncoder(config, some, quantization={"bits": 8})
    wanted = load(smooth, quantization={"bits": 8})
    assert encoder.tensors().schemes == wanted.tensors().schemes
    batch = draw_batch([1, 40])
    np.testing.assert_array_equal(encoder.encode(batch), wanted.encode(batch))


def test_groups_that_would_fit_nothing_are_not_asked_for(oracle):
    """Of an encoder that is 32 wide, and quantized already."""
    eight = load(oracle, quantization={"bits": 8, "group_size": 32})
    encoder = mlx_encoder.MLXEncoder(
        eight.config, eight.tensors(), quantization={"bits": 8}
    )
    assert encoder.tensors().schemes == eight.tensors().schemes


def test_quantized_weights_are_not_made_floats(smooth):
    encoder = load(smooth, quantization={"bits": 8, "group_size": 32})
    n_bytes = sum(array.nbytes for array in encoder._weights.values())
    floats = sum(tensor.nbytes for tensor in state(smooth).values())
    assert n_bytes <= 0.35 * floats


def test_quantized_weights_do_not_train(smooth):
    batch = draw_batch([5])
    encoder = load(smooth, quantization={"bits": 8})
    assert not encoder.can_train and load(smooth).can_train
    for train in (
        lambda each: each.encode_train(batch),
        lambda each: each.step(None, None),
        lambda each: each.update(in_place),
    ):
        with pytest.raises(ValueError, match=r"quantization = \{'bits': 8\}"):
            train(encoder)
        other = mlx_encoder.MLXEncoder(encoder.config, encoder.tensors())
        with pytest.raises(ValueError, match=r"8 bits.*--bits 32"):
            train(other)


def test_a_group_that_fits_nothing(oracle):
    with pytest.raises(ValueError, match="multiple of 64"):
        load(oracle, quantization={"bits": 8})  # which is 32 wide


# Threads, forks, imports


def test_threads(oracle):
    """Weights are shared, and whoever trains does so on his own, after all of them."""
    sequences, d_outs = draw([5, 40, 70, 130] * 3)
    encoder = load(oracle, precision="float32")
    wanted = [load(oracle).encode(PackedBatch.of([ids])) for ids in sequences]
    _, gradients = run_oracle(oracle, sequences, d_outs)

    def predict(ids):
        return encoder.encode(PackedBatch.of([ids]))

    def train(both):
        _, backprop = encoder.encode_train(PackedBatch.of([both[0]]))
        return backprop

    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(pool.map(predict, sequences), wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        pairs = list(zip(sequences, d_outs, strict=True))
        ways = list(pool.map(train, pairs))
        # Each way back in whatever thread is free.
        list(pool.map(lambda pair: pair[0](pair[1]), zip(ways, d_outs, strict=True)))
    assert_gradients(encoder, gradients)


def test_nothing_is_compiled_for_a_gpu(oracle, monkeypatch):
    """In some releases, the process ends with the first thread that has compiled."""
    encoder = load(oracle)
    monkeypatch.setattr(mx, "default_device", lambda: SimpleNamespace(type=mx.gpu))
    monkeypatch.setattr(mx, "compile", lambda *args, **kwargs: pytest.fail("compiled"))
    encoder.encode(draw_batch([5]))


# Interruptions


def interrupt_at(monkeypatch, place, nth):
    """Has a function of the encoder's module raise when it is called so often."""
    function, calls = getattr(mlx_encoder, place), []

    def interrupted(*args, **kwargs):
        calls.append(None)
        if len(calls) == nth:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    monkeypatch.setattr(mlx_encoder, place, interrupted)


def test_an_interrupted_backward_pass_adds_nothing(oracle, monkeypatch):
    (ids,), (d_out,) = draw([40])
    encoder = load(oracle)
    _, backprop = encoder.encode_train(PackedBatch.of([ids]))
    backprop(d_out)
    before = gradients_of(encoder)
    _, backprop = encoder.encode_train(PackedBatch.of([ids]))
    interrupt_at(monkeypatch, "_pull_back", 3)
    with pytest.raises(KeyboardInterrupt):
        backprop(d_out)
    for name, gradient in gradients_of(encoder).items():
        np.testing.assert_array_equal(gradient, before[name], name)


def test_of_an_interrupted_update_no_weight_is_stepped_twice(oracle):
    (ids,), (d_out,) = draw([40])
    encoder = load(oracle)
    _, backprop = encoder.encode_train(PackedBatch.of([ids]))
    backprop(d_out)
    stepped = []

    def step(name, weights, gradient):
        if len(stepped) == 3:
            stepped.append(name)
            raise KeyboardInterrupt
        stepped.append(name)
        return weights, gradient

    with pytest.raises(KeyboardInterrupt):
        encoder.update(step)
    encoder.update(step)
    assert len(stepped) == len(set(stepped)) > 4


def test_of_an_interrupted_step_nothing_is_taken_again(oracle, monkeypatch):
    (ids,), (d_out,) = draw([40])
    encoder = load(oracle)
    _, backprop = encoder.encode_train(PackedBatch.of([ids]))
    backprop(d_out)
    interrupt_at(monkeypatch, "take_step", 1)
    with pytest.raises(KeyboardInterrupt):
        encoder.step(StepSettings(learn_rate=0.1), StepState({}, {}, {}, None))
    assert not encoder.has_gradients


# Two forks: on the CPU, and of a process that believes to be on a GPU.
FORK = """
import numpy as np
from spacy_modernbert.encoder.mlx import encoder as mlx_encoder
from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.types import PackedBatch

config = ModernBertConfig.from_dict({
    "model_type": "modernbert", "vocab_size": 300, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "pad_token_id": 3,
})
encoder = make_encoder(config, init_tensors(config, 0), backend="mlx")
batch = PackedBatch(np.arange(4, 60), np.array([0, 20, 56], np.int32))
wanted = encoder.encode(batch)

class Fake:
    type = mlx_encoder.mx.gpu

def works():
    found = encoder.encode(batch)
    _, backprop = encoder.encode_train(batch)
    backprop(found)
    assert (found == wanted).all()

def is_refused():
    try:
        encoder.encode(batch)
    except RuntimeError as error:
        assert "spawn" in str(error)
    else:
        raise AssertionError("it was not refused")

for run in (works, is_refused):
    if run is is_refused:
        mlx_encoder.mx.default_device = Fake
    assert fork(run) == 0
    assert (encoder.encode(batch) == wanted).all()
"""


@needs_forks
def test_a_fork_after_use():
    """On the CPU it works; on a GPU, where it cannot, the message says what to do."""
    if mx.default_device().type != mx.cpu:
        pytest.skip("MLX is on a GPU here")
    run_script(FORKS + FORK)


IMPORTS = """
import json, sys
import spacy, spacy_modernbert
here = lambda *names: sorted(name for name in names if name in sys.modules)
found = [here("mlx", "mlx.core")]
nlp = spacy.blank("en")
tok2vec = {"name": sys.argv[1], "backend": "mlx"}
nlp.add_pipe("modernbert_ner", config={"model": {"tok2vec": tok2vec}})
found.append(here("mlx", "mlx.core"))
from tests.util import make_examples
nlp.initialize(lambda: make_examples(nlp, 1))
nlp("Anna Berg went to Oslo.")
ours = "spacy_modernbert.encoder."
found.append(here("mlx.core", ours + "torch.encoder", ours + "mlx.encoder"))
print(json.dumps(found))
"""


def test_it_imports_its_own(checkpoint):
    """When it is initialized, and nothing of ours that needs torch; torch itself is
    there all the same, since Thinc imports it where it is installed.
    """
    wanted = ["mlx.core", "spacy_modernbert.encoder.mlx.encoder"]
    assert json.loads(run_script(IMPORTS, checkpoint)) == [[], [], wanted]


# Memory


@pytest.mark.parametrize(
    "message",
    [
        "[METAL] Command buffer execution failed: Insufficient Memory "
        "(kIOGPUCommandBufferCallbackErrorOutOfMemory)",
        "[metal::malloc] Attempting to allocate 1000 bytes",
        "[malloc_async] Unable to allocate 1000 bytes.",
        "cudaMallocAsync(&data, size, stream) failed: out of memory",
        "Something else",
    ],
)
def test_memory_that_is_short(oracle, monkeypatch, message):
    """In a pass, on the way there or back: a smaller one may be tried."""
    encoder, batch = load(oracle), draw_batch([5, 30])
    wanted = encoder.encode(batch)
    gradient = np.ones_like(wanted)
    _, backprop = encoder.encode_train(batch)
    backprop(gradient)
    before = gradients_of(encoder)

    def refuse(*args):
        raise RuntimeError(message)

    error = RuntimeError if message == "Something else" else EncoderOutOfMemory
    _, backprop = encoder.encode_train(batch)
    with monkeypatch.context() as patched:
        patched.setattr(mx, "eval", refuse)
        patched.setattr(mlx_encoder, "_to_numpy", refuse)
        for run in (
            lambda: encoder.encode(batch),
            lambda: encoder.encode_train(batch),
            lambda: backprop(gradient),
        ):
            with pytest.raises(error, match=r"35 wordpieces in 2|Something else"):
                run()
    np.testing.assert_array_equal(encoder.encode(batch), wanted)
    for name, array in gradients_of(encoder).items():
        np.testing.assert_array_equal(array, before[name])
