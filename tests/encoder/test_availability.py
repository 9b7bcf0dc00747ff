import os
import platform
import sys

import pytest
import torch

from spacy_modernbert.encoder import availability
from spacy_modernbert.encoder.availability import (
    BACKENDS,
    PREDICTING,
    check_backend,
    choose,
    emulates,
    find_memory,
    has_amx,
    look_for,
    multiplies_bfloat16,
    multiplies_int8,
    require,
)
from spacy_modernbert.encoder.backend import resolve_backend, resolve_settings

from ..scripts import run_script
from ..util import require as require_library

FOUR_BITS = {"bits": 4, "group_size": 64}
NAMED = [backend for backend in BACKENDS if backend != "auto"]

# As it is before ../conftest.py replaces it.
_is_quickest_by_openvino = availability._is_quickest_by_openvino


@pytest.fixture
def has(monkeypatch):
    """Say which backends this machine has, and of what make it is."""

    def pretend(*backends, apple=False, flags=()):
        flags = frozenset(flags)
        monkeypatch.setattr(availability, "_is_apple_silicon", lambda: apple)
        monkeypatch.setattr(availability, "processor_flags", lambda: flags)
        monkeypatch.setattr(
            availability, "_is_quickest_by_openvino", _is_quickest_by_openvino
        )
        for backend in NAMED:
            found = (backend, "") if backend in backends else ("", "Nothing there.")
            monkeypatch.setitem(availability._LOOK, backend, lambda found=found: found)

    return pretend


@pytest.mark.parametrize("backend", NAMED)
def test_either_a_device_or_what_is_missing(backend):
    found = look_for(backend)
    assert found.backend == backend
    assert bool(found.device) != bool(found.missing)


def test_the_cpu_is_always_there():
    assert look_for("cpu").device.startswith("cpu, ")
    assert require("cpu") == "cpu"


