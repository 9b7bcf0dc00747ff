"""The commands that the pages, `project.yml` and errors show have the options that they
are given there.
"""

import re
from dataclasses import fields
from typing import Iterator, List, Sequence, Set, Tuple

import click
import pytest
import srsly
import typer

import benchmarks.__main__ as benchmarks
import experiments.__main__ as experiments
import spacy_modernbert.corpora.__main__ as corpora
from spacy_modernbert import errors
from spacy_modernbert.cli import app
from spacy_modernbert.pretraining.settings import PretrainingSettings

from .util import ROOT

# How each is called, after `python -m `.
PROGRAMS = {
    "spacy modernbert": typer.main.get_command(app),
    "spacy_modernbert.corpora": typer.main.get_command(corpora.app),
    "experiments": typer.main.get_command(experiments.app),
    "benchmarks": typer.main.get_command(benchmarks.app),
}
COMMANDS = PROGRAMS["spacy modernbert"].commands
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *(
        ROOT / room / "README.md"
        for room in (
            "assets",
            "assets/modernbert-mini",
            "benchmarks",
            "spacy_modernbert",
        )
    ),
]


def find_commands(text: str) -> Iterator[Tuple[str, str]]:
    """YIELDS (Tuple[str, str]): A program and what follows its name, each time, in a
    text with code in it: up to the end of the line, or of the code within a line.
    """
    text = text.replace("\\\n", " ")
    # In prose, code may go on in the next line.
    text = re.sub(r"(?<!`)`[^`]+`(?!`)", lambda m: " ".join(m[0].split()), text)
    names = "|".join(map(re.escape, PROGRAMS))
    # An ellipsis is any of them.
    for match in re.finditer(rf"python -m ({names}) (?!…)([^`\n]*)", text):
        yield match[1], match[2].split("  #")[0]


def shown() -> List[Tuple[str, str, str]]:
    """RETURNS (List[Tuple[str, str, str]]): Where there is a command, its program, and
    what follows.
    """
    texts = [(page.name, page.read_text(encoding="utf8")) for page in PAGES]
    for step in srsly.read_yaml(ROOT / "project.yml")["commands"]:
        texts += [("project.yml", script) for script in step["script"]]
    for room in (errors.Errors, errors.Warnings, errors.Missing):
        messages = [each for each in vars(room).values() if isinstance(each, str)]
        texts += [("errors.py", message) for message in messages]
    return [(place, *each) for place, text in texts for each in find_commands(text)]


def known_options(command: click.Command, words: Sequence[str]) -> Set[str]:
    """RETURNS (Set[str]): The options of a command, and those of the commands within it
    that are named.
    """
    known = {
        option
        for parameter in command.params
        for option in [*parameter.opts, *parameter.secondary_opts]
    }
    for name, inner in getattr(command, "commands", {}).items():
        if name in words:
            known |= known_options(inner, words)
    return known


def test_they_are_found():
    places = {place for place, _, _ in shown()}
    assert places >= {"README.md", "backends.md", "project.yml", "errors.py"}
    assert {program for _, program, _ in shown()} == set(PROGRAMS)
    own = [words for _, program, words in shown() if program == "spacy modernbert"]
    assert {words.split()[0] for words in own} == set(COMMANDS)


@pytest.mark.parametrize(("place", "program", "command"), shown())
def test_they_have_these_options(place, program, command):
    words = command.split()
    known = known_options(PROGRAMS[program], words)
    if words[0] == "pretrain":  # takes its settings as options, too
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
