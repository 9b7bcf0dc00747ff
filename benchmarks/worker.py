"""The process that measures one point: `python -m benchmarks.worker`, talked to through
pipes, one JSON object a line.

It is fresh for every point, so that no peer profits from what another one has warmed
up, kept or set. Between its passes it waits, while the others take their turns.
"""

import gc
import json
import os
import sys
import time
import traceback
from typing import Any, Dict, List, Optional, TextIO

# Libraries read these when they are imported.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def main() -> None:
    """Answer until the other end is closed."""
    # Libraries print to standard output; it is ours, and they get standard error.
    answers = os.fdopen(os.dup(1), "w", encoding="utf8")
    os.dup2(2, 1)
    first = _read(sys.stdin)
    if first is None:
        return
    _pin(first["point"]["threads"], limit_memory=first["limit_memory"])
    worker = Worker(first["point"])
    _answer(answers, worker.prepare)
    while (asked := _read(sys.stdin)) is not None:
        _answer(answers, worker.take_pass, asked.get("save"))


class Worker:
    """Measures one point."""

    def __init__(self, point: Dict[str, Any]):
        from .points import Point

        self.point = Point.from_json(point)

    def prepare(self) -> Dict[str, Any]:
        """RETURNS (Dict[str, Any]): The facts of the job, loaded and warmed up."""
        from .jobs import make_job

        self.job = make_job(self.point)
        _tidy_up()
        return self.job.facts

    def take_pass(self, save: Optional[str]) -> Dict[str, Any]:
        """Do the job once.

        save (Optional[str]): A file for the vectors, for those who compare them.
        RETURNS (Dict[str, Any]): Seconds; and in bytes the peak of the memory, and by
            how much it grew.
        """
        import numpy as np

        from .memory import with_peak

        start = time.perf_counter()
        result, memory = with_peak(self.job.run, self.point.peer.device)
        seconds = time.perf_counter() - start
        vectors = self.job.vectors
        if save and vectors is not None:
            np.save(save, np.asarray(vectors(result)))
        del result
        _tidy_up()
        return {
            "seconds": seconds,
            "growth": memory and memory.growth,
            "peak": memory and memory.peak,
        }


def _read(stream: TextIO) -> Optional[Dict[str, Any]]:
    line = stream.readline()
    return json.loads(line) if line else None


def _answer(answers: TextIO, ask: Any, *arguments: Any) -> None:
    from .points import Unavailable

    try:
        answer = ask(*arguments)
    except Unavailable as reason:
        answer = {"why_not": str(reason)}
    except Exception as error:
        traceback.print_exc()
        answer = {"why_not": f"{type(error).__name__}: {_first_line(error)}"}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _first_line(error: Exception) -> str:
    lines: List[str] = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


def _pin(threads: int, *, limit_memory: bool) -> None:
    # Then libraries that count processors instead of threads get the right number, too.
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))[:threads]
        os.sched_setaffinity(0, allowed)
    if limit_memory:
        _limit_memory()
    import torch

    torch.set_num_threads(threads)


def _limit_memory() -> None:
    """Make a peer that takes too much memory fail before the system kills processes."""
    try:
        import resource

        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ImportError, ValueError, OSError):
        return
    most = int(0.7 * memory)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _tidy_up() -> None:
    """Give back what is not needed, so that the next peer finds it."""
    from spacy_modernbert.encoder.torch.host_memory import give_back

    gc.collect()
    give_back()


if __name__ == "__main__":
    main()
