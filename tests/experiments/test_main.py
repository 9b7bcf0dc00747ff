"""`python -m experiments`, with records that are there already."""

import shutil

import pytest
from typer.testing import CliRunner

from experiments.__main__ import RESULTS, app
from experiments.table import make_page

from ..util import ROOT


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with one record, and a corpus that need not be read."""
    monkeypatch.chdir(tmp_path)
    name = "litbank-mini-pretrained-8192-equal-steps-seed0.json"
    (tmp_path / "results").mkdir()
    shutil.copy(RESULTS / name, tmp_path / "results" / name)
    for folder in ("assets", "configs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "corpus" / "litbank").mkdir(parents=True)
    (tmp_path / "corpus" / "litbank" / "train.spacy").touch()
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, [*arguments])


def test_no_such_experiment(here):
    result = run("run", "window")
    assert result.exit_code == 1
    assert "no experiment window" in result.output and "baselines" in result.output


def test_no_corpus(here):
    result = run("run", "windows", "--corpus", "absent", "--results", "results")
    assert result.exit_code == 1
    words = " ".join(result.output.split())
    assert "python -m spacy project run corpus . --vars.corpus absent" in words


def test_what_was_done_before_is_not_done_again(here, monkeypatch):
    def run_cell(cell, settings):
        raise LookupError(f"stopped at {cell.name}")

    monkeypatch.setattr("experiments.__main__.run_cell", run_cell)
    options = ["--corpus", "litbank", "--seed", "0", "--results", "results"]
    result = run("run", "windows", *options)
    assert result.exit_code == 1
    before, _, after = result.output.partition("Done before")
    assert "litbank-mini-pretrained-8192-equal-steps-seed0" in before
    assert "stopped at litbank-mini-pretrained-2048-equal-steps-seed0" in after


def test_what_was_done_otherwise_is_kept(here, monkeypatch):
    """A trial with other steps leaves the record alone, unless it is told."""
    path = here / "results" / "litbank-mini-pretrained-8192-equal-steps-seed0.json"
    before = path.read_bytes()
    run_cells = []

    def run_cell(cell, settings):
        run_cells.append(cell.window)
        return {"train_seconds": 60.0, "test": {"f": 0.5}}

    monkeypatch.setattr("experiments.__main__.run_cell", run_cell)
    options = ["--corpus", "litbank", "--seed", "0", "--results", "results"]
    result = run("run", "windows", *options, "--steps", "10")
    assert result.exit_code == 0, result.output
    assert "--replace" in result.output and run_cells == [2048, 512, 128]
    assert path.read_bytes() == before
    run("run", "windows", *options, "--steps", "10", "--replace")
    assert run_cells[3:] == [8192, 2048, 512, 128]


def test_the_page(here):
    assert run("table", "--results", "results").exit_code == 0
    page = (here / "results" / "README.md").read_text(encoding="utf8")
    assert (
        "### litbank" in page and "| mini | pretrained (b2aafe) | 8,192 | 1 |" in page
    )


@pytest.mark.parametrize("folder", ["", "xeon-h100", "earlier-mini"])
def test_the_pages_that_come_along_are_of_the_records(folder):
    page = (RESULTS / folder / "README.md").read_text(encoding="utf8")
    assert make_page(RESULTS / folder) == page
