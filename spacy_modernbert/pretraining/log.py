"""The log of a run: a line of JSON for each evaluation, each probe and each export."""

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List

from ..atomic import write_text
from ..encoder.checkpoint import TENSORS

LOG = "log.jsonl"
# What tells a record of one kind from the others.
_KINDS = {"loss", "probe", "export"}
_CHUNK = 2**20


def write_log(path: Path, record: Dict[str, Any]) -> None:
    """Add a line to a log.

    path (Path): The log.
    record (Dict[str, Any]): JSON-serializable. It has a "step", and a "loss", a "probe"
        or an "export".
    """
    with open(path, "a", encoding="utf8") as file:
        file.write(json.dumps(record) + "\n")


def log_export(path: Path, step: int, folder: Path) -> None:
    """Add to a log that the checkpoint was exported, and what the weights are.

    path (Path): The log.
    step (int): The steps that had been taken.
    folder (Path): What was written.
    """
    record = {"export": str(folder.resolve()), "digest": _digest(folder / TENSORS)}
    write_log(path, {"step": step, **record})


def is_export(folder: Path, path: Path) -> bool:
    """Whether a checkpoint was exported by a run, and is as it was then. It may have
    been moved since.

    folder (Path): The checkpoint.
    path (Path): The log of the run, which may be absent.
    RETURNS (bool): Whether it was.
    """
    digests = [_read(line).get("digest") for line in _lines(path)]
    tensors = folder / TENSORS
    return tensors.is_file() and _digest(tensors) in digests


def cut_log(path: Path, step: int) -> None:
    """Remove from a log what will be done again: what lies after a step, and a probe at
    that step; also lines that are not records, such as one that was cut short when the
    run was killed.

    path (Path): The log, which may be absent.
    step (int): The last step to keep.
    """
    if not path.is_file():
        return
    kept = [f"{line}\n" for line in _lines(path) if _is_done(line, step)]
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
    return is_cut_short or not _KINDS.isdisjoint(record)


def _lines(path: Path) -> List[str]:
    """RETURNS (List[str]): The lines of a log that are whole; none if it is absent."""
    if not path.is_file():
        return []
    *lines, _ = path.read_text(encoding="utf8", errors="replace").split("\n")
    return lines


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            found.update(chunk)
    return found.hexdigest()


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
