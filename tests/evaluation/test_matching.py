import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_modernbert.evaluation.matching import Kind, match_mentions, normalize

from .toys import ents_st, mention


def mentions(ents):
    return [mention(*ent) for ent in ents]


def overlap(one, other):
    return one.start < other.end and other.start < one.end


def kinds(gold, found):
    return [match.kind for match in match_mentions(mentions(gold), mentions(found))]


@pytest.mark.parametrize(
    "gold, found, kind",
    [
        ((2, 4, "A"), (2, 4, "A"), Kind.CORRECT),
        ((2, 4, "A"), (2, 4, "B"), Kind.MISLABELLED),
        ((2, 4, "A"), (3, 5, "A"), Kind.BOUNDARY),
        ((2, 4, "A"), (1, 3, "B"), Kind.BOTH),
    ],
)
def test_kinds_of_pairs(gold, found, kind):
    assert kinds([gold], [found]) == [kind]


def test_what_has_no_pair():
    assert kinds([(0, 1, "A")], []) == [Kind.MISSED]
    assert kinds([], [(0, 1, "A")]) == [Kind.SPURIOUS]
    # Next to each other is not overlapping.
    assert kinds([(0, 2, "A")], [(2, 3, "A")]) == [Kind.MISSED, Kind.SPURIOUS]


def test_the_best_pair_wins():
    # Of two that overlap, the one with the label, though it comes later.
    found = [(0, 1, "B"), (2, 3, "A")]
    assert kinds([(0, 3, "A")], found) == [Kind.SPURIOUS, Kind.BOUNDARY]
    # The same span, rather than the same label.
    matches = match_mentions(
        mentions([(0, 2, "A"), (2, 4, "B")]), mentions([(1, 2, "A"), (2, 4, "A")])
    )
    assert [match.kind for match in matches] == [Kind.BOUNDARY, Kind.MISLABELLED]


def test_two_found_alike_are_one_correct():
    """Tokens found can be finer than those of the reference, and fall together."""
    twice = [(0, 1, "A"), (0, 1, "A")]
    assert kinds([(0, 1, "A")], twice) == [Kind.CORRECT, Kind.SPURIOUS]


@given(st.data())
def test_each_is_in_one_match(data):
    gold, found = (mentions(data.draw(ents_st(12))) for _ in range(2))
    matches = match_mentions(gold, found)
    assert sorted(m.gold.start for m in matches if m.gold) == [m.start for m in gold]
    assert sorted(m.found.start for m in matches if m.found) == [m.start for m in found]
    for match in matches:
        assert match.gold or match.found
        if match.gold and match.found:
            assert overlap(match.gold, match.found)
    # No two are left over that could be a pair.
    missed = [m.gold for m in matches if m.kind is Kind.MISSED]
    spurious = [m.found for m in matches if m.kind is Kind.SPURIOUS]
    assert not any(itertools.starmap(overlap, itertools.product(missed, spurious)))
    assert [match.start for match in matches] == sorted(m.start for m in matches)


def test_names():
    assert normalize("The \n OLD  Man ") == "the old man"
