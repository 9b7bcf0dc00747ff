"""Scripts in fresh processes: what they import, and what they have in memory."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, Optional

import pytest

from .util import ROOT


def run_python(
    *arguments: object,
    stdin: str = "",
    env: Optional[Dict[str, str]] = None,
    cwd: Path = ROOT,
    timeout: float = 600,
) -> subprocess.CompletedProcess[str]:
    """Run Python in a fresh process, which may fail, but not hang.

    arguments (object): Those of `python`.
    cwd (Path): Its working folder. That of the repository lets it import `tests`.
    RETURNS (subprocess.CompletedProcess[str]): How it ended, and what it printed.
    """
    try:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            input=stdin,
            env=env,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        said = error.stderr or ""
        if isinstance(said, bytes):  # on Linux, whatever was asked for
            said = said.decode(errors="replace")
        pytest.fail(f"It ran for more than {timeout} seconds, and said:\n{said}")


def succeeded(process: subprocess.CompletedProcess[str]) -> str:
    """RETURNS (str): What was printed by a process that did not fail."""
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def run_script(
    script: str,
    *arguments: object,
    stdin: str = "",
    env: Optional[Dict[str, str]] = None,
    timeout: float = 300,
) -> str:
    """Run a script that is not to fail in a fresh process, with the repository as its
    working folder.

    RETURNS (str): What it printed.
    """
    return succeeded(
        run_python("-c", script, *arguments, stdin=stdin, env=env, timeout=timeout)
    )


# The head of a script that imports once what takes long, and does what needs a process
# of its own in forks. They run one after the other, and say how they ended as
# `subprocess` does. One that hangs ends before the script does.
FORKS = """
import os, signal, sys, traceback, warnings

# From 3.12 on, Python says so where libraries have threads, as they have here.
warnings.filterwarnings("ignore", "This process .* is multi-threaded")

def fork(run):
    child = os.fork()
    if not child:
        signal.alarm(100)
        code = 1
        try:
            run()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""

needs_forks = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="there are no forks here"
)

# The head of a script that measures resident memory, and its peaks. Not getrusage's:
# that of a fresh process begins with the peak of the process that started it.
MEMORY = """
from pathlib import Path

def read(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) * 1024 for x in lines if x.startswith(key + ":"))

def cost(run):
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is there now
    before = read("VmRSS")
    result = run()
    return result, read("VmHWM") - before
"""

needs_peaks = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(),
    reason="peaks are read from /proc, which Linux has",
)
