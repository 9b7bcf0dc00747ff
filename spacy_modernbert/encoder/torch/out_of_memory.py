"""Tell torch's errors of too little device memory from all its other errors."""

import traceback
from contextlib import contextmanager
from typing import Iterator

import torch

from ..protocol import EncoderOutOfMemory

# torch has a class of error for its own allocations on CUDA only. Otherwise there is a
# RuntimeError with torch's message, or with that of a CUDA library or of Triton.
_MESSAGES = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Triton Error [CUDA]: out of memory",
    "MPS backend out of memory",
    "Invalid buffer size",  # of MPS, for an array that is too large by itself
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",  # on Windows
)

# What may stay in the cache of MPS, in bytes.
_MPS_CACHE = 1 << 30


@contextmanager
def watch_memory(device: torch.device, message: str) -> Iterator[None]:
    """Raise EncoderOutOfMemory where the block within runs out of memory, and free what
    it had computed.

    device (torch.device): Where.
    message (str): What the error is to say.
    RAISES (EncoderOutOfMemory): In the place of torch's own error.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        # The frames of the pass hold its tensors for as long as somebody holds the
        # error, and whoever tries a smaller batch may do so while handling it.
        traceback.clear_frames(error.__traceback__)
        _free_cache(device)
        by_torch = isinstance(error, torch.OutOfMemoryError)
        raise EncoderOutOfMemory(
            message, may_fit=device.type == "cuda" and not by_torch
        ) from error


def bound_cache(device: torch.device) -> None:
    """Return cached blocks to the device where they are many. On MPS, torch keeps those
    of each size that was ever asked for, and says that memory is short only when it
    holds more than all of it (https://github.com/pytorch/pytorch/issues/188045).

    device (torch.device): Where.
    """
    if device.type != "mps":
        return
    held, used = torch.mps.driver_allocated_memory, torch.mps.current_allocated_memory
    if held() - used() > _MPS_CACHE:
        torch.mps.empty_cache()


def is_out_of_memory(error: Exception) -> bool:
    """RETURNS (bool): Whether the device had too little memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(message in str(error) for message in _MESSAGES)


def _free_cache(device: torch.device) -> None:
    """Return cached blocks to the device: they were cut for another size of batch."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
