import json

import pytest
import spacy
from spacy.tokens import DocBin

from spacy_modernbert.corpora.__main__ import app

from ..commands import done, failed, invoke

FILES = ["dev.spacy", "report.json", "test.spacy", "train.spacy"]


def run(*arguments):
    return invoke(*arguments, app=app)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def lines(output):
    return [line.split() for line in output.splitlines()]


def test_convert(craft_source, tmp_path):
    result = run("craft", tmp_path / "out", "--source", craft_source)
    done(result)
    assert names(tmp_path / "out") == FILES
    for line in (
        ["craft", "train", "dev", "test", "total"],
        ["documents", "1", "1", "1", "3"],
        ["annotations", "4", "4", "4", "12"],
        ["CL", "1", "1", "1", "3"],
        ["CHEBI", "0", "0", "0", "0"],
        ["discontinuous", "1", "1", "1", "3"],
        ["nested", "0", "0", "0", "0"],
    ):
        assert line in lines(result.output)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["splits"]["dev"]["annotations"] == 4
    assert report["total"]["entities"]["CL"] == 3
    assert report["total"]["dropped"]["discontinuous"] == 3


def test_generate(tmp_path):
    result = run("roster-tiny", tmp_path / "out")
    done(result)
    assert names(tmp_path / "out") == FILES
    table = {row[0]: row[1:] for row in lines(result.output) if row}
    assert table["roster"] == ["train", "dev", "test", "total"]
    vocab = spacy.blank("en").vocab
    docs = list(DocBin().from_disk(tmp_path / "out" / "dev.spacy").get_docs(vocab))
    assert table["documents"][1] == str(len(docs))
    assert table["entities"][1] == str(sum(len(doc.ents) for doc in docs))
    # Of what does not occur, no more is said than this.
    assert table["dropped"] == ["0"] * 4
    assert not {"expanded", "enclosing", "nested", "crossing"} & set(table)


def test_seed(tmp_path):
    for folder, seed in (("one", 1), ("same", 1), ("other", 2)):
        done(run("roster-tiny", tmp_path / folder, "--seed", seed))
    for name in FILES:
        one, same, other = (
            (tmp_path / folder / name).read_bytes()
            for folder in ("one", "same", "other")
        )
        assert one == same
        assert one != other


def test_bad_seed(tmp_path):
    result = run("roster-tiny", tmp_path / "out", "--seed", "-1")
    assert result.exit_code == 2
    assert "--seed" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("corpus", ["litbank", "craft"])
@pytest.mark.parametrize("given", [True, False])
def test_nothing_there(corpus, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "nowhere" if given else f"assets/{corpus}.tar.gz"
    option = ["--source", source] if given else []
    message = "".join(failed(run(corpus, tmp_path / "out", *option)).split())
    assert f"nocorpusat{source}." in message
    assert "spacyprojectassets" in message
    assert not (tmp_path / "out").exists()


def test_output_is_a_file(tmp_path):
    (tmp_path / "out").write_text("mine")
    message = failed(run("roster-tiny", tmp_path / "out"))
    assert str(tmp_path / "out") in "".join(message.split())
    assert (tmp_path / "out").read_text() == "mine"


def test_help_lists_the_commands():
    result = run("--help")
    for command in ("litbank", "craft", "roster", "roster-long", "roster-tiny"):
        assert [row[1] for row in lines(result.output) if len(row) > 1].count(command)
