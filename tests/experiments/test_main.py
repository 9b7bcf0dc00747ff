"""`python -m experiments`, with records that are there already."""

import shutil

import pytest

from experiments.__main__ import RESULTS, app
from experiments.table import make_page

from ..commands import done, failed, invoke
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
    for split in ("train", "dev", "test"):
        (tmp_path / "corpus" / "litbank" / f"{split}.spacy").touch()
    return tmp_path


def run(*arguments):
    return invoke(*arguments, app=app)


def test_no_such_experiment(here):
    found = failed(run("run", "window"))
    assert "no experiment window" in found and "baselines" in found


def test_no_corpus(here):
    for corpus, how in (
        ("craft", "python -m spacy project run corpus . --vars.corpus craft"),
        ("mine", "put train.spacy, dev.spacy and test.spacy there"),
    ):
        arguments = ["--corpus", corpus, "--results", "results"]
        assert how in failed(run("run", "windows", *arguments))


@pytest.mark.parametrize("corpus", ["sub/litbank", "litbank/", "corpus/litbank"])
def test_a_corpus_is_named_and_not_a_path(corpus, here, monkeypatch):
    """The record would lie in a folder within, where no table looks for it."""
    monkeypatch.setattr(
        "experiments.__main__.run_cell", lambda *_: pytest.fail("in vain")
    )
    folder = here / "corpus" / corpus
    if not folder.exists():
        shutil.copytree(here / "corpus" / "litbank", folder)
    found = failed(run("run", "windows", "--corpus", corpus, "--results", "results"))
    assert f"no path, but --corpus is {corpus}" in found


def test_half_of_a_corpus(here, monkeypatch):
    """It is noticed before anything is trained, on whatever corpus."""
    monkeypatch.setattr(
        "experiments.__main__.run_cell", lambda *_: pytest.fail("in vain")
    )
    (here / "corpus" / "craft").mkdir()
    for split in ("train", "dev"):
        (here / "corpus" / "craft" / f"{split}.spacy").touch()
    found = failed(run("run", "windows", "--results", "results"))
    assert "There is no corpus/craft/test.spacy" in found


def test_what_was_done_before_is_not_done_again(here, monkeypatch):
    def run_cell(cell, settings):
        raise LookupError(f"stopped at {cell.name}")

    monkeypatch.setattr("experiments.__main__.run_cell", run_cell)
    options = ["--corpus", "litbank", "--seed", "0", "--results", "results"]
    before, _, after = failed(run("run", "windows", *options)).partition("Already done")
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
    found = done(run("run", "windows", *options, "--steps", "10"))
    assert "--force" in found and run_cells == [2048, 512, 128]
    assert path.read_bytes() == before
    done(run("run", "windows", *options, "--steps", "10", "--force"))
    assert run_cells[3:] == [8192, 2048, 512, 128]


def test_the_page(here):
    done(run("table", "--results", "results"))
    page = (here / "results" / "README.md").read_text(encoding="utf8")
    assert (
        "### litbank" in page and "| mini | pretrained (b2aafe) | 8,192 | 1 |" in page
    )


PAGES = sorted(path.relative_to(RESULTS) for path in RESULTS.rglob("README.md"))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_pages_that_come_along_are_of_the_records(page):
    path = RESULTS / page
    assert make_page(path.parent) == path.read_text(encoding="utf8")
