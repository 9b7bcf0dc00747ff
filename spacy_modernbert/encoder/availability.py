"""Which backends this machine has, and which of them "auto" takes.

torch, MLX and the other libraries are asked themselves, and never Thinc's ops, which
know no GPU without CuPy. Only the libraries in question are imported.
"""

import importlib
import importlib.util
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Callable, Collection, Dict, Iterator, Tuple

from ..errors import Errors, Missing
from .processor import processor_flags, processor_name
from .telemetry import import_openvino

BACKENDS = ("auto", "cuda", "mps", "mlx", "cpu", "openvino", "onnx")

# These predict only.
PREDICTING = frozenset({"openvino", "onnx"})

# By the names of Linux: what multiplies matrices of bfloat16, on x86 and on ARM.
_BFLOAT16_OF_X86 = frozenset({"avx512_bf16", "amx_bf16"})
BFLOAT16_FLAGS = _BFLOAT16_OF_X86 | {"bf16"}

# The same for each precision that some processors lack.
_UNITS = {
    "bfloat16": BFLOAT16_FLAGS,
    "float16": frozenset({"avx512_fp16", "amx_fp16", "asimdhp"}),
}

# The names of the architecture, on Linux, macOS and Windows.
_X86 = ("x86_64", "amd64")

_MEMORY_FILE = Path("/proc/meminfo")  # of Linux

