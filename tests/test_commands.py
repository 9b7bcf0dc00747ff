"""The commands that the README, `docs/`, `project.yml` and errors show have the options
that they are given there.
"""

import re
from dataclasses import fields
from typing import Iterator, List, Tuple

import pytest
import srsly
import typer

from spacy_modernbert import errors
from spacy_modernbert.cli import app
from spacy_modernbert.pretraining.settings import PretrainingSettings

from .util import ROOT

PREFIX = "python -m spacy modernbert "
COMMANDS = typer.main.get_command(app).commands
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def find_commands(text: str) -> Iterator[str]:
    """YIELDS (str): What follows `PREFIX`, each time, in a text with code in it: up to
    the end of the line, or of the code within a line.
    """
    text = text.replace("\\\n", " ")
    # In prose, code may go on in the next line.
    text = re.sub(r"(?<!`)`[^`]+`(?!`)", lambda m: " ".join(m[0].split()), text)
    for match in re.finditer(re.escape(PREFIX) + r"([^`\n]*)", text):
        yield match[1].split("  #")[0]


def shown() -> List[Tuple[str, str]]:
    """RETURNS (List[Tuple[str, str]]): Where there is a command, and the command."""
    found = [
        (page.name, command)
        for page in PAGES
        for command in find_commands(page.read_text(encoding="utf8"))
    ]
    for step in srsly.read_yaml(ROOT / "project.yml")["commands"]:
        for script in step["script"]:
            found += [("project.yml", command) for command in find_commands(script)]
    for room in (errors.Errors, errors.Warnings, errors.Missing):
        for message in vars(room).values():
            if isinstance(message, str):
                found += [("errors.py", each) for each in find_commands(message)]
    return found


def test_they_are_found():
    places = {place for place, _ in shown()}
    assert places >= {"README.md", "backends.md", "project.yml", "errors.py"}
    assert {command.split()[0] for _, command in shown()} == set(COMMANDS)


@pytest.mark.parametrize(("place", "command"), shown())
def test_they_have_these_options(place, command):
    name, *words = command.split()
    known = {
        option
        for parameter in COMMANDS[name].params
        for option in [*parameter.opts, *parameter.secondary_opts]
    }
    if name == "pretrain":  # takes its settings as options, too
        known |= {f"--pretraining.{each.name}" for each in fields(PretrainingSettings)}
    options = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert options <= known


# Whose prose is on one command.
@pytest.mark.parametrize(
    ("page", "name"), [("embeddings.md", "embed"), ("evaluation.md", "evaluate")]
)
def test_options_in_prose(page, name):
    text = (ROOT / "docs" / page).read_text(encoding="utf8")
    options = set(re.findall(r"`(--[a-z-]+)", text))
    assert options
    assert options <= {o for each in COMMANDS[name].params for o in each.opts}
