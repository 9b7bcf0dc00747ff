"""Devices that compute while the host goes on: how to wait for them."""


def wait_for(device: str) -> None:
    """Wait until a device has nothing left to do.

    device (str): "cuda", "mps", or another one, which never lets its host go on.
    """
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()
