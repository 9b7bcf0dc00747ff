"""A part of the benchmarks as files: JSON for programs, Markdown for people."""

import itertools
import json
import shlex
import sys
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Dict, List, Mapping

from spacy_modernbert.atomic import write_text

from .machine import describe_machine, list_versions
from .rows import Row

# Where they are is different on each machine, and says nothing.
_FOLDERS = ("--store", "--tokenizer", "--corpora", "--output")


@dataclass
class Section:
    """One workload of a part.

    title (str): What was done.
    rows (List[Row]): Ours and the peers.
    limits (List[Row]): The matrix products of the same run.
    ratios (List[Row]): How many times faster ours are.
    text (str): Its tables, as Markdown.
    """

    title: str
    rows: List[Row]
    limits: List[Row] = field(default_factory=list)
    ratios: List[Row] = field(default_factory=list)
    text: str = ""


@dataclass
class Results:
    """What a part of the benchmarks found.

    part (str): Its name, such as "encoder".
    title (str): For people.
    settings (Dict[str, Any]): Shape, threads and whatever else was set.
    sections (List[Section]): The workloads.
    """

    part: str
    title: str
    settings: Dict[str, Any]
    sections: List[Section] = field(default_factory=list)

    @property
    def name(self) -> str:
        """RETURNS (str): The name of its files, without a suffix."""
        return f"{self.part}-{self.settings['shape']}-{self.settings['device']}"

    def to_json(self) -> Dict[str, Any]:
        """RETURNS (Dict[str, Any]): All of it."""
        return {
            "part": self.part,
            "title": self.title,
            "command": command(),
            "date": date.today().isoformat(),
            "settings": self.settings,
            "machine": describe_machine(),
            "versions": list_versions(),
            "sections": [
                {
                    "title": section.title,
                    "rows": section.rows,
                    "limits": section.limits,
                    "ratios": section.ratios,
                }
                for section in self.sections
            ],
        }

    def to_markdown(self, head: Mapping[str, Any]) -> str:
        """Describe the results for people.

        head (Mapping[str, Any]): What `to_json` gave.
        RETURNS (str): The machine, the versions and the tables.
        """
        settings = ", ".join(f"{key} {value}" for key, value in self.settings.items())
        lines = [
            f"# {self.title}",
            "",
            f"`{head['command']}`, {head['date']}",
            "",
            f"- Machine: {_join(head['machine'])}",
            f"- Versions: {_join(head['versions'])}",
            f"- Settings: {settings}",
        ]
        for section in self.sections:
            lines += ["", f"## {section.title}", "", section.text]
        return "\n".join(lines).rstrip() + "\n"

    def write(self, folder: Path) -> Path:
        """Write both files. A file appears whole or not at all.

        folder (Path): Where to.
        RETURNS (Path): The Markdown.
        """
        data = self.to_json()
        text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
        write_text(folder / f"{self.name}.json", text)
        write_text(folder / f"{self.name}.md", self.to_markdown(data))
        return folder / f"{self.name}.md"


def command() -> str:
    """RETURNS (str): What was typed, with words in the place of folders."""
    words = [
        before.strip("-").upper() if before in _FOLDERS else shlex.quote(word)
        for before, word in itertools.pairwise(["", *sys.argv[1:]])
    ]
    return " ".join(["python -m benchmarks", *words])


def _join(facts: Dict[str, Any]) -> str:
    parts = []
    for key, value in facts.items():
        value = " ".join(value) if isinstance(value, list) else value
        parts.append(f"{key.replace('_', ' ')} {value}")
    return ", ".join(parts)
