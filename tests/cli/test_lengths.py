"""`python -m spacy modernbert lengths`."""

import json
import re
import shutil

import pytest
import spacy
from spacy.tokens import DocBin

from spacy_modernbert.documents.wordpieces import WordpieceTokenizer

from ..commands import done, failed, invoke
from ..util import make_text

TEXTS = [make_text(seed, 1 + 3 * seed) for seed in range(7)]


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.jsonl"
    lines = [json.dumps({"text": text}) for text in [*TEXTS, " "]]
    path.write_text("\n".join(lines), encoding="utf8")
    return path


@pytest.fixture
def docs(tmp_path):
    path = tmp_path / "docs.spacy"
    nlp = spacy.blank("en")
    DocBin(docs=[nlp(text) for text in TEXTS]).to_disk(path)
    return path


def run(*arguments):
    return invoke("lengths", *arguments)


def test_what_it_says(docs, checkpoint, tmp_path):
    output = tmp_path / "new" / "lengths.json"
    options = ["--tokenizer", checkpoint, "--window", 20, "--window", 100]
    words = done(run(docs, *options, "-o", output))
    found = json.loads(output.read_text())
    tokenizer = WordpieceTokenizer.from_file(checkpoint)
    n_pieces = sorted(len(pieces) for pieces in tokenizer(TEXTS))
    nlp = spacy.blank("en")
    for unit, wanted in (
        ("wordpieces", n_pieces),
        ("tokens", sorted(len(nlp(text)) for text in TEXTS)),
    ):
        assert found[unit] == {
            "total": sum(wanted),
            "least": wanted[0],
            "median": wanted[3],
            "most": wanted[6],
        }
    # A window has room for the special wordpieces as well.
    fit = {str(window): sum(n + 2 <= window for n in n_pieces) for window in (20, 100)}
    assert found["fit"] == fit and 0 < fit["20"] < fit["100"] < 7
    assert "7 documents" in words and f"{sum(n_pieces):,}" in words
    assert f"a window of 100 holds {fit['100']} whole" in words


def test_texts_have_no_tokens(texts, docs, checkpoint):
    words = done(run(texts, "--tokenizer", checkpoint))
    assert "tokens" not in words and "7 documents" in words
    words = done(run(texts, docs, "--tokenizer", checkpoint))
    assert "tokens" not in words and "14 documents" in words


def test_a_folder(docs, texts, checkpoint, tmp_path):
    """Of its .spacy files."""
    shutil.copy(docs, tmp_path / "more.spacy")
    words = done(run(tmp_path, "--tokenizer", checkpoint))
    assert "tokens" in words and "14 documents" in words
    options = ["--tokenizer", checkpoint, "-o", docs]
    assert "docs.spacy is used for more" in failed(run(tmp_path, *options))


@pytest.mark.parametrize(
    "change, message",
    [
        (["absent.spacy"], "absent.spacy"),
        (["mini"], "no .spacy files in the folder mini"),
        (["blank.txt"], "no text in blank.txt"),
        (["bad.spacy"], "bad.spacy cannot be read as a .spacy file"),
        (["texts.jsonl", "--tokenizer", "./absent"], "absent"),
        (["texts.jsonl", "--output", "."], "Is a directory"),
        (["texts.jsonl", "--output", "./texts.jsonl"], "texts.jsonl is used for more"),
        (
            ["texts.jsonl", "--tokenizer", "mini", "-o", "mini/tokenizer.json"],
            "tokenizer.json is used for more",
        ),
    ],
)
def test_mistakes(change, message, texts, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(checkpoint, tmp_path / "mini")
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "bad.spacy").write_bytes(b"no docs")
    assert re.search(message, failed(run("--tokenizer", checkpoint, *change)))
