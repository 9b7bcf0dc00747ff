"""The records of all experiments as one Markdown page."""

import statistics
from pathlib import Path
from typing import Dict, List, Sequence

from benchmarks.markdown import make_table

from .cells import EXPERIMENTS, Cell, Experiment
from .run import Record, read_records

_BUDGETS = {
    "steps": "",
    "two-thirds": ", two thirds of the steps",
    "time": ", equal time",
    "double": ", twice the steps",
    "fivefold": ", five times the steps",
}

_HEADER = (
    "recipe", "encoder", "window", "seeds", "F", "P", "R", "steps", "minutes",
    "peak GB",
)  # fmt: skip

# What differs between records that are not of one mean. The first records do not say
# the latter.
_MADE_BY = ("encoder_digest", "recipe_digest")
_MADE_BY_TOO = ("shape_digest", "corpus_digest")


def make_page(results: Path) -> str:
    """RETURNS (str): The page, of all records that belong to an experiment.

    results (Path): Folder with the records. What is in its `NOTE.md`, if it has one,
        comes first.
    """
    records = read_records(results)
    lines = ["# Experiments", "", *_read_note(results), _INTRODUCTION, ""]
    lines += _describe_machines(records)
    for name, experiment in EXPERIMENTS.items():
        parts = []
        for corpus in _find_corpora(experiment, records):
            of_corpus = [record for record in records if record["corpus"] == corpus]
            table = _make_table(experiment.cells, of_corpus)
            parts += ["", f"### {corpus}", "", *table] if table else []
        if parts:
            lines += ["", f"## {experiment.title}", ""]
            lines += [f"`python -m experiments run {name}`", *parts]
    return "\n".join(lines) + "\n"


_INTRODUCTION = (
    "Test documents, exact spans and labels, in percent: the mean over the seeds ± "
    "the standard deviation. Of each training, the state that is best on the dev "
    "documents is tested. *Equal time* takes as many steps as fit into the time of "
    "the first line of its table. Minutes are of the training with its evaluations; "
    "the machine is shared, so they are rough. The peak is that of the host's memory, "
    "of the seed that took most. In brackets stands how the digest of "
    "the encoder's weights begins; *random* weights are those of `modernbert encoder`, "
    "whose keys match queries from the start, and *drawn* ones are as transformers "
    "draws them. Each line comes from the JSON files beside this page, which have the "
    "commands, the machine and the versions."
)


def _read_note(results: Path) -> List[str]:
    path = results / "NOTE.md"
    return [path.read_text(encoding="utf8").strip(), ""] if path.is_file() else []


def _describe_machines(records: Sequence[Record]) -> List[str]:
    """What the records were made on, one line for each machine."""
    found: Dict[str, None] = {}
    for record in records:
        machine = record["machine"]
        line = f"threads: {record['threads']}, {machine['processor']}"
        found[line + (f", {machine['gpu']}" if "gpu" in machine else "")] = None
    return [f"- {each}" for each in found]


def _find_corpora(experiment: Experiment, records: Sequence[Record]) -> List[str]:
    """Those of the experiment, and then those that somebody added."""
    found = dict.fromkeys(record["corpus"] for record in records)
    added = (each for each in found if _is_added(each, experiment, records))
    return list(dict.fromkeys([*experiment.corpora, *added]))


def _is_added(corpus: str, experiment: Experiment, records: Sequence[Record]) -> bool:
    """Whether an experiment was run on a corpus: not so where its cells are those of
    another experiment, which is on that corpus.
    """
    elsewhere = [each for each in EXPERIMENTS.values() if corpus in each.corpora]
    others = {cell for each in elsewhere for cell in each.cells}
    of_corpus = [record for record in records if record["corpus"] == corpus]
    own = [cell for cell in experiment.cells if cell not in others]
    return any(_is_of(record, cell) for record in of_corpus for cell in own)


def _make_table(variants: Sequence[Cell], records: Sequence[Record]) -> List[str]:
    """RETURNS (List[str]): The table of a corpus; empty if nothing was run."""
    rows = []
    for variant in variants:
        of_variant = [record for record in records if _is_of(record, variant)]
        for alike in _group(of_variant):
            rows.append([*_describe(variant, alike[0]), *_summarize(alike).values()])
    return make_table(_HEADER, rows, words=(0, 1)) if rows else []


def _is_of(record: Record, variant: Cell) -> bool:
    for key in ("recipe", "weights", "window", "budget"):
        if record[key] != getattr(variant, key):
            return False
    # The first records do not have these.
    return all(
        record.get(key, True) == getattr(variant, key)
        for key in ("average", "trains_encoder")
    )


def _group(records: Sequence[Record]) -> List[List[Record]]:
    """Group the records that go into one mean."""
    groups: List[List[Record]] = []
    for record in records:
        for group in groups:
            if all(_is_alike(record, each) for each in group):
                group.append(record)
                break
        else:
            groups.append([record])
    return groups


def _is_alike(one: Record, other: Record) -> bool:
    """RETURNS (bool): Whether two records of a variant have the same encoder, the same
    settings, the same documents and, unless time sets it, the same number of steps.
    """
    if one["budget"] != "time" and one["steps"] != other["steps"]:
        return False
    if any(one.get(key) != other.get(key) for key in _MADE_BY):
        return False
    return all(
        one[key] == other[key] for key in _MADE_BY_TOO if key in one and key in other
    )


def _describe(cell: Cell, record: Record) -> List[str]:
    recipe = cell.recipe + _BUDGETS[cell.budget]
    recipe += "" if cell.average else ", last step"
    recipe += "" if cell.trains_encoder else ", encoder not trained"
    weights = cell.weights or ""
    if cell.weights == "pretrained":
        weights += f" ({record['encoder_digest'][:6]})"
    window = "" if cell.window is None else f"{cell.window:,}"
    return [recipe, weights, window]


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
