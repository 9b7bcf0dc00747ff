"""The machine that figures are of, and the versions of what ran on it."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Dict, Mapping

from spacy_modernbert.encoder.processor import processor_flags, processor_name

PACKAGES = (
    "spacy-modernbert",
    "spacy",
    "spacy-transformers",
    "thinc",
    "numpy",
    "numba",
    "torch",
    "transformers",
    "tokenizers",
    "openvino",
    "onnxruntime",
    "mlx",
    "triton",
    "flash-attn",
    "flash-attn-4",
    "packed-encoders",
)

# What decides how fast matrices are multiplied.
_FLAGS = (
    "avx2",
    "fma",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
    "i8mm",
)


def describe_machine() -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): Processor, memory, GPU if there is one."""
    known = processor_flags()
    machine = {
        "processor": processor_name(),
        "architecture": platform.machine(),
        "flags": [flag for flag in _FLAGS if flag in known],
        "cores": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.release()}",
    }
    gpu = _describe_gpu()
    return {**machine, "gpu": gpu} if gpu else machine


def is_alike(machine: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """RETURNS (bool): Whether two machines of `describe_machine` have one kind of
    processor. Its name is not enough: those of rented machines tell the maker only.
    """
    return all(machine[key] == other[key] for key in ("processor", "flags"))


def name_machine(machine: Mapping[str, Any], threads: int) -> str:
    """RETURNS (str): A machine of `describe_machine` and a number of threads, in words
    that tell it from others.
    """
    # A rented machine names only its processor's maker: the flags tell kinds apart.
    flags = " ".join(machine.get("flags", ()))
    # Of a card, its memory and the CUDA that torch was built for come after its name.
    gpu = machine.get("gpu", "").partition(",")[0]
    parts = [machine["processor"], flags, gpu, f"{threads} threads"]
    return ", ".join(filter(None, parts))


def list_versions() -> Dict[str, str]:
    """RETURNS (Dict[str, str]): Of Python and the packages that are installed."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _memory_gb() -> Any:
    try:
        n_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return "unknown"
    return round(n_bytes / 1e9, 1)


def _describe_gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return ""
    memory = torch.cuda.get_device_properties(0).total_memory
    return (
        f"{torch.cuda.get_device_name(0)}, {memory / 1e9:.0f} GB, "
        f"CUDA {torch.version.cuda}"
    )
