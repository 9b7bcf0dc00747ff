"""The oracle is MLX, and nothing of ours that is tested here uses it."""

import json
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.checkpoint import (
    load_config,
    open_tensors,
    save_checkpoint,
    tensors_from_bytes,
    tensors_to_bytes,
)
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.quantize import (
    BITS,
    GROUP_SIZES,
    QuantizedTensors,
    Scheme,
    quantize,
    quantize_tensors,
)
from spacy_modernbert.encoder.weights import expected_shapes, init_tensors

from ..util import require
from .util import assert_same, make_byte_tokenizer, open_all

CONFIG = ModernBertConfig.from_dict(
    {
        "model_type": "modernbert",
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "attention_bias": True,
        "pad_token_id": 3,
    }
)
SHAPES = expected_shapes(CONFIG)
TENSORS = init_tensors(CONFIG, seed=0)
TOKENIZER_JSON = make_byte_tokenizer().to_str()
WEIGHT = "layers.1.attn.Wo.weight"


def draw_weights(rows=70, width=256):
    """With rows of the kinds that the rule of quantization tells apart."""
    weights = np.random.default_rng(0).standard_normal((rows, width))
    weights[0] = 0
    weights[1], weights[2] = 3, -2
    weights[3], weights[4] = np.abs(weights[3]), -np.abs(weights[4])
    weights[5] *= 1e-12
    weights[6, ::2] = 0
    return weights.astype(np.float32)


def save(folder, tensors):
    save_checkpoint(folder, CONFIG, tensors, TOKENIZER_JSON)
    return folder


def assert_same_triplets(found, wanted):
    assert found.schemes == wanted.schemes
    for name in wanted.schemes:
        one, other = found.quantized(name), wanted.quantized(name)
        np.testing.assert_array_equal(one.words, other.words, err_msg=name)
        np.testing.assert_array_equal(one.scales, other.scales, err_msg=name)
        np.testing.assert_array_equal(one.biases, other.biases, err_msg=name)


@pytest.fixture
def eight(tmp_path):
    return save(tmp_path / "eight", quantize_tensors(TENSORS, SHAPES, Scheme(8, 32)))


# The numbers


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("group_size", GROUP_SIZES)
def test_as_mlx_to_the_bit(bits, group_size):
    mx = require("mlx.core", reason="MLX is the oracle")
    weights = draw_weights()
    found = quantize(weights, Scheme(bits, group_size))
    wanted = mx.quantize(mx.array(weights), group_size, bits)
    for one, other in zip(
        (found.words, found.scales, found.biases), wanted, strict=True
    ):
        np.testing.assert_array_equal(one, np.array(other))
        assert one.dtype == np.array(other).dtype
    floats = mx.dequantize(*wanted, group_size, bits)
    np.testing.assert_array_equal(found.dequantize(), np.array(floats))


@pytest.mark.parametrize("bits", BITS)
def test_off_by_a_step_at_most(bits):
    weights = draw_weights()
    found = quantize(weights, Scheme(bits, 64))
    steps = np.repeat(np.abs(found.scales), 64, axis=1)
    assert (np.abs(found.dequantize() - weights) <= steps + 1e-6).all()
    assert not found.dequantize()[0].any()
    assert not found.dequantize()[6, ::2].any()  # what is 0 stays so


def test_many_rows_are_worked_on_in_parts(monkeypatch):
    weights = draw_weights()
    whole = quantize(weights, Scheme(4, 64))
    monkeypatch.setattr("spacy_modernbert.encoder.quantize._CHUNK", 1000)
    parts = quantize(weights, Scheme(4, 64))
    np.testing.assert_array_equal(parts.words, whole.words)
    np.testing.assert_array_equal(parts.dequantize(), whole.dequantize())


@pytest.mark.parametrize("bits, group_size", [(7, 64), (16, 64), (8, 48), (8, 0)])
def test_schemes_that_there_are_not(bits, group_size):
    with pytest.raises(ValueError, match=f"{bits} bits in groups of {group_size}"):
        Scheme(bits, group_size)


