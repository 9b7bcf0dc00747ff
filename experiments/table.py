"""The records of all experiments as one Markdown page."""

import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Sequence

from .cells import EXPERIMENTS, Cell
from .run import Record, read_record

_BUDGETS = {"steps": "", "time": ", equal time", "double": ", twice the steps"}

_HEADER = (
    "recipe", "encoder", "window", "seeds", "F", "P", "R", "steps", "minutes",
    "peak GB",
)  # fmt: skip


def make_page(seeds: Sequence[int], results: Path) -> str:
    """RETURNS (str): The page.

    seeds (Sequence[int]): The seeds.
    results (Path): Folder with the records.
    """
    lines = ["# Experiments", "", _INTRODUCTION, "", *_describe_machines(results)]
    for name, experiment in EXPERIMENTS.items():
        lines += ["", f"## {experiment.title}", ""]
        lines += [f"`python -m experiments run {name}`"]
        for corpus in experiment.corpora:
            table = _make_table(experiment.cells, corpus, seeds, results)
            if table:
                lines += ["", f"### {corpus}", "", *table]
    return "\n".join(lines) + "\n"


_INTRODUCTION = (
    "Test documents, exact spans and labels, in percent: the mean over the seeds ± "
    "the standard deviation. Of each training, the state that is best on the dev "
    "documents is tested. *Equal time* takes as many steps as fit into the time of "
    "the first line of its table. Minutes are of the training with its evaluations; "
    "the machine is shared, so they are rough. Each line comes from the JSON files "
    "beside this page, which have the commands, the machine and the versions."
)


def _describe_machines(results: Path) -> List[str]:
    """What the records were made on, one line for each machine."""
    found: Dict[str, None] = {}
    for path in sorted(results.glob("*.json")):
        record: Record = json.loads(path.read_text(encoding="utf8"))
        machine = record["machine"]
        # The first records do not have the number; all of them took two.
        line = f"threads: {record.get('threads', 2)}, {machine['processor']}"
        found[line + (f", {machine['gpu']}" if "gpu" in machine else "")] = None
    return [f"- {each}" for each in found]


def _make_table(
    variants: Sequence[Cell], corpus: str, seeds: Sequence[int], results: Path
) -> List[str]:
    lines = []
    for variant in variants:
        cells = [replace(variant, corpus=corpus, seed=seed) for seed in seeds]
        records = [record for cell in cells if (record := read_record(cell, results))]
        if records:
            lines.append(_line([*_describe(variant), *_summarize(records).values()]))
    if not lines:
        return []
    rule = ["---"] * 2 + ["---:"] * (len(_HEADER) - 2)
    return [_line(_HEADER), _line(rule), *lines]


def _describe(cell: Cell) -> List[str]:
    recipe = cell.recipe + _BUDGETS[cell.budget]
    window = "" if cell.window is None else f"{cell.window:,}"
    return [recipe, cell.weights or "", window]


def _summarize(records: Sequence[Record]) -> Dict[str, str]:
    scores = {
        key: spread([100 * record["test"][key] for record in records]) for key in "fpr"
    }
    return {
        "seeds": str(len(records)),
        **scores,
        "steps": f"{statistics.mean(record['steps'] for record in records):,.0f}",
        "minutes": spread([record["train_seconds"] / 60 for record in records]),
        "peak": f"{max(record['train_peak_mb'] for record in records) / 1000:.1f}",
    }


def spread(values: Sequence[float]) -> str:
    """RETURNS (str): The mean ± the standard deviation, if there is one."""
    mean = f"{statistics.mean(values):.1f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {statistics.stdev(values):.1f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
