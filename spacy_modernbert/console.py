"""What consoles can show, and what can be typed there."""

import io
import os
import shlex
import subprocess
import sys
from typing import Sequence

from wasabi import util

_IS_WINDOWS = os.name == "nt"


def replace_unknown_characters() -> None:
    """Say "?" for what the console has no character for. Where its encoding is not
    UTF-8, as on Windows in a pipe, wasabi fails at the first "é" of a message: it takes
    what it has encoded (`locale_escape`) for UTF-8.
    """
    if not util.NO_UTF8:
        return
    util.ENCODING = "utf-8"  # which it encodes and decodes without a change
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def shown_command(words: Sequence[str]) -> str:
    """A command to be typed again, as the shell of the system reads it.

    words (Sequence[str]): The program and its arguments.
    RETURNS (str): The line. On Windows, shells know no single quotes as POSIX does.
    """
    return subprocess.list2cmdline(words) if _IS_WINDOWS else shlex.join(words)
