import json
import shutil
import zlib

import pytest
import spacy
import srsly
from spacy.tokens import DocBin

from spacy_modernbert.raw_texts import read_texts

TEXTS = ["One.", "Two\nthree 🐈."]


def test_formats(tmp_path):
    lines = [json.dumps({"text": text}) for text in [*TEXTS, " "]]
    (tmp_path / "a.jsonl").write_text("\n\n".join(lines))
    nlp = spacy.blank("en")
    DocBin(docs=[nlp(text) for text in TEXTS]).to_disk(tmp_path / "a.spacy")
    (tmp_path / "a.txt").write_text(TEXTS[1], encoding="utf8")
    assert read_texts(tmp_path / "a.jsonl") == TEXTS
    assert read_texts(tmp_path / "a.spacy") == TEXTS
    assert read_texts(tmp_path / "a.txt") == TEXTS[1:]
    assert read_texts(tmp_path) == TEXTS  # of its .spacy files
    for name in ("a.ndjson", "a.JSONL"):
        shutil.copy(tmp_path / "a.jsonl", tmp_path / name)
        assert read_texts(tmp_path / name) == TEXTS


def test_a_byte_order_mark_is_no_text(tmp_path):
    for name, text in (("a.jsonl", '{"text": "One."}'), ("a.txt", "One.")):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        assert read_texts(tmp_path / name) == ["One."]


@pytest.mark.parametrize(
    "line", [b"no json", b"[]", b'{"txt": "x"}', b'{"text": 3}', b'{"text": "\xff"}']
)
def test_a_bad_line_is_named(tmp_path, line):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "fine"}\n' + line)
    with pytest.raises(ValueError, match=r"Line 2 of .*a\.jsonl"):
        read_texts(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    "part",
    [
        {"attrs": []},  # ZeroDivisionError
        {"cats": []},  # IndexError
        {"flags": ["x", "y"]},  # AttributeError
        {"cats": {}},  # KeyError
        {"tokens": b"cut"},  # ValueError
        {"lengths": None},  # TypeError
    ],
)
def test_docs_that_are_damaged(tmp_path, part):
    """spaCy raises whatever comes up."""
    nlp = spacy.blank("en")
    data = DocBin(docs=[nlp(text) for text in TEXTS]).to_bytes()
    parts = {**srsly.msgpack_loads(zlib.decompress(data)), **part}
    (tmp_path / "a.spacy").write_bytes(zlib.compress(srsly.msgpack_dumps(parts)))
    with pytest.raises(ValueError, match=r"a\.spacy cannot be read as a \.spacy file"):
        read_texts(tmp_path / "a.spacy")


def test_docs_that_are_only_too_many(tmp_path, monkeypatch):
    def refuse(self, data):
        raise MemoryError

    (tmp_path / "a.spacy").touch()
    monkeypatch.setattr(DocBin, "from_bytes", refuse)
    with pytest.raises(MemoryError):
        read_texts(tmp_path / "a.spacy")


def test_other_files(tmp_path):
    with pytest.raises(ValueError, match="no file"):
        read_texts(tmp_path / "absent.jsonl")
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(ValueError, match=r"no \.spacy files in the folder"):
        read_texts(tmp_path)
    with pytest.raises(ValueError, match="jsonl"):
        read_texts(tmp_path / "a.csv")
    (tmp_path / "a.spacy").write_bytes(b"broken")
    with pytest.raises(ValueError, match="cannot be read"):
        read_texts(tmp_path / "a.spacy")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match=r"a\.txt is not UTF-8 .* Convert it"):
        read_texts(tmp_path / "a.txt")
