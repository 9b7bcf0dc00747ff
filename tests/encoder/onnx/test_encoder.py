"""ONNX Runtime gives what transformers' ModernBertModel gives."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from spacy_modernbert.encoder.availability import find_onnx_provider, multiplies_int8
from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.int8 import round_rows
from spacy_modernbert.encoder.steps import StepSettings, StepState
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.types import PackedBatch

from ...scripts import FORKS, needs_forks, run_script
from ...util import require
from ..util import (
    SHAPES,
    assert_close,
    assert_hidden_states,
    assert_rows_near,
    draw,
    draw_batch,
    hidden_states,
    load,
    made_of,
    make_irregular,
    make_oracle,
    state,
)

require("onnx", reason="needs the extra onnx")
onnxruntime = require("onnxruntime", reason="needs the extra onnx")

LENGTHS = [1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 160]
LENGTHS += [192, 255, 256, 257, 288, 512, 1000]


@pytest.fixture(scope="module", autouse=True)
def on_the_processor():
    """Also where there is a GPU, whose last bits differ."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"]
        )
        yield


@pytest.fixture(scope="module")
def encoder(oracle, on_the_processor):
    return load(oracle, "onnx")


# Every length


def test_alone(oracle, encoder):
    for length in LENGTHS:
        assert_hidden_states(encoder, oracle, [length])


def test_packed(oracle, encoder):
    assert_hidden_states(encoder, oracle, LENGTHS)
    assert_hidden_states(encoder, oracle, LENGTHS[::-1])


@pytest.mark.parametrize("lengths", [[1] * 5, [1, 200, 1], [64, 64, 64], [128, 1]])
def test_odd_packs(oracle, encoder, lengths):
    assert_hidden_states(encoder, oracle, lengths)


def test_beyond_8192_positions_is_a_matter_of_the_caller(oracle, encoder):
    """torch is the oracle, which transformers is up to there: it would hold a mask of
    9,000 x 9,000. At the last position, an angle is thousands of radians.
    """
    batch = draw_batch([9000])
    assert_close(encoder.encode(batch), load(oracle).encode(batch), "hidden states")


def test_no_sequences(encoder):
    batch = PackedBatch(ids=np.zeros(0, np.int64), cu_seqlens=np.zeros(1, np.int32))
    assert encoder.encode(batch).shape == (0, 32)


# Every shape of model


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_every_shape(changes):
    model = make_oracle(**changes)
    assert_hidden_states(load(model, "onnx"), model, [1, 40, 130, 300])


def test_irregular_layer_types():
    model, changes = make_irregular()
    encoder = load(model, "onnx", changes=changes)
    assert_hidden_states(encoder, model, [1, 130, 300])


# Eight bits, and others


def test_eight_bits(oracle):
    model = make_oracle(hidden_size=64, intermediate_size=96, initializer_range=0.05)
    sequences, _ = draw([1, 65, 129, 300])
    wanted = hidden_states(model, sequences)
    encoder = load(model, "onnx", quantization={"bits": 8})
    found = encoder.encode(PackedBatch.of(sequences))
    assert_rows_near(found, wanted, 0.999)
    assert np.abs(found - wanted).max() > 1e-4  # it is quantized
    for name, tensor in state(model).items():
        np.testing.assert_array_equal(encoder.tensors()[name], tensor)


def load_eight_bits(model, monkeypatch, is_signed):
    monkeypatch.setattr(
        "spacy_modernbert.encoder.onnx.encoder.multiplies_int8", lambda: is_signed
    )
    return load(model, "onnx", quantization={"bits": 8})


@pytest.mark.parametrize("is_signed", [False, True])
def test_eight_bits_alone_and_packed(monkeypatch, is_signed):
    """Beside one that is far larger than the others, too, and of wordpieces that the
    table has nothing for.
    """
    model = make_oracle(
        hidden_size=64, attention_bias=True, mlp_bias=True, initializer_range=0.05
    )
    with torch.no_grad():
        model.embeddings.tok_embeddings.weight[3] *= 100
        model.embeddings.tok_embeddings.weight[5] = 0
    encoder = load_eight_bits(model, monkeypatch, is_signed)
    sequences, _ = draw([40, 1, 130])
    sequences += [np.full(9, 3), np.full(9, 5)]
    packed = encoder.encode(PackedBatch.of(sequences))
    alone = [encoder.encode(PackedBatch.of([each])) for each in sequences]
    np.testing.assert_allclose(packed, np.concatenate(alone), atol=1e-5)
    wanted = hidden_states(model, sequences)
    assert_rows_near(packed[:171], wanted[:171], 0.999)


