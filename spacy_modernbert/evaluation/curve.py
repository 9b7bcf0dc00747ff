"""The learning curve of a training run, from what its logger wrote."""

import json
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..pipelines import PIPELINE_CONFIG

# What `spacy-modernbert.ProgressLogger.v1` writes beside the pipelines of a run: a line
# for each evaluation.
LOG_NAME = "log.jsonl"


@dataclass(frozen=True)
class Point:
    """An evaluation in the course of training.

    step (int): The step of training.
    score (float): The score that the best pipeline is chosen by, from 0 to 1.
    loss (float): The losses of all components added up, by the steps since the
        evaluation before.
    """

    step: int
    score: float
    loss: float


def read_curve(path: Optional[Path]) -> Tuple[Point, ...]:
    """Read the log of a run. That of `spacy.ConsoleLogger.v3` will do, too. An
    incomplete last line, of a run that is still going or was killed, is left out, and
    so is an evaluation whose score or loss is not finite (our logger writes null for
    it, others `NaN`).

    path (Optional[Path]): The file, if there is one.
    RETURNS (Tuple[Point, ...]): The evaluations, in order; none if there is no file, or
        it is no such log.
    """
    if path is None or not path.is_file():
        return ()
    points: List[Point] = []
    step_before = -1  # steps are counted from 0
    for line in path.read_text(encoding="utf8", errors="replace").splitlines():
        entry = _read_entry(line)
        if entry is None:
            continue
        point = _make_point(entry, entry["step"] - step_before)
        if point is not None:
            points.append(point)
        # Of an evaluation that is left out, too: losses are added up from there.
        step_before = entry["step"]
    return tuple(points)


def find_log(pipeline: str) -> Optional[Path]:
    """Where the log of a training run would be.

    pipeline (str): A folder that the run wrote, or the name of a package.
    RETURNS (Optional[Path]): The file, which need not exist; None for a package.
    """
    folder = Path(pipeline)
    # A folder of another kind may have the name of a package.
    is_pipeline = (folder / PIPELINE_CONFIG).is_file()
    return folder.resolve().parent / LOG_NAME if is_pipeline else None


def read_performance(meta: Mapping[str, Any]) -> Dict[str, float]:
    """What a pipeline remembers of the evaluation that it was saved after.

    meta (Mapping[str, Any]): The `meta` of the pipeline.
    RETURNS (Dict[str, float]): The scores that are numbers, and the losses.
    """
    performance = meta.get("performance")
    if not isinstance(performance, Mapping):
        return {}
    found = {}
    for name, value in performance.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            with suppress(OverflowError):  # as of a number of 400 digits
                found[name] = float(value)
    return found


def _read_entry(line: str) -> Optional[Dict[str, Any]]:
    """RETURNS (Optional[Dict[str, Any]]): An evaluation; None if the line is none."""
    try:
        entry = json.loads(line)
        return {**entry, "step": int(entry["step"])}
    # What is infinite overflows; what is nested too deep is no entry either.
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _make_point(entry: Mapping[str, Any], n_steps: int) -> Optional[Point]:
    try:
        score = float(entry["score"])
        loss = float(sum(entry["losses"].values())) / max(1, n_steps)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    if not (math.isfinite(score) and math.isfinite(loss)):
        return None
    return Point(entry["step"], score, loss)
