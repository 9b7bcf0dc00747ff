import numpy as np
import pytest
import torch

from spacy_modernbert.encoder.backend import (
    BACKENDS,
    PRECISIONS,
    check_backend,
    check_precision,
    make_encoder,
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
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_names():
    for backend in BACKENDS:
        assert check_backend(backend) == backend
    for precision in PRECISIONS:
        assert check_precision(precision) == precision


def test_cpu():
    encoder = make_encoder(CONFIG, TENSORS, backend="cpu")
    assert encoder.device == "cpu"
    assert encoder.config == CONFIG


def test_auto_without_a_gpu_is_the_cpu(no_gpu):
    assert make_encoder(CONFIG, TENSORS).device == "cpu"


@pytest.mark.parametrize("backend", ["cuda", "mps"])
def test_a_device_that_is_not_there(no_gpu, backend):
    with pytest.raises(ValueError, match=backend):
        make_encoder(CONFIG, TENSORS, backend=backend)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"'?tpu'?.*auto, cuda, mps"):
        make_encoder(CONFIG, TENSORS, backend="tpu")
    with pytest.raises(ValueError, match=r"'?float8'?.*auto, float32"):
        make_encoder(CONFIG, TENSORS, precision="float8")


def test_the_variable_wins(no_gpu, monkeypatch):
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "cpu")
    assert make_encoder(CONFIG, TENSORS, backend="cuda").device == "cpu"
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "tpu")
    with pytest.raises(ValueError, match="tpu"):
        make_encoder(CONFIG, TENSORS, backend="cpu")
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "")
    assert make_encoder(CONFIG, TENSORS, backend="cpu").device == "cpu"


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
