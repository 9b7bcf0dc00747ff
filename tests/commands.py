"""Commands as a user gives them, in this process."""

from typing import Any

from typer import Typer
from typer.testing import CliRunner, Result

from spacy_modernbert.cli import app as modernbert


def invoke(*arguments: object, app: Typer = modernbert, **options: Any) -> Result:
    """RETURNS (Result): What came of a command of `python -m spacy modernbert`, or of
    another app, on a terminal of 80 columns.
    """
    runner = CliRunner(env={"COLUMNS": "80"})
    return runner.invoke(app, list(map(str, arguments)), **options)


def words(result: Result) -> str:
    """RETURNS (str): What was printed, however the terminal breaks lines."""
    return " ".join(result.output.split())


def done(result: Result) -> str:
    """RETURNS (str): What was printed by a command that did what it was asked."""
    assert result.exit_code == 0, result.output
    return words(result)


def failed(result: Result) -> str:
    """RETURNS (str): What was printed by a command that could not do what it was asked,
    and said so: no error got through.
    """
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    return words(result)
