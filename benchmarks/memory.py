"""How much memory a pass takes beyond what was there before it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional, Tuple, TypeVar

from .devices import wait_for

Result = TypeVar("Result")

_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Memory:
    """Bytes.

    peak (int): The most that was held.
    before (int): What was held before.
    """

    peak: int
    before: int

    @property
    def growth(self) -> int:
        """RETURNS (int): What came on top."""
        return self.peak - self.before


def with_peak(
    run: Callable[[], Result], device: str
) -> Tuple[Result, Optional[Memory]]:
    """Run something, and watch the memory.

    run (Callable[[], Result]): What to run.
    device (str): "cuda" watches the memory of the GPU, anything else that of the
        process.
    RETURNS (Tuple[Result, Optional[Memory]]): The result, and the memory; None where
        the system does not tell.
    """
    if device == "cuda":
        import torch

        wait_for(device)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = run()
        wait_for(device)
        return result, Memory(torch.cuda.max_memory_allocated(), before)
    if not _REFS.exists():  # Linux only
        return run(), None
    _REFS.write_text("5")  # forget the peak so far
    before = _read("VmRSS")
    result = run()
    return result, Memory(_read("VmHWM"), before)


def _read(key: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)