def test_what_is_quantized():
    """All projections and the embeddings, where rows are whole groups."""
    schemes = quantize_tensors(TENSORS, SHAPES, Scheme(8, 64)).schemes
    two_dimensional = {name for name, shape in SHAPES.items() if len(shape) == 2}
    assert set(schemes) == {
        n for n in two_dimensional if not n.endswith("mlp.Wo.weight")
    }
    schemes = quantize_tensors(TENSORS, SHAPES, Scheme(8, 32)).schemes
    assert set(schemes) == two_dimensional
    with pytest.raises(ValueError, match="multiple of 128"):
        quantize_tensors(TENSORS, SHAPES, Scheme(8, 128))


def test_what_is_quantized_already():
    """Rounded twice, it would be something else."""
    once = quantize_tensors(TENSORS, SHAPES, Scheme(4, 32))
    assert_same_triplets(quantize_tensors(once, SHAPES, Scheme(4, 32)), once)
    finer = quantize_tensors(once, SHAPES, Scheme(8, 32))
    assert {scheme.bits for scheme in finer.schemes.values()} == {8}
    for name in finer.schemes:
        wanted = quantize(once[name], Scheme(8, 32)).dequantize()
        np.testing.assert_array_equal(finer[name], wanted)


# Files


@pytest.mark.parametrize("bits", [8, 4, 3])
def test_there_and_back(tmp_path, bits):
    tensors = quantize_tensors(TENSORS, SHAPES, Scheme(bits, 32))
    found = open_all(save(tmp_path / "one", tensors))
    assert isinstance(found, QuantizedTensors)
    assert_same_triplets(found, tensors)
    assert_same(found, tensors)
    again = save(tmp_path / "two", found)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()
    data = tensors_to_bytes(tensors, CONFIG)
    assert data == (again / "model.safetensors").read_bytes()
    assert_same_triplets(tensors_from_bytes(data, CONFIG), tensors)


def test_the_layout(eight):
    """Read by the safetensors library, it is what MLX's community publishes."""
    stored = load_file(eight / "model.safetensors")
    name = "model." + WEIGHT
    assert stored[name].shape == (64, 16) and stored[name].dtype == np.uint32
    for part in ("scales", "biases"):
        assert stored[name.replace("weight", part)].shape == (64, 2)
    assert stored["model.layers.1.attn.Wo.bias"].shape == (64,)
    assert stored["model.final_norm.weight"].shape == (64,)
    config = json.loads((eight / "config.json").read_text())
    block = {"group_size": 32, "bits": 8, "mode": "affine"}
    assert config["quantization"] == config["quantization_config"] == block
    assert load_config(eight) == CONFIG  # which says nothing of files


def test_mlx_reads_it(eight):
    mx = require("mlx.core", reason="MLX is the oracle")
    stored, metadata = mx.load(str(eight / "model.safetensors"), return_metadata=True)
    assert metadata["format"] == "mlx"
    path = "model.layers.1.attn.Wo"
    parts = [stored[f"{path}.{part}"] for part in ("weight", "scales", "biases")]
    np.testing.assert_array_equal(
        np.array(mx.dequantize(*parts, 32, 8)), open_all(eight)[WEIGHT]
    )


@pytest.mark.parametrize("bits, share", [(8, 0.30), (4, 0.20)])
def test_size(tmp_path, bits, share):
    floats = save(tmp_path / "floats", TENSORS)
    folder = tmp_path / "quantized"
    config = ModernBertConfig.from_dict(
        {**CONFIG.to_dict(), "intermediate_size": 128, "vocab_size": 2000}
    )
    tensors, shapes = init_tensors(config, 0), expected_shapes(config)
    for target, each in (
        (floats, tensors),
        (folder, quantize_tensors(tensors, shapes, Scheme(bits, 64))),
    ):
        save_checkpoint(target, config, each, TOKENIZER_JSON)
    sizes = [(f / "model.safetensors").stat().st_size for f in (folder, floats)]
    assert sizes[0] <= share * sizes[1]


def test_exceptions_for_single_layers(tmp_path):
    """Some weights with fewer bits, some as they are, as recipes of mixed bits do."""
    schemes = quantize_tensors(TENSORS, SHAPES, Scheme(4, 32)).schemes
    schemes = {**schemes, WEIGHT: Scheme(8, 64)}
    del schemes["embeddings.tok_embeddings.weight"]
    tensors = QuantizedTensors(
        SHAPES,
        schemes,
        quantized=lambda name: quantize(TENSORS[name], schemes[name]),
        plain=lambda name: TENSORS[name],
    )
    folder = save(tmp_path / "mixed", tensors)
    block = json.loads((folder / "config.json").read_text())["quantization"]
    assert block == {
        "group_size": 32,
        "bits": 4,
        "mode": "affine",
        "model.layers.1.attn.Wo": {"group_size": 64, "bits": 8},
        "model.embeddings.tok_embeddings": False,
    }
    found = open_all(folder)
    assert_same_triplets(found, tensors)
    np.testing.assert_array_equal(
        found["embeddings.tok_embeddings.weight"],
        TENSORS["embeddings.tok_embeddings.weight"],
    )


