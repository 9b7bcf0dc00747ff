import numpy as np
import pytest
import torch

from spacy_modernbert.encoder import availability, backend
from spacy_modernbert.encoder.backend import (
    PRECISIONS,
    check_precision,
    check_quantization,
    make_encoder,
    require_quantization,
    resolve_backend,
    resolve_precision,
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


@pytest.fixture
def only_torch(monkeypatch, only_torch_installed):
    """And without a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_names():
    for precision in PRECISIONS:
        check_precision(precision)


@pytest.mark.parametrize(
    "quantization", [None, {"bits": 8}, {"bits": 4, "group_size": 64}]
)
def test_quantizations(quantization):
    check_quantization(quantization)


@pytest.mark.parametrize(
    "quantization",
    [8, {}, {"bits": 3}, {"bits": 8, "group_size": 5}, {"bits": 8, "mode": "affine"}],
)
def test_quantizations_that_no_backend_knows(quantization):
    with pytest.raises(ValueError, match="quantization is"):
        check_quantization(quantization)


@pytest.mark.parametrize("native", [False, True])
def test_auto_precision_on_the_cpu(monkeypatch, native):
    monkeypatch.setattr(backend, "multiplies_bfloat16", lambda: native)
    wanted = "bfloat16" if native else "float32"
    assert resolve_precision("auto", "cpu") == wanted
    for precision in PRECISIONS[1:]:
        assert resolve_precision(precision, "cpu") == precision


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0)])
def test_precision_on_cuda(monkeypatch, capability):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    assert resolve_precision("float16", "cuda") == "float16"
    if capability >= (8, 0):
        assert resolve_precision("auto", "cuda") == "bfloat16"
        assert resolve_precision("bfloat16", "cuda") == "bfloat16"
    else:
        assert resolve_precision("auto", "cuda") == "float32"
        with pytest.raises(ValueError, match=r"'cuda' has no .*bfloat16.*float16"):
            resolve_precision("bfloat16", "cuda")


def test_precision_on_the_current_of_two_gpus(monkeypatch):
    def get_device_capability(device=None):
        return {0: (7, 5), None: (8, 0)}[device]

    monkeypatch.setattr(torch.cuda, "get_device_capability", get_device_capability)
    assert resolve_precision("auto", "cuda") == "bfloat16"


def test_precision_on_mps(monkeypatch):
    assert resolve_precision("auto", "mps") == "float32"
    monkeypatch.setattr(
        torch.backends.mps, "is_macos_or_newer", lambda *version: version < (14, 0)
    )
    with pytest.raises(ValueError, match=r"'mps' has no .*bfloat16"):
        resolve_precision("bfloat16", "mps")


@pytest.mark.parametrize(
    "name, quantization, precision, has",
    [
        ("cpu", {"bits": 8}, "bfloat16", True),
        ("cpu", {"bits": 8, "group_size": 64}, "float32", False),
        ("cpu", {"bits": 4}, "float32", False),
        ("openvino", {"bits": 8}, "bfloat16", True),
        ("openvino", {"bits": 4}, "float32", False),
        ("onnx", {"bits": 8}, "float32", True),
        ("onnx", {"bits": 8}, "float16", False),
        ("mlx", {"bits": 4, "group_size": 32}, "float16", True),
        ("cuda", {"bits": 8}, "bfloat16", False),
        ("mps", {"bits": 8}, "float32", False),
    ],
)
def test_quantizations_of_each_backend(name, quantization, precision, has):
    require_quantization(None, name, precision)
    if has:
        require_quantization(quantization, name, precision)
    else:
        message = "multiplies in float32 only" if name == "onnx" else "has no quantiz"
        with pytest.raises(ValueError, match=f"backend '{name}' {message}"):
            require_quantization(quantization, name, precision)


def test_cpu():
    encoder = make_encoder(CONFIG, TENSORS, backend="cpu")
    assert encoder.device == "cpu"
    assert encoder.config == CONFIG


def test_auto_without_a_gpu_is_the_cpu(only_torch):
    assert make_encoder(CONFIG, TENSORS).device == "cpu"


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there(only_torch, name):
    with pytest.raises(ValueError, match=name):
        make_encoder(CONFIG, TENSORS, backend=name)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"'?tpu'?.*auto, cuda, mps"):
        make_encoder(CONFIG, TENSORS, backend="tpu")
    with pytest.raises(ValueError, match=r"'?float8'?.*auto, float32"):
        make_encoder(CONFIG, TENSORS, precision="float8")


def test_the_variable_wins(only_torch, monkeypatch):
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "cpu")
    assert make_encoder(CONFIG, TENSORS, backend="cuda").device == "cpu"
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "tpu")
    with pytest.raises(ValueError, match=r"tpu.*BACKEND is 'tpu', and wins"):
        make_encoder(CONFIG, TENSORS, backend="cpu")
    with pytest.raises(ValueError, match="tpu"):
        resolve_backend("cpu", to_train=True)
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "")
    assert make_encoder(CONFIG, TENSORS, backend="cpu").device == "cpu"


def test_the_variable_wins_over_configs_only(monkeypatch):
    """Who compares with a backend means that one."""
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "tpu")
    assert resolve_backend("cpu", to_train=True, heed_variable=False) == "cpu"
    encoder = make_encoder(CONFIG, TENSORS, backend="cpu", heed_variable=False)
    assert encoder.device == "cpu"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "float16"}, "'openvino' has no precision 'float16'"),
        ({"quantization": {"bits": 4}}, "'openvino' has no quantization"),
    ],
)
def test_the_variable_is_named_where_its_backend_lacks_something(
    monkeypatch, settings, message
):
    """Else nothing says where that backend comes from."""
    monkeypatch.setitem(availability._LOOK, "openvino", lambda: ("openvino:CPU", ""))
    monkeypatch.setattr(backend, "known_precisions", lambda name: ("float32",))
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "openvino")
    with pytest.raises(ValueError, match=f"{message}.*BACKEND is 'openvino'"):
        make_encoder(CONFIG, TENSORS, backend="mlx", **settings)


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_auto_passes_by_what_has_no_such_quantization(monkeypatch, name):
    """A quantized pipeline opens on a machine with a GPU, too."""
    for each in availability._LOOK:
        found = (each, "") if each in (name, "cpu") else ("", "Nothing there.")
        monkeypatch.setitem(availability._LOOK, each, lambda found=found: found)
    monkeypatch.setattr(availability, "_is_apple_silicon", lambda: name == "mps")
    assert resolve_backend("auto", to_train=False) == name
    encoder = make_encoder(CONFIG, TENSORS, quantization={"bits": 8})
    assert encoder.device == "cpu"
    message = "Set quantization to null; .*backend: 'mlx', 'cpu', 'openvino', 'onnx'"
    with pytest.raises(ValueError, match=message):
        require_quantization({"bits": 8}, name, "float32")


def test_no_backend_is_advised_that_lacks_the_quantization():
    """Least of all the one that was set."""
    with pytest.raises(ValueError, match=r"to null or {\"bits\": 8}; .*: 'mlx'\.$"):
        require_quantization({"bits": 4}, "cpu", "float32")


@pytest.mark.parametrize("name", ["openvino", "onnx"])
def test_what_only_predicts_is_not_to_train(name):
    with pytest.raises(ValueError, match=f"'{name}' can only predict"):
        resolve_backend(name, to_train=True)
    assert resolve_backend("auto", to_train=True) != name


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
