"""Messages on consoles with few characters, and commands to type there."""

import os
import subprocess
import sys

import pytest

from spacy_modernbert import console


def say(*arguments):
    """What a module of Python says to a console of Windows."""
    process = subprocess.run(
        [sys.executable, "-m", *arguments],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.decode("cp1252")


def test_any_character_can_be_said(checkpoint, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("Whatever.", encoding="utf8")
    output = tmp_path / "José_in_Łódź.json"
    command = ["spacy", "modernbert", "lengths", texts]
    said = say(*command, "--tokenizer", checkpoint, "--output", output)
    assert "José_in_?ód?.json" in said
    assert output.is_file()


def test_any_character_of_a_corpus(tmp_path):
    output = tmp_path / "José_in_Łódź"
    said = say("spacy_modernbert.corpora", "roster-tiny", output)
    assert "José_in_?ód?" in said
    assert (output / "train.spacy").is_file()


@pytest.mark.parametrize(
    ("is_windows", "shown"),
    [(False, r"python 'my data' 'C:\a'"), (True, r'python "my data" C:\a')],
)
def test_a_command_that_can_be_typed(monkeypatch, is_windows, shown):
    monkeypatch.setattr(console, "_IS_WINDOWS", is_windows)
    assert console.shown_command(["python", "my data", r"C:\a"]) == shown
