"""What a benchmark of its own found, and the file that it is kept in."""

import json
from pathlib import Path
from typing import Any

import typer

from spacy_modernbert.atomic import write_text

from .machine import describe_machine, list_versions

# Of the machine at hand. Those that come with the project are of others.
RESULTS = Path("metrics/benchmarks")


def output_option(name: str) -> Any:
    """RETURNS (Any): The option `--output` of a benchmark that has a file of its own.

    name (str): The name of the file.
    """
    return typer.Option(RESULTS / name, help="The JSON file to write", dir_okay=False)


def write_figures(path: Path, command: str, **found: Any) -> None:
    """Write what was found, below what it was found with.

    path (Path): The file.
    command (str): How to find it again, wherever it is written.
    found (Any): JSON-serializable.
    """
    figures = {
        "command": command,
        "machine": describe_machine(),
        "versions": list_versions(),
        **found,
    }
    write_text(path, json.dumps(figures, indent=2) + "\n")
