"""Forked processes, as `nlp.pipe(n_process=2)` makes them on Linux: one thread each.

A fork copies the memory of a process but only one of its threads. Thread pools that
were in use before (torch's, the tokenizer's) are dead in the copy, and whoever hands
them work waits for ever. torch's own data loader solves it in the same way: one thread
in each worker, which is also best if there are as many workers as cores.
"""

import os
import sys
from typing import Optional

_VARIABLE = "TOKENIZERS_PARALLELISM"

_forked = False
_value_before: Optional[str] = None


def run_single_threaded_if_forked() -> None:
    """Call before encoding. In a forked process, torch is limited to one thread; in
    any other, nothing happens.
    """
    global _forked
    if _forked and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
        _forked = False


def _before_fork() -> None:
    # The tokenizers library falls back to one thread in a fork by itself, and says so
    # on stderr, each time, unless this variable says it first.
    global _value_before
    _value_before = os.environ.get(_VARIABLE)
    os.environ.setdefault(_VARIABLE, "false")


def _after_fork_in_parent() -> None:
    if _value_before is None:
        os.environ.pop(_VARIABLE, None)


def _after_fork_in_child() -> None:
    global _forked
    _forked = True
    # With "true", which many set to silence that message, it would hand work to threads
    # that are dead here.
    os.environ[_VARIABLE] = "false"


if hasattr(os, "register_at_fork"):  # absent on Windows, as are forks
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
