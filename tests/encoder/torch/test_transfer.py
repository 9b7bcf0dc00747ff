"""Arrays between the host and a device, where a device only seems to be one."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spacy_modernbert.encoder.torch.transfer import to_device, to_host

CUDA = torch.device("cuda", 0)
ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def unpinnable(monkeypatch):
    """No memory can be pinned, as in WSL2 or under a limit."""

    def refuse(*args, **kwargs):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.Tensor, "pin_memory", refuse)
    monkeypatch.setattr(torch, "empty", refuse)


def test_ordinary_memory_will_do_to_the_device(unpinnable, monkeypatch):
    calls = []

    def to(tensor, device, **settings):
        calls.append((device, settings))
        return tensor

    monkeypatch.setattr(torch.Tensor, "to", to)
    np.testing.assert_array_equal(to_device(ARRAY, CUDA).numpy(), ARRAY)
    # The host waits for it.
    assert calls == [(CUDA, {})]


def test_ordinary_memory_will_do_to_the_host(unpinnable):
    tensor = torch.from_numpy(ARRAY)
    on_device = SimpleNamespace(
        device=CUDA, shape=tensor.shape, dtype=tensor.dtype, cpu=lambda: tensor
    )
    np.testing.assert_array_equal(to_host(on_device), ARRAY)