def published(stored, config):
    """Changes to a quantized checkpoint that others publish so."""

    def bare(name):
        return name.removeprefix("model.")

    def nested(name):  # mlx-rs
        for part in ("weight", "bias"):
            name = name.replace(f"Wo.{part}", f"Wo.inner.{part}")
        return name

    half = {k: v.astype("f2") if v.dtype == "f4" else v for k, v in stored.items()}
    older = {"group_size": 32, "bits": 8}  # no mode
    awq = {**config, "quantization_config": {"quant_method": "awq", "bits": 4}}
    head = {**stored, "head.dense.weight": np.zeros((2, 2), np.uint32)}
    return {
        "without the prefix": ({bare(k): v for k, v in stored.items()}, config),
        "nested": ({nested(k): v for k, v in stored.items()}, config),
        "half": (half, config),
        "no mode": (stored, {**config, "quantization": older}),
        "no block": (stored, {k: v for k, v in config.items() if "quant" not in k}),
        "a block of another scheme": (stored, awq),
        "with a head": (head, config),
    }


@pytest.mark.parametrize("kind", list(published({}, {})))
def test_what_others_publish(eight, kind):
    wanted = open_all(eight)
    wanted = {name: wanted[name] for name in wanted}
    stored = load_file(eight / "model.safetensors")
    config = json.loads((eight / "config.json").read_text())
    stored, config = published(stored, config)[kind]
    save_file(stored, eight / "model.safetensors")
    (eight / "config.json").write_text(json.dumps(config))
    found = open_all(eight)
    assert isinstance(found, QuantizedTensors)
    if kind == "half":
        for name, tensor in wanted.items():
            np.testing.assert_allclose(found[name], tensor, atol=2e-3)
    else:
        assert_same(found, wanted)


def drop_biases(stored):
    del stored["model.layers.1.attn.Wo.biases"]


def use_bytes(stored):  # as modes other than affine do
    stored["model.layers.1.attn.Wo.scales"] = np.zeros((64, 2), np.uint8)


def cut_words(stored):
    stored["model." + WEIGHT] = stored["model." + WEIGHT][:, :-1].copy()


def cut_scales(stored):
    stored["model.layers.1.attn.Wo.scales"] = np.zeros((64, 1), np.float32)


@pytest.mark.parametrize(
    "change, message",
    [
        (drop_biases, r"Wo\.weight quantized, but not layers\.1\.attn\.Wo\.biases"),
        (use_bytes, r"but not layers\.1\.attn\.Wo\.scales.*affine.*convert"),
        (cut_words, r"Wo\.weight in the shapes \(64, 15\), \(64, 2\), \(64, 2\)"),
        (cut_scales, r"Wo\.weight in the shapes"),
    ],
)
def test_what_is_quantized_otherwise(eight, change, message):
    stored = load_file(eight / "model.safetensors")
    change(stored)
    save_file(stored, eight / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        open_all(eight)


def test_parts_without_a_weight(eight):
    stored = load_file(eight / "model.safetensors")
    stored["model." + WEIGHT] = np.zeros((64, 64), np.float32)
    save_file(stored, eight / "model.safetensors")
    with pytest.raises(ValueError, match=r"has 2 tensors.*does not use.*Wo"):
        open_all(eight)


# Backends


def test_torch_has_them_in_float32(eight, monkeypatch):
    """Where there is no MLX."""
    for name in ("mlx", "mlx.core", "spacy_modernbert.encoder.mlx.encoder"):
        monkeypatch.setitem(sys.modules, name, None)
    config = load_config(eight)
    tensors = open_tensors(eight, config)
    encoder = make_encoder(config, tensors, backend="cpu")
    assert encoder.can_train
    for name, tensor in encoder.tensors().items():
        np.testing.assert_array_equal(tensor, tensors[name])
