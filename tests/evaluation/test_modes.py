import pytest
from hypothesis import given

from spacy_modernbert.evaluation.counts import Counts, ModeCounts
from spacy_modernbert.evaluation.documents import read_examples
from spacy_modernbert.evaluation.matching import match_mentions
from spacy_modernbert.evaluation.modes import count_modes

from .toys import examples_st, mention


def test_by_hand():
    """One of each kind."""
    gold = [(0, 1, "A"), (2, 3, "A"), (4, 6, "A"), (8, 10, "A"), (12, 13, "A")]
    found = [(0, 1, "A"), (2, 3, "B"), (4, 5, "A"), (9, 11, "B"), (14, 15, "A")]
    matches = match_mentions(
        [mention(*ent) for ent in gold], [mention(*ent) for ent in found]
    )
    counted = count_modes(matches)
    # correct, incorrect, partial, missed, spurious
    assert counted == {
        "strict": ModeCounts(1, 3, 0, 1, 1),
        "exact": ModeCounts(2, 2, 0, 1, 1),
        "partial": ModeCounts(2, 0, 2, 1, 1),
        "type": ModeCounts(2, 2, 0, 1, 1),
    }
    assert counted["partial"].precision == pytest.approx(3 / 5)
    assert counted["partial"].f_score == pytest.approx(3 / 5)


@given(examples_st())
def test_modes_that_ask_for_less_give_more(examples):
    docs = read_examples(examples)
    modes = count_modes(match for doc in docs for match in doc.matches)
    for score in ("precision", "recall", "f_score"):
        strict, exact, partial, type_ = (
            getattr(modes[mode], score)
            for mode in ("strict", "exact", "partial", "type")
        )
        assert strict <= exact <= partial
        assert strict <= type_
    total = sum((doc.count() for doc in docs), Counts())
    for counts in modes.values():
        assert counts.parts[1:] == (total.gold, total.found)
    assert modes["strict"].f_score == pytest.approx(total.f_score)


def test_nothing():
    for counts in count_modes([]).values():
        assert counts.to_dict()["f"] == 0.0
    assert Counts().to_dict()["p"] == 0.0
