"""What long context is worth: the same recipe with a window of 8,192 wordpieces and
with one of 128, on roster documents of up to 8,000 words.

    nohup python benchmarks/roster.py > benchmarks/roster.log &

Runs the workflow `train` once for each window, and writes `benchmarks/roster.json`:
scores, seconds, machine and versions. Steps whose inputs have not changed since the
last run are skipped by the project, and their time is then not known. The seconds are
those of the whole workflow, on a machine that may be busy; only the scores compare.
"""

import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Dict

import typer
from wasabi import msg

from spacy_modernbert.atomic import write_text

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "roster.json"
OVERLAPS = {8192: 512, 128: 32}
THREADS = 2
LABELS = ("COMPANY", "PERSON", "SHIP", "TOWN")
PACKAGES = ("spacy-modernbert", "spacy", "thinc", "torch", "tokenizers", "numpy")


def main(corpus: str = "roster-long", encoder: str = "micro") -> None:
    """Run the workflow for each window, print a table and write the results."""
    runs = [run(corpus, encoder, window) for window in OVERLAPS]
    results = {"machine": describe_machine(), "runs": runs}
    write_text(RESULTS, json.dumps(results, indent=2) + "\n")
    msg.table(
        [
            [f"{row['window']:,}", f"{row['scores']['ents_f']:.3f}"]
            + [f"{row['scores']['ents_per_type'][label]['f']:.3f}" for label in LABELS]
            + [f"{row['seconds']:,.0f}"]
            for row in runs
        ],
        header=["window", "F", *LABELS, "seconds"],
        aligns=["r"] * (len(LABELS) + 3),
        divider=True,
    )
    msg.good(f"Wrote {RESULTS}")


def run(corpus: str, encoder: str, window: int) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): What was run, how long it took, and the scores."""
    arguments = ["-m", "spacy", "project", "run", "train", "."]
    for name, value in {
        "corpus": corpus,
        "config": corpus,
        "encoder": encoder,
        "window": window,
        "overlap": OVERLAPS[window],
    }.items():
        arguments += [f"--vars.{name}", str(value)]
    start = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
    subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=True)
    seconds = time.monotonic() - start
    metrics = ROOT / "metrics" / f"{corpus}-{window}.json"
    scores = json.loads(metrics.read_text(encoding="utf8"))
    scores.pop("speed")  # of a shared machine; benchmarks of speed are ratios
    scores.pop("evaluation")  # all that is in the report
    return {
        "command": " ".join(["python", *arguments]),
        "window": window,
        "seconds": round(seconds),
        "scores": scores,
    }


def describe_machine() -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): What the results were made with."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": THREADS,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


if __name__ == "__main__":
    typer.run(main)