def test_eight_bits_signed_and_unsigned(monkeypatch):
    """Where no sum overflows, they are the same: that of the weights as they were
    rounded, but for the rounding of what they are multiplied with.
    """
    model = make_oracle(hidden_size=64, intermediate_size=96, initializer_range=0.05)
    batch = draw_batch([70, 300])
    signed, unsigned = (
        load_eight_bits(model, monkeypatch, is_signed).encode(batch)
        for is_signed in (True, False)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                rounded, scale = round_rows(parameter.numpy())
                parameter.copy_(torch.from_numpy(rounded * scale))
    assert_rows_near(unsigned, load(model, "onnx").encode(batch), 0.9995)
    if not multiplies_int8():
        pytest.skip("sums of int8 overflow on this processor")
    np.testing.assert_allclose(signed, unsigned, atol=1e-5)


@pytest.mark.parametrize(
    "quantization", [{"bits": 4}, {"bits": 8, "group_size": 64}], ids=str
)
def test_other_quantizations_are_refused(oracle, quantization):
    message = r"'onnx' has no quantization .* {\"bits\": 8}"
    with pytest.raises(ValueError, match=message):
        load(oracle, "onnx", quantization=quantization)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_precisions_that_a_processor_does_not_have(oracle, precision):
    with pytest.raises(ValueError, match=f"'onnx' has no precision '{precision}'"):
        load(oracle, "onnx", precision)


@pytest.mark.parametrize(
    "provider", ["CUDAExecutionProvider", "CoreMLExecutionProvider"]
)
def test_the_provider_of_a_precision(provider, monkeypatch):
    found = [provider, "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: found)
    assert find_onnx_provider("float16") == provider
    # CoreML computes in float16, whatever the graph says.
    is_exact = provider == "CUDAExecutionProvider"
    assert (find_onnx_provider("float32") == provider) == is_exact
    # Only processors have kernels for 8 bits.
    found_for_int8 = find_onnx_provider("float32", quantized=True)
    assert found_for_int8 == "CPUExecutionProvider"


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_does_not_start(oracle, monkeypatch):
    """As that of CUDA without its libraries: the processor would do all, in silence."""
    if (
        "CUDAExecutionProvider"
        in onnxruntime.capi._pybind_state.get_available_providers()
    ):
        pytest.skip("CUDA is there")
    found = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: found)
    with pytest.raises(ValueError, match="CUDAExecutionProvider, which does not start"):
        load(oracle, "onnx").encode(draw_batch([5]))
    quantized = load(oracle, "onnx", quantization={"bits": 8})
    assert quantized.device == "onnx:CPUExecutionProvider"
    assert np.isfinite(quantized.encode(draw_batch([5]))).all()


def test_of_two_gpus_the_current_one(oracle, monkeypatch):
    """The one that the encoder is made on, whichever thread makes the session."""
    found = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: found)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    asked = []

    def make_session(model, options, providers):
        asked.extend(providers)
        raise RuntimeError("there is no such card")

    monkeypatch.setattr(onnxruntime, "InferenceSession", make_session)
    encoder = load(oracle, "onnx")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    with pytest.raises(RuntimeError, match="no such card"):
        encoder.encode(draw_batch([5]))
    assert asked == [
        ("CUDAExecutionProvider", {"device_id": "1", "use_tf32": "0"}),
        ("CPUExecutionProvider", {}),
    ]


