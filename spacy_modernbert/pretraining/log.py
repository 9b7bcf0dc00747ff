"""The log of a run: a line of JSON for each evaluation, and one for each probe."""

import json
from pathlib import Path
from typing import Any, Dict

from ..atomic import write_text

LOG = "log.jsonl"


def write_log(path: Path, record: Dict[str, Any]) -> None:
    """Add a line to a log.

    path (Path): The log.
    record (Dict[str, Any]): JSON-serializable. It has a "step", and a "loss" or a
        "probe".
    """
    with open(path, "a", encoding="utf8") as file:
        file.write(json.dumps(record) + "\n")


def cut_log(path: Path, step: int) -> None:
    """Remove from a log what will be done again: what lies after a step, and a probe at
    that step; also lines that are not records, such as one that was cut short when the
    run was killed.

    path (Path): The log, which may be absent.
    step (int): The last step to keep.
    """
    if not path.is_file():
        return
    *lines, _ = path.read_text(encoding="utf8", errors="replace").split("\n")
    kept = [f"{line}\n" for line in lines if _is_done(line, step)]
    write_text(path, "".join(kept))


def is_log(path: Path) -> bool:
    """RETURNS (bool): Whether a file may be the log of a run, or is absent: whether its
    first line is a record, or was cut short. `spacy train` writes others.
    """
    if not path.exists():
        return True
    with open(path, encoding="utf8", errors="replace") as file:
        line = file.readline()
    record = _read(line)
    is_cut_short = not line.endswith("\n") and not record
    return is_cut_short or not {"loss", "probe"}.isdisjoint(record)


def _is_done(line: str, step: int) -> bool:
    record = _read(line)
    try:
        found = int(record["step"])
    except (ValueError, TypeError, KeyError, OverflowError):
        return False
    return found < step or (found == step and "probe" not in record)


def _read(line: str) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): The record of a line; empty if it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
