import pytest

from spacy_modernbert.corpora.splits import LITBANK, check_splits

SPLITS = {"train": ("a", "b"), "dev": ("c",), "test": ("d",)}


def test_complete():
    check_splits("x", SPLITS, {"a", "b", "c", "d"})


def test_missing_document():
    with pytest.raises(FileNotFoundError, match=r"x .*\['b', 'd'\]"):
        check_splits("x", SPLITS, {"a", "c"})


def test_document_in_no_split():
    with pytest.raises(ValueError, match=r"x .*\['e'\]"):
        check_splits("x", SPLITS, {"a", "b", "c", "d", "e"})


def test_document_in_two_splits():
    with pytest.raises(ValueError, match=r"x .*\['c'\]"):
        check_splits("x", {**SPLITS, "test": ("c", "d")}, {"a", "b", "c", "d"})


def test_litbank():
    assert {name: len(works) for name, works in LITBANK.items()} == {
        "train": 80,
        "dev": 10,
        "test": 10,
    }
    assert len({work for works in LITBANK.values() for work in works}) == 100