@pytest.mark.parametrize("backend", ["cuda", "mps"])
def test_torch_itself_is_asked(backend, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert torch.__version__ in look_for(backend).missing


def test_of_two_gpus_the_current_one(monkeypatch):
    names, memory = ["an old card", "a card"], {0: (1, 2), None: (1 << 30, 2 << 30)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", names.__getitem__)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: memory[device])
    assert look_for("cuda").device == "cuda:1, a card"
    assert find_memory("cuda") == "1.0 GiB free of 2.0 GiB"


@pytest.mark.parametrize(
    "backend, module, command",
    [
        ("mlx", "mlx", "spacy-modernbert[mlx]"),
        ("openvino", "openvino", "spacy-modernbert[openvino]"),
        ("onnx", "onnxruntime", "spacy-modernbert[onnx]"),
        ("onnx", "onnx", "spacy-modernbert[onnx]"),
        ("cpu", "torch", 'pip install "torch'),
        ("cuda", "torch", 'pip install "torch'),
        ("mps", "torch", 'pip install "torch'),
    ],
)
def test_a_library_that_is_missing(on_linux, monkeypatch, backend, module, command):
    libraries = ("mlx", "openvino", "onnx", "onnxruntime", "torch")
    found = {name: name != module for name in libraries}
    monkeypatch.setattr(availability, "_is_installed", found.__getitem__)
    assert command in look_for(backend).missing
    with pytest.raises(ValueError, match=backend) as caught:
        require(backend)
    assert command in str(caught.value)


@pytest.mark.parametrize(
    "system, machine, can_be_had",
    [
        ("Windows", "AMD64", False),
        ("Darwin", "x86_64", False),
        ("Darwin", "arm64", True),
        ("Linux", "x86_64", True),
    ],
)
def test_mlx_is_not_to_be_installed_where_it_cannot_be(
    monkeypatch, system, machine, can_be_had
):
    monkeypatch.setattr(availability, "_is_installed", lambda module: False)
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    missing = look_for("mlx").missing
    assert ("Install it" in missing) == can_be_had
    assert can_be_had or f"not on {system} with {machine}" in missing


@pytest.mark.parametrize(
    ("backend", "library", "module"),
    [
        ("openvino", "openvino", "openvino.opset13"),
        ("onnx", "onnx", "onnx.helper"),
        ("onnx", "onnxruntime", "onnxruntime.capi.onnxruntime_pybind11_state"),
    ],
)
def test_a_library_that_is_broken(monkeypatch, backend, library, module):
    for each in ("onnx", library):
        require_library(each)
    monkeypatch.setattr(availability, "_is_installed", lambda module: True)
    monkeypatch.setitem(sys.modules, module, None)
    missing = look_for(backend).missing
    assert f"{module} cannot be imported" in missing
    assert f"--no-deps {library}." in missing


def test_a_folder_of_the_name_of_a_library(tmp_path):
    """As clones from the hub have them: where Python was started, it is found."""
    for library in ("openvino", "onnx", "onnxruntime"):
        (tmp_path / library).mkdir()
    script = """
import sys
from spacy_modernbert.encoder import availability
availability.processor_flags = lambda: frozenset({"avx512_bf16"})
# The folders, and nothing that is installed.
sys.path[:] = [sys.argv[1]]
print([availability.look_for(name).missing for name in ("openvino", "onnx")])
print(availability.choose(to_train=False, among=("cpu", "openvino")).backend)
"""
    found = run_script(script, tmp_path)
    assert found.count("rename it") == 2
    assert found.split()[-1] == "cpu"


def test_free_memory(monkeypatch, tmp_path):
    """With what Linux keeps of files, which it gives back."""
    monkeypatch.setattr(availability, "_MEMORY_FILE", tmp_path / "meminfo")
    pytest.importorskip("resource")
    assert "free" not in find_memory("cpu") and find_memory("cpu").endswith(" GiB")
    (tmp_path / "meminfo").write_text(
        "MemTotal: 9 kB\nMemFree:   1024 kB\nMemAvailable:    3145728 kB\n"
    )
    assert find_memory("cpu").startswith("3.0 GiB free of ")


def test_mlx_without_a_backend(monkeypatch):
    monkeypatch.setattr(availability, "_is_installed", lambda module: True)
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    assert "none of its backends" in look_for("mlx").missing


@pytest.mark.parametrize(
    "backends, apple, to_predict, to_train",
    [
        (["cuda", "mlx", "cpu", "openvino", "onnx"], False, "cuda", "cuda"),
        (["mlx", "cpu"], False, "cpu", "cpu"),
        (["cpu", "openvino", "onnx"], False, "cpu", "cpu"),
        (["cpu", "onnx"], False, "cpu", "cpu"),
        (["mlx", "mps", "cpu", "openvino"], True, "mlx", "mlx"),
        (["mps", "cpu", "openvino"], True, "mps", "mps"),
        (["cpu"], True, "cpu", "cpu"),
    ],
)
def test_what_auto_takes(has, backends, apple, to_predict, to_train):
    has(*backends, apple=apple)
    choice = choose(to_train=False)
    assert choice.backend == to_predict
    assert choice.why
    assert choose(to_train=True).backend == to_train
    assert to_train not in PREDICTING


@pytest.mark.parametrize("flags", [{"avx2"}, {"asimd", "bf16"}])
def test_auto_takes_torch_on_the_cpu(has, flags):
    has("cpu", "openvino", "onnx", flags=flags)
    for to_train in (False, True):
        assert choose(to_train=to_train).backend == "cpu"


def test_auto_takes_what_alone_can_do_it(has):
    """As MLX alone has 4 bits."""
    has("cpu", "mlx")
    assert choose(to_train=False, among=["mlx"]).backend == "mlx"
    assert resolve_backend("auto", to_train=False, quantization=FOUR_BITS) == "mlx"
    has("cpu")
    with pytest.raises(ValueError, match="'cpu' has no quantization"):
        resolve_settings("auto", "auto", FOUR_BITS, to_train=False)


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_auto_predicts_bfloat16_by_openvino(has, flag):
    has("cpu", "openvino", "onnx", flags={"avx2", flag})
    choice = choose(to_train=False)
    assert choice.backend == "openvino" and "bfloat16" in choice.why
    assert choose(to_train=True).backend == "cpu"
    by_precision = {"bfloat16": "openvino", "float32": "cpu", "float16": "cpu"}
    for precision, backend in by_precision.items():
        assert choose(to_train=False, precision=precision).backend == backend
    has("cpu", "cuda", "openvino", flags={flag})
    assert choose(to_train=False).backend == "cuda"
    has("cpu", "onnx", flags={flag})
    assert choose(to_train=False).backend == "cpu"


def test_auto_predicts_int8_by_openvino(has):
    """Where the processor multiplies it, with or without bfloat16."""
    has("cpu", "openvino", "onnx", flags={"avx512_vnni"})
    choice = choose(to_train=False, quantized=True)
    assert choice.backend == "openvino" and "int8" in choice.why
    assert choose(to_train=False).backend == "cpu"
    assert choose(to_train=True, quantized=True).backend == "cpu"
    # Which OpenVINO has not here, and torch has.
    for precision in ("float16", "bfloat16"):
        choice = choose(to_train=False, precision=precision, quantized=True)
        assert choice.backend == "cpu"
    without = choose(to_train=False, quantized=True, among=("cpu", "onnx"))
    assert without.backend == "cpu"


def test_auto_quantizes_by_mlx_on_apple_silicon(has):
    """Which `mps` cannot, nor an NVIDIA card by torch."""
    everything = ("cuda", "mps", "mlx", "cpu", "openvino", "onnx")
    has(*everything, apple=True)
    among = [each for each in everything if each not in ("cuda", "mps")]
    assert choose(to_train=False, quantized=True, among=among).backend == "mlx"
    has(*everything, flags={"avx512_vnni"})
    assert choose(to_train=False, quantized=True, among=among).backend == "openvino"


@pytest.mark.parametrize("machine", ["x86_64", "AMD64", "aarch64"])
def test_auto_predicts_int8_by_onnx(has, machine, monkeypatch):
    """On a processor of this kind without instructions for it."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    has("cpu", "openvino", "onnx", flags={"avx2"})
    wanted = "cpu" if machine == "aarch64" else "onnx"
    assert choose(to_train=False, quantized=True).backend == wanted
    assert choose(to_train=False).backend == "cpu"
    assert choose(to_train=True, quantized=True).backend == "cpu"
    for precision in ("float16", "bfloat16"):
        choice = choose(to_train=False, precision=precision, quantized=True)
        assert choice.backend == "cpu"
    has("cpu", "openvino", flags={"avx2"})
    assert choose(to_train=False, quantized=True).backend == "cpu"


def test_names():
    for backend in BACKENDS:
        assert check_backend(backend) == backend
    with pytest.raises(ValueError, match=r"'tpu'.*auto, cuda, mps, mlx, cpu"):
        check_backend("tpu")


@pytest.mark.parametrize(
    ("flags", "bfloat16", "int8", "amx"),
    [
        ({"avx2", "avx512f"}, False, False, False),
        ({"avx512_vnni"}, False, True, False),
        ({"avx512_bf16", "avx512_vnni"}, True, True, False),
        ({"amx_tile", "amx_bf16", "amx_int8"}, True, True, True),
        # ARM, where torch has no product of int8 that uses them.
        ({"asimd", "bf16", "i8mm"}, True, False, False),
        (set(), False, False, False),
    ],
)
def test_what_the_processor_multiplies(flags, bfloat16, int8, amx, monkeypatch):
    monkeypatch.setattr(availability, "processor_flags", lambda: frozenset(flags))
    assert multiplies_bfloat16() == bfloat16
    assert multiplies_int8() == int8
    assert has_amx() == amx


@pytest.mark.parametrize(
    ("flags", "bfloat16", "float16"),
    [
        ({"avx2"}, True, True),
        ({"avx512_bf16"}, False, True),
        ({"amx_bf16", "avx512_fp16"}, False, False),
        ({"asimd", "asimdhp"}, True, False),
        # As on macOS and Windows. An M1 cannot.
        (set(), True, True),
    ],
)
def test_what_the_processor_emulates(flags, bfloat16, float16, monkeypatch):
    monkeypatch.setattr(availability, "processor_flags", lambda: frozenset(flags))
    assert emulates("bfloat16") == bfloat16
    assert emulates("float16") == float16
    assert not emulates("float32")


@pytest.mark.parametrize("told", [None, "1"])
def test_float32_of_mlx_is_no_tf32(told):
    """Unless the user wants it so."""
    script = """
import os
import spacy_modernbert.encoder.backend
print(os.environ["MLX_ENABLE_TF32"])
"""
    environment = {**os.environ, "MLX_ENABLE_TF32": told}
    env = {key: value for key, value in environment.items() if value is not None}
    assert run_script(script, env=env).strip() == (told or "0")