# On some GPUs, MLX multiplies float32 in TF32, unless it is told not to before it
# computes anything. A value that the user has set is left as it is.
os.environ.setdefault("MLX_ENABLE_TF32", "0")


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run here.

    backend (str): Its name in a config, not "auto".
    device (str): Where it would run, in words; empty if it cannot.
    missing (str): What is missing and the command that installs it; empty if nothing
        is.

    Invariant: exactly one of `device` and `missing` is empty.
    """

    backend: str
    device: str
    missing: str


@dataclass(frozen=True)
class Choice:
    """What "auto" takes.

    backend (str): The backend.
    why (str): The reason, in words.
    """

    backend: str
    why: str


def check_backend(backend: str) -> str:
    """RETURNS (str): The backend.
    RAISES (ValueError): If there is none of that name.
    """
    if backend not in BACKENDS:
        raise ValueError(
            Errors.UNKNOWN_BACKEND.format(value=backend, known=", ".join(BACKENDS))
        )
    return backend


def look_for(backend: str) -> Availability:
    """Find out whether a backend can run here.

    backend (str): Its name, not "auto".
    RETURNS (Availability): Whether it can, and what is missing if not.
    """
    device, missing = _LOOK[backend]()
    return Availability(backend, device, missing)


def require(backend: str) -> str:
    """RETURNS (str): The backend.
    RAISES (ValueError): If it cannot run here.
    """
    missing = look_for(backend).missing
    if missing:
        raise ValueError(
            Errors.BACKEND_UNAVAILABLE.format(value=backend, missing=missing)
        )
    return backend


def choose(
    *,
    to_train: bool,
    precision: str = "auto",
    quantized: bool = False,
    among: Collection[str] = BACKENDS,
) -> Choice:
    """What "auto" takes.

    to_train (bool): Whether it must train, too.
    precision (str): "auto" or the name of a precision: what it is to multiply in.
    quantized (bool): Whether its weights are to be quantized.
    among (Collection[str]): The backends to choose from.
    RETURNS (Choice): The first in the order of preference that can run here, or else
        "cpu".
    """
    for backend, why in _preferences(precision, quantized):
        if backend not in among or (to_train and backend in PREDICTING):
            continue
        if look_for(backend).device:
            return Choice(backend, why)
    if "mlx" in among and "cpu" not in among and look_for("mlx").device:
        return Choice("mlx", "no other backend can do this")
    return Choice("cpu", "there is no quicker backend here")


def find_memory(backend: str) -> str:
    """How much memory a backend can work with.

    backend (str): One that can run here.
    RETURNS (str): In words: what is free, where that can be known, and what there is.
    """
    if backend == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info()
        return f"{_gigabytes(free)} free of {_gigabytes(total)}"
    # Apple's GPUs work in the memory of the processor.
    try:
        page, n_pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        return "unknown"
    free = _free_memory()
    if not free:
        return _gigabytes(page * n_pages)
    return f"{_gigabytes(free)} free of {_gigabytes(page * n_pages)}"


def multiplies_bfloat16() -> bool:
    """RETURNS (bool): Whether the processor multiplies matrices of bfloat16 natively
    (AVX512-BF16, AMX; on ARM, BF16). Elsewhere float32 is faster.
    """
    return bool(processor_flags() & BFLOAT16_FLAGS)


def emulates(precision: str) -> bool:
    """RETURNS (bool): Whether the processor is not known to have instructions for
    products of a precision. torch then emulates them, at a small part of the rate of
    float32. True on macOS and Windows, which do not say: float32 is never slow, and
    its products are no worse.
    """
    units = _UNITS.get(precision)
    return units is not None and processor_flags().isdisjoint(units)


def has_amx() -> bool:
    """RETURNS (bool): Whether the processor multiplies bfloat16 by tiles (AMX)."""
    return "amx_bf16" in processor_flags()


def multiplies_int8() -> bool:
    """RETURNS (bool): Whether torch and OpenVINO multiply matrices of int8 with the
    processor's own instructions for it (VNNI, AMX). On ARM they do not. Without them,
    int8 saves memory but no time.
    """
    return bool(processor_flags() & {"avx512_vnni", "avx_vnni", "amx_int8"})


def find_onnx_provider(precision: str, *, quantized: bool = False) -> str:
    """What ONNX Runtime computes on. It must be installed.

    precision (str): "float32" or "float16". Apple's accelerators compute in the latter
        only, whatever the graph says; on a processor, it would be emulated.
    quantized (bool): Whether it multiplies in 8 bits, for which it has kernels on
        processors only.
    RETURNS (str): The first choice of the execution providers that are there, or "" if
        none has the precision.
    """
    import onnxruntime

    if quantized:
        return "CPUExecutionProvider"
    wanted = {
        "float32": ("CUDAExecutionProvider", "CPUExecutionProvider"),
        "float16": ("CUDAExecutionProvider", "CoreMLExecutionProvider"),
    }
    found = onnxruntime.get_available_providers()
    return next((name for name in wanted[precision] if name in found), "")


def _free_memory() -> int:
    """RETURNS (int): Bytes that are available, including those in which Linux caches
    files; 0 where the system does not say.
    """
    try:
        lines = _MEMORY_FILE.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    kilobytes, *_ = found.get("MemAvailable", "0 kB").split()
    return 1024 * int(kilobytes)


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB"


def _preferences(precision: str, quantized: bool) -> Iterator[Tuple[str, str]]:
    if _is_apple_silicon():
        yield "mlx", "on Apple silicon, MLX is installed"
        yield "mps", "torch finds an Apple GPU, and MLX cannot run"
    yield "cuda", "torch finds a CUDA device"
    if precision in ("auto", "bfloat16") and _is_quickest_by_openvino():
        yield "openvino", "OpenVINO is the quickest in bfloat16 on this processor"
    # Not in bfloat16, which OpenVINO has only where the processor multiplies it, and
    # ONNX Runtime not at all.
    if quantized and precision in ("auto", "float32"):
        if multiplies_int8():
            yield "openvino", "OpenVINO is the quickest in int8 on this processor"
        elif platform.machine().lower() in _X86:
            yield "onnx", "ONNX Runtime is the quickest in int8 on this processor"


def _is_quickest_by_openvino() -> bool:
    # In float32, OpenVINO and ONNX Runtime are not always faster than torch on long
    # documents, and take more memory. In bfloat16, OpenVINO is about 1.5 times as fast
    # on them.
    return bool(processor_flags() & _BFLOAT16_OF_X86)


def _is_apple_silicon() -> bool:
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _why_broken(
    module: str, import_it: Callable[[str], ModuleType] = importlib.import_module
) -> str:
    """RETURNS (str): Why a module of a library that is installed cannot be imported,
    and what to do about it; empty if it can. A mere folder with the name of a library
    also counts as installed, but lacks the module.
    """
    try:
        import_it(module)
    except Exception as error:  # of any kind, where it was built for other versions
        library = module.partition(".")[0]
        return Missing.BROKEN.format(module=module, error=error, library=library)
    return ""


def _cuda() -> Tuple[str, str]:
    if not _is_installed("torch"):
        return "", Missing.TORCH
    import torch

    if torch.cuda.is_available():
        # Of several GPUs, the one that spaCy's `--gpu-id` chose.
        current = torch.cuda.current_device()
        return f"cuda:{current}, {torch.cuda.get_device_name(current)}", ""
    return "", Missing.CUDA.format(torch=torch.__version__)


def _mps() -> Tuple[str, str]:
    if not _is_installed("torch"):
        return "", Missing.TORCH
    import torch

    if torch.backends.mps.is_available():
        return f"mps, {processor_name()}", ""
    return "", Missing.MPS.format(torch=torch.__version__)


def _mlx() -> Tuple[str, str]:
    if not _is_installed("mlx"):
        system, machine = platform.system(), platform.machine()
        if _is_apple_silicon() or system == "Linux":
            return "", Missing.MLX
        return "", Missing.MLX_ELSEWHERE.format(system=system, machine=machine)
    try:
        # On Linux, mlx alone comes without the library that computes.
        mx = importlib.import_module("mlx.core")
        return f"mlx:{mx.default_device().type.name}", ""
    except Exception as error:  # of any kind, where a driver does not fit
        return "", Missing.MLX_BACK_END.format(error=error)


def _cpu() -> Tuple[str, str]:
    if not _is_installed("torch"):
        return "", Missing.TORCH
    return f"cpu, {processor_name()}", ""


def _openvino() -> Tuple[str, str]:
    if not _is_installed("openvino"):
        return "", Missing.OPENVINO
    broken = _why_broken("openvino.opset13", import_openvino)
    if broken:
        return "", broken
    return f"openvino:CPU, {processor_name()}", ""


def _onnx() -> Tuple[str, str]:
    # The graph is written by one and run by the other.
    if not (_is_installed("onnx") and _is_installed("onnxruntime")):
        return "", Missing.ONNX
    broken = _why_broken("onnx.helper") or _why_broken(
        "onnxruntime.capi.onnxruntime_pybind11_state"
    )
    if broken:
        return "", broken
    provider = find_onnx_provider("float32")
    where = processor_name() if provider == "CPUExecutionProvider" else "GPU"
    return f"onnx:{provider}, {where}", ""


_LOOK: Dict[str, Callable[[], Tuple[str, str]]] = {
    "cuda": _cuda,
    "mps": _mps,
    "mlx": _mlx,
    "cpu": _cpu,
    "openvino": _openvino,
    "onnx": _onnx,
}
