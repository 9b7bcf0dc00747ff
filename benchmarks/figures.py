"""What a benchmark of its own found, and the file that it is kept in."""

import json
from pathlib import Path
from typing import Any

from spacy_modernbert.atomic import write_text

from .machine import describe_machine, list_versions


def write_figures(path: Path, command: str, **found: Any) -> None:
    """Write what was found, below what it was found with.

    path (Path): The file.
    command (str): How to find it again.
    found (Any): JSON-serializable.
    """
    figures = {
        "command": command,
        "machine": describe_machine(),
        "versions": list_versions(),
        **found,
    }
    write_text(path, json.dumps(figures, indent=2) + "\n")