def test_the_graph_in_float16(oracle):
    """A processor emulates it, which is slow and says whether the graph is right."""
    import onnxruntime as ort

    from spacy_modernbert.encoder.onnx.encoder import open_session, run_session
    from spacy_modernbert.encoder.onnx.graph import build_graph

    config = ModernBertConfig.from_dict(oracle.config.to_dict())
    weights = {
        name: ort.OrtValue.ortvalue_from_numpy(array.astype(np.float16))
        for name, array in state(oracle).items()
    }
    model = build_graph(config, "float16").SerializeToString()
    sequences, _ = draw([1, 65, 300])
    found = run_session(open_session(model, weights=weights), PackedBatch.of(sequences))
    assert_rows_near(found, hidden_states(oracle, sequences), 0.999)


# It predicts only


def test_training_is_refused(encoder):
    batch = draw_batch([5])
    state = StepState({}, {}, {}, None)
    assert not encoder.can_train
    assert not encoder.has_gradients
    for train in (
        lambda: encoder.encode_train(batch),
        lambda: encoder.step(StepSettings(0.1), state),
        lambda: encoder.update(lambda name, weights, gradient: (weights, gradient)),
    ):
        with pytest.raises(ValueError, match="'onnx' can only predict"):
            train()


# There and back


def test_tensors_are_those_that_went_in(oracle, encoder):
    tensors = encoder.tensors()
    assert set(tensors) == set(state(oracle))
    for name, tensor in state(oracle).items():
        np.testing.assert_array_equal(tensors[name], tensor)


def test_copies_run_by_other_weights(encoder):
    batch = draw_batch([65])
    before = encoder.encode(batch)
    others = {"final_norm.weight": np.zeros(32, np.float32)}
    assert not encoder.copy(others).encode(batch).any()
    np.testing.assert_array_equal(encoder.encode(batch), before)
    np.testing.assert_array_equal(encoder.copy({}).encode(batch), before)


def test_the_callers_tensors_are_copied(oracle):
    tensors = {name: array.copy() for name, array in state(oracle).items()}
    config = ModernBertConfig.from_dict(oracle.config.to_dict())
    encoder = make_encoder(config, tensors, backend="onnx")
    for array in tensors.values():
        array[:] = 0
    assert_hidden_states(encoder, oracle, [65])


# Threads and processes


def test_several_threads(oracle, encoder):
    batches = [draw_batch([length], seed) for seed, length in enumerate(LENGTHS)]
    wanted = [encoder.encode(batch) for batch in batches]
    fresh = load(oracle, "onnx")
    with ThreadPoolExecutor(4) as pool:
        for found, want in zip(pool.map(fresh.encode, batches), wanted, strict=True):
            np.testing.assert_allclose(found, want, atol=1e-5)


def test_as_many_threads_as_torch_has(encoder):
    batch = draw_batch([65])
    n_threads = torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            encoder.encode(batch)
            options = made_of(encoder)[1].get_session_options()
            assert options.intra_op_num_threads == n
    finally:
        torch.set_num_threads(n_threads)


FORK = """
import gc
import numpy as np
import torch
from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.types import PackedBatch

torch.set_num_threads(2)
config = ModernBertConfig.from_dict({
    "model_type": "modernbert", "vocab_size": 300, "hidden_size": 64,
    "num_hidden_layers": 3, "num_attention_heads": 4, "pad_token_id": None,
})
batch = PackedBatch(np.arange(1000) % 300, np.array([0, 300, 1000], np.int32))
encoder = make_encoder(config, init_tensors(config, 0), backend="onnx")
wanted = encoder.encode(batch)

def use(uses):
    global encoder
    for _ in range(uses):
        assert np.allclose(encoder.encode(batch), wanted)
    del encoder
    gc.collect()

for uses in (0, 3):
    assert fork(lambda: use(uses)) == 0
assert np.allclose(encoder.encode(batch), wanted)
"""


@needs_forks
def test_forked_after_use():
    """A session's threads are not in the child, which would wait for them for ever
    when it lets go of the session.
    """
    run_script(FORKS + FORK, timeout=120)


def test_nothing_is_made_before_it_is_needed():
    config = ModernBertConfig.from_dict(
        {
            "model_type": "modernbert",
            "vocab_size": 30,
            "hidden_size": 8,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "pad_token_id": None,
        }
    )
    encoder = make_encoder(config, init_tensors(config, 0), backend="onnx")
    assert encoder.device == "onnx:CPUExecutionProvider"
    assert made_of(encoder) is None
