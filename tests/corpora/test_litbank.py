from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin

from spacy_modernbert.corpora.files import decode, load_files
from spacy_modernbert.corpora.litbank import LABELS, convert_litbank

from .util import raw_corpus

SPLITS = {"train": ("1_emma",), "test": ("2_persuasion",)}
ANN = "T1\tPER 0 4\tEmma\nT2\tPER 9 26\tthe King of Spain\nT3\tGPE 21 26\tSpain\n"
TXT = "Emma met the King of Spain .\nAnd so on .\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "entities" / "brat"
    folder.mkdir(parents=True)
    for name in ("1_emma", "2_persuasion"):
        (folder / f"{name}_brat.ann").write_bytes(ANN.encode())
        (folder / f"{name}_brat.txt").write_bytes(TXT.encode())
    (folder / "annotation.conf").write_text("[entities]")
    (tmp_path / "README.md").write_text("# LitBank")
    return tmp_path


def test_convert(source):
    corpus = convert_litbank(source, SPLITS)
    (doc,) = corpus.splits["test"]
    assert doc.user_data["id"] == "2_persuasion"
    assert doc.text == TXT
    assert [(ent.label_, ent.text) for ent in doc.ents] == [
        ("PER", "Emma"),
        ("PER", "the King of Spain"),
    ]
    assert corpus.report.splits["train"].dropped["nested"] == 1
    assert list(corpus.report.total.entities) == list(LABELS)


def test_text_without_annotations_file(source):
    (source / "entities/brat/1_emma_brat.ann").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*1_emma_brat\.ann"):
        convert_litbank(source, SPLITS)


def test_annotations_without_text(source):
    (source / "entities/brat/1_emma_brat.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*1_emma_brat\.txt"):
        convert_litbank(source, SPLITS)


def test_works_missing(source):
    with pytest.raises(FileNotFoundError, match="105_persuasion"):
        convert_litbank(source)


def test_other_layer(source):
    path = source / "entities/brat/1_emma_brat.ann"
    path.write_text("T1\tPRON 0 4\tEmma\n")
    with pytest.raises(ValueError, match=r"1_emma has the labels \['PRON'\]"):
        convert_litbank(source, SPLITS)


def test_counts_of_the_corpus(litbank):
    report = litbank.report
    counts = {
        name: (split.documents, split.tokens, split.annotations, split.expanded)
        for name, split in report.splits.items()
    }
    assert counts == {
        "train": (80, 178_085, 11_164, 10),
        "dev": (10, 21_980, 1_422, 0),
        "test": (10, 22_172, 1_326, 1),
    }
    # In the order of the labels
    assert {
        name: tuple(split.entities[label] for label in LABELS)
        for name, split in report.splits.items()
    } == {
        "train": (6_380, 1_509, 540, 747, 141, 87),
        "dev": (797, 170, 54, 161, 25, 5),
        "test": (829, 213, 30, 62, 15, 4),
    }
    # Nothing but nested annotations is lost.
    for name, nested in {"train": 1_760, "dev": 210, "test": 173}.items():
        dropped = report.splits[name].dropped
        assert (dropped["nested"], sum(dropped.values())) == (nested, nested)


def test_works_are_whole(litbank):
    pattern = "entities/brat/*_brat.txt"
    raw = load_files(raw_corpus("litbank-entities.tar.xz"), (pattern,))
    docs = [doc for split in litbank.splits.values() for doc in split]
    paths = [pattern.replace("*", doc.user_data["id"]) for doc in docs]
    assert sorted(paths) == sorted(raw)
    for doc, path in zip(docs, paths, strict=True):
        assert doc.text == decode(raw, path)
        assert doc.has_annotation("ENT_IOB", require_complete=True)
        assert all(ent.text == ent.text.strip() for ent in doc.ents)


def test_files_hold_the_corpus(litbank, tmp_path):
    litbank.write(tmp_path)
    vocab = spacy.blank("en").vocab
    for split, docs in litbank.splits.items():
        loaded = DocBin().from_disk(tmp_path / f"{split}.spacy").get_docs(vocab)
        for doc, other in zip(docs, loaded, strict=True):
            assert doc.text == other.text
            assert doc.user_data["id"] == other.user_data["id"]
            assert [(ent.start, ent.end, ent.label_) for ent in doc.ents] == [
                (ent.start, ent.end, ent.label_) for ent in other.ents
            ]
