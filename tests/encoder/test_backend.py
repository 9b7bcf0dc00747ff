import numpy as np
import pytest
import torch

from spacy_modernbert.encoder import availability
from spacy_modernbert.encoder.backend import (
    PRECISIONS,
    check_precision,
    check_quantization,
    make_encoder,
    resolve_backend,
)
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.weights import init_tensors

CONFIG = ModernBertConfig.from_dict(
    {
        "model_type": "modernbert",
        "vocab_size": 30,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "pad_token_id": 3,
    }
)
TENSORS = init_tensors(CONFIG, seed=0)


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv("SPACY_MODERNBERT_BACKEND", raising=False)


@pytest.fixture
def only_torch(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(availability, "_is_installed", lambda module: module == "torch")


def test_names():
    for precision in PRECISIONS:
        assert check_precision(precision) == precision


@pytest.mark.parametrize(
    "quantization", [None, {"bits": 8}, {"bits": 4, "group_size": 64}]
)
def test_quantizations(quantization):
    assert check_quantization(quantization) == quantization


@pytest.mark.parametrize(
    "quantization",
    [8, {}, {"bits": 3}, {"bits": 8, "group_size": 5}, {"bits": 8, "mode": "affine"}],
)
def test_quantizations_that_no_backend_knows(quantization):
    with pytest.raises(ValueError, match="quantization is"):
        check_quantization(quantization)


def test_cpu():
    encoder = make_encoder(CONFIG, TENSORS, backend="cpu")
    assert encoder.device == "cpu"
    assert encoder.config == CONFIG


def test_auto_without_a_gpu_is_the_cpu(only_torch):
    assert make_encoder(CONFIG, TENSORS).device == "cpu"


@pytest.mark.parametrize("backend", ["cuda", "mps"])
def test_a_device_that_is_not_there(only_torch, backend):
    with pytest.raises(ValueError, match=backend):
        make_encoder(CONFIG, TENSORS, backend=backend)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"'?tpu'?.*auto, cuda, mps"):
        make_encoder(CONFIG, TENSORS, backend="tpu")
    with pytest.raises(ValueError, match=r"'?float8'?.*auto, float32"):
        make_encoder(CONFIG, TENSORS, precision="float8")


def test_the_variable_wins(only_torch, monkeypatch):
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "cpu")
    assert make_encoder(CONFIG, TENSORS, backend="cuda").device == "cpu"
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "tpu")
    with pytest.raises(ValueError, match="tpu"):
        make_encoder(CONFIG, TENSORS, backend="cpu")
    with pytest.raises(ValueError, match="tpu"):
        resolve_backend("cpu", to_train=True)
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "")
    assert make_encoder(CONFIG, TENSORS, backend="cpu").device == "cpu"


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_what_only_predicts_is_not_to_train(backend):
    with pytest.raises(ValueError, match=f"'{backend}' predicts only"):
        resolve_backend(backend, to_train=True)
    assert resolve_backend("auto", to_train=True) != backend


def test_each_tensor_is_read_once():
    """Reading is drawing, or reading from the disk."""
    reads = []

    class Counting(dict):
        def __getitem__(self, name):
            reads.append(name)
            return super().__getitem__(name)

    encoder = make_encoder(CONFIG, Counting(TENSORS), backend="cpu")
    assert sorted(reads) == sorted(TENSORS)
    for name, tensor in encoder.tensors().items():
        np.testing.assert_array_equal(tensor, TENSORS[name])
