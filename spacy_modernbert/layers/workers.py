"""Worker processes, as `nlp.pipe(n_process=2)` makes them: one thread each.

A fork, as on Linux, copies the memory of a process but only one of its threads. Thread
pools that were in use before (torch's, the tokenizer's) are dead in the copy, and
whoever hands them work waits for ever. torch's own data loader solves it in the same
way: one thread in each worker, which is also best if there are as many workers as
cores, and therefore done in spawned ones, too, as on macOS.
"""

import multiprocessing
import os
import sys
import threading
from typing import Optional

_VARIABLE = "TOKENIZERS_PARALLELISM"

_is_worker = False
# Where torch has been limited. OpenMP has a number of threads for each thread that
# encodes, and the one that was copied by a fork still has that of before.
_this_thread = threading.local()
# How many threads torch had when an encoder was unpickled.
_n_threads: Optional[int] = None


def run_single_threaded_if_worker() -> None:
    """Call before encoding. In a worker, torch is limited to one thread, once in each
    thread that encodes; in any other process, nothing happens.
    """
    global _n_threads
    if _is_spawned():
        _become_worker()
    _n_threads = None
    is_due = _is_worker and not getattr(_this_thread, "is_limited", False)
    if is_due and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
        _this_thread.is_limited = True


def note_unpickled() -> None:
    """Call when an encoder was unpickled. A process that `multiprocessing` started, and
    that got its encoder so, is a worker.
    """
    global _n_threads
    if "torch" in sys.modules:
        _n_threads = sys.modules["torch"].get_num_threads()


def _is_spawned() -> bool:
    """RETURNS (bool): Whether this is a worker that was not forked, and has as many
    threads as it began with: what somebody has set since counts.
    """
    # Not known before: what is unpickled to start a process comes before its parent.
    return (
        _n_threads is not None
        and multiprocessing.parent_process() is not None
        and sys.modules["torch"].get_num_threads() == _n_threads
    )


# -- Forks, and the threads of the tokenizers library ------------------------------

_value_before: Optional[str] = None


def _before_fork() -> None:
    # The tokenizers library falls back to one thread in a fork by itself, and says so
    # on stderr, each time, unless this variable says it first.
    global _value_before
    _value_before = os.environ.get(_VARIABLE)
    os.environ.setdefault(_VARIABLE, "false")


def _after_fork_in_parent() -> None:
    if _value_before is None:
        os.environ.pop(_VARIABLE, None)


def _become_worker() -> None:
    global _is_worker, _this_thread
    _is_worker, _this_thread = True, threading.local()
    # With "true", which many set to silence that message, it would hand work to threads
    # that are dead in a fork.
    os.environ[_VARIABLE] = "false"


if hasattr(os, "register_at_fork"):  # absent on Windows, as are forks
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_become_worker,
    )
