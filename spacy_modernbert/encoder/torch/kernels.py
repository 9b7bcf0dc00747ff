"""Whether the kernels of `triton_kernels` are available here."""

import importlib
import importlib.util
from functools import cache
from types import ModuleType

import torch

from .out_of_memory import is_out_of_memory


def load_kernels() -> ModuleType:
    """RETURNS (ModuleType): `triton_kernels`. Only where `why_no_kernels` is empty."""
    return importlib.import_module(f"{__package__}.triton_kernels")


def why_no_kernels() -> str:
    """Find out whether there are kernels of our own here, by running one.

    RETURNS (str): The reason why not; empty if there are.
    """
    try:
        return _why_none_ever()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        # It is not remembered: there may be more next time.
        return f"the GPU has too little memory left to try them: {error}"


@cache
def _why_none_ever() -> str:
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    try:
        load_kernels().geglu(torch.ones((1, 16), device="cuda"))
        torch.cuda.synchronize()
    # Triton compiles kernels with LLVM, and their launchers with a C compiler. Each of
    # these, and the card, raises errors of its own kind.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return f"Triton cannot compile them: {error}"
    return ""
