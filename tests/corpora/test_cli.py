import pytest
from typer.testing import CliRunner

from spacy_modernbert.corpora.__main__ import app

from .test_craft import source as craft_source  # noqa: F401


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_convert(craft_source, tmp_path):  # noqa: F811
    result = run("craft", craft_source, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "dev.spacy",
        "test.spacy",
        "train.spacy",
    ]
    lines = [line.split() for line in result.output.splitlines()]
    for line in (
        ["craft", "train", "dev", "test", "total"],
        ["documents", "1", "1", "1", "3"],
        ["annotations", "4", "4", "4", "12"],
        ["CL", "1", "1", "1", "3"],
        ["CHEBI", "0", "0", "0", "0"],
        ["discontinuous", "1", "1", "1", "3"],
    ):
        assert line in lines


@pytest.mark.parametrize("corpus", ["litbank", "craft"])
def test_nothing_there(corpus, tmp_path):
    result = run(corpus, tmp_path / "nowhere", tmp_path / "out")
    assert result.exit_code == 1
    assert "spacy project assets" in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_help_lists_the_commands():
    result = run("--help")
    assert "litbank" in result.output and "craft" in result.output
