"""A worker, as seen from the process that started it."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any, Dict, Optional

from spacy_modernbert.encoder.backend import BACKEND_VARIABLE

from .points import Point
from .worker import THREAD_VARIABLES

ROOT = Path(__file__).parents[1]


class Failed(Exception):
    """A worker has no answer. The message is the reason that its row gives."""


class Process:
    """A fresh process that measures a point.

    point (Point): The point.
    errors (IO[bytes]): What it prints apart from its answers.
    """

    def __init__(self, point: Point, limit_memory: bool = True):
        """point (Point): The point.
        limit_memory (bool): Whether it fails if it takes most of the machine's memory.
            (Not for CUDA, which maps more than there is.)
        """
        self.point = point
        self._limit_memory = limit_memory
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (see `end`)
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            encoding="utf8",
            env=make_environment(point.threads),
        )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def prepare(self, timeout: float) -> Dict[str, Any]:
        """RETURNS (Dict[str, Any]): The facts of the job, when it is ready.
        RAISES (Failed): If it cannot be, or not in time.
        """
        message = {"point": self.point.to_json(), "limit_memory": self._limit_memory}
        return self._ask(message, timeout)

    def take_pass(self, timeout: float, save: Optional[Path] = None) -> Dict[str, Any]:
        """Do the job once.

        timeout (float): Seconds to wait.
        save (Optional[Path]): A file for the vectors.
        RETURNS (Dict[str, Any]): Seconds; and in bytes the peak of the memory, and by
            how much it grew.
        RAISES (Failed): If it failed, or not in time.
        """
        return self._ask({"save": str(save) if save else None}, timeout)

    def end(self) -> None:
        """End the process."""
        self._popen.kill()
        self._popen.wait()
        self.errors.close()

    def _listen(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._answers.put(line)
        self._answers.put("")  # it is at its end

    def _ask(self, message: Dict[str, Any], timeout: float) -> Dict[str, Any]:
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(json.dumps(message) + "\n")
            self._popen.stdin.flush()
            line = self._answers.get(timeout=timeout)
        except queue.Empty:
            raise Failed(f"no answer within {timeout:.0f} seconds") from None
        except OSError:
            line = ""
        if not line:
            raise Failed(self._describe_end())
        answer: Dict[str, Any] = json.loads(line)
        if "why_not" in answer:
            raise Failed(answer["why_not"])
        return answer

    def _describe_end(self) -> str:
        code = self._popen.wait()
        if code < 0:
            return f"ended by signal {-code}" + (", out of memory?" * (code == -9))
        self.errors.seek(0)
        said = self.errors.read().decode("utf8", "replace").strip().splitlines()
        return f"exited with {code}: {said[-1] if said else 'and said nothing'}"


def make_environment(threads: int) -> Dict[str, str]:
    """RETURNS (Dict[str, str]): The environment of a process that is measured: so many
    threads in every library, no network, and without the variable that wins over every
    config, since the benchmark decides what runs where.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    inherited = {
        name: os.environ[name] for name in os.environ if name != BACKEND_VARIABLE
    }
    return {
        **inherited,
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        "PYTHONPATH": path,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
