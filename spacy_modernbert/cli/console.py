"""What is said on consoles that know few characters."""

import io
import sys

from wasabi import util


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
