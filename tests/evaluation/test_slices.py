from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_modernbert.evaluation.consistency import check_consistency
from spacy_modernbert.evaluation.counts import Counts
from spacy_modernbert.evaluation.documents import read_examples
from spacy_modernbert.evaluation.slices import (
    FIRST,
    SEEN,
    SEEN_OTHERWISE,
    UNCUT,
    UNSEEN,
    name_bin,
    name_bins,
    read_seen,
    slice_by_edge,
    slice_by_length,
    slice_by_mention,
    slice_by_seen,
)

from .toys import examples_st, make_doc, score


def counts_of(slices):
    return {each.name: each.counts for each in slices}


def test_bins():
    assert name_bins((64, 1024)) == ["0–63", "64–1,023", "1,024 and more"]
    names = [name_bin(value, (64, 1024)) for value in (0, 63, 64, 1023, 1024, 9999)]
    assert names == [each for name in name_bins((64, 1024)) for each in (name, name)]


def test_length():
    short, long = (
        score("u " * 10, [(0, 1, "A")], []),
        score("u " * 300, [(0, 1, "A")], [(0, 1, "A"), (5, 6, "B")]),
    )
    assert counts_of(slice_by_length([long, short, long])) == {
        "0–255": Counts(0, 1, 0),
        "256–511": Counts(2, 2, 4),
    }
    assert [each.documents for each in slice_by_length([long, short, long])] == [1, 2]


def test_mention():
    words = "Ann x ann " + "x " * 70 + "ANN y"
    gold = [(0, 1, "A"), (2, 3, "A"), (73, 74, "A")]
    # Found where the reference has none: 0 tokens after a mention of no such name.
    doc = score(words, gold, [(0, 1, "A"), (73, 74, "B"), (74, 75, "A")])
    assert counts_of(slice_by_mention([doc])) == {
        FIRST: Counts(1, 1, 2),
        "0–63": Counts(0, 1, 0),
        "64–255": Counts(0, 1, 1),
    }


def test_mention_behind_what_was_found_too_long():
    """Its match begins with what was found, before another mention of the name."""
    words = ["x", "Ann", "x", "x", "Ann", *["x"] * 61, "Ann"]
    gold = [(1, 2, "B"), (4, 5, "A"), (66, 67, "A")]
    doc = score(" ".join(words), gold, [(0, 5, "A")])
    assert [mention.start for mention in doc.gold] == [4, 1, 66]
    # 61 tokens after the second, and 64 after the first.
    assert counts_of(slice_by_mention([doc])) == {
        FIRST: Counts(0, 1, 0),
        "0–63": Counts(0, 2, 1),
    }


def test_edge():
    doc = score("a b c d e", [(0, 2, "A"), (3, 4, "A")], [(0, 2, "A")])
    assert slice_by_edge([doc]) == []
    doc = replace(doc, distances=np.array([100, 15, 0, -1, -1]))
    assert counts_of(slice_by_edge([doc])) == {
        "0–15": Counts(1, 1, 1),
        UNCUT: Counts(0, 1, 0),
    }


def test_seen():
    seen = read_seen([make_doc(["Ann", "of", "Bergen"], [(0, 1, "A"), (2, 3, "B")])])
    assert seen == {"ann": {"A"}, "bergen": {"B"}}
    doc = score(
        "ANN bergen Oslo", [(0, 1, "A"), (1, 2, "A"), (2, 3, "B")], [(1, 2, "B")]
    )
    assert counts_of(slice_by_seen([doc], seen)) == {
        SEEN: Counts(0, 1, 0),
        # What was found in its place is seen with the label that it was given.
        SEEN_OTHERWISE: Counts(0, 1, 1),
        UNSEEN: Counts(0, 1, 0),
    }


SLICERS = [
    slice_by_length,
    slice_by_mention,
    lambda docs: slice_by_seen(docs, {"u": {"A"}, "v": {"B"}}),
    lambda docs: slice_by_edge(
        [replace(doc, distances=np.arange(len(doc.doc)) - 1) for doc in docs]
    ),
]


@pytest.mark.parametrize("slicer", SLICERS)
@given(examples_st())
def test_slices_are_the_whole(slicer, examples):
    docs = read_examples(examples)
    slices = slicer(docs)
    assert sum((each.counts for each in slices), Counts()) == sum(
        (doc.count() for doc in docs), Counts()
    )
    for each in slices:
        assert each.counts.correct <= min(each.counts.gold, each.counts.found)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5, unique=True).map(sorted))
def test_bins_have_no_gaps(bounds):
    names = [name_bin(value, bounds) for value in range(60)]
    assert list(dict.fromkeys(names)) == name_bins(bounds)


def test_consistency():
    words = "Ann Bob ann Bob BOB Cid"
    doc = score(
        words,
        [],
        [(0, 1, "A"), (2, 3, "A"), (1, 2, "A"), (3, 4, "B"), (4, 5, "B"), (5, 6, "A")],
        "novel",
    )
    found = check_consistency([doc], lambda each: each.found).to_dict()
    assert found == {
        "names": 2,
        "consistent": 1,
        "share": 0.5,
        "conflicts": [{"document": "novel", "name": "bob", "labels": {"B": 2, "A": 1}}],
    }
    # In another document, a name may mean something else.
    other = score("Ann Ann", [], [(0, 1, "B"), (1, 2, "B")])
    assert check_consistency([doc, other], lambda each: each.found).names == 3
    assert check_consistency([doc], lambda each: each.gold).share == 0.0
