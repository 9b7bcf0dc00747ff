"""Arrays between the host and a torch device."""

import numpy.typing as npt
import torch
from torch import Tensor


def to_device(array: npt.NDArray, device: torch.device) -> Tensor:
    """RETURNS (Tensor): The array on a device. With CUDA, the host does not wait until
    it is there.
    """
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        # MPS copies from the array itself, which may be gone by then: torch does not
        # keep it (https://github.com/pytorch/pytorch/issues/139550).
        return tensor.to(device)
    try:
        pinned = tensor.pin_memory()
    except RuntimeError:  # as in WSL2, or where a limit is set: see `to_host`
        return tensor.to(device)
    return pinned.to(device, non_blocking=True)


def to_host(x: Tensor) -> npt.NDArray:
    """RETURNS (NDArray): The tensor on the host."""
    if x.device.type != "cuda":
        return x.cpu().numpy()
    # Into memory that cannot be paged out, which the GPU writes to by itself: several
    # times as fast. torch keeps it for the next one when this array is gone.
    try:
        host = torch.empty(x.shape, dtype=x.dtype, device="cpu", pin_memory=True)
    except RuntimeError:  # there is little of it: ordinary memory will do
        return x.cpu().numpy()
    host.copy_(x, non_blocking=True)
    torch.cuda.current_stream(x.device).synchronize()
    return host.numpy()
