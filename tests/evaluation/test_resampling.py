import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_modernbert.evaluation.counts import Counts
from spacy_modernbert.evaluation.resampling import (
    Comparison,
    Interval,
    Intervals,
    Resampling,
    bootstrap,
    compare,
    f_scores,
    precisions,
    recalls,
    to_array,
)

FEW = Resampling(samples=300, seed=0)


def intervals_of(counts, resampling=FEW):
    (intervals,) = bootstrap([counts], resampling)
    return intervals


def compare_two(one, other, resampling=FEW):
    (comparison,) = compare([one], [other], resampling)
    return comparison


@st.composite
def counts_st(draw):
    gold, found = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    return Counts(draw(st.integers(0, min(gold, found))), gold, found)


docs_st = st.lists(counts_st(), min_size=1, max_size=6)


@given(docs_st)
def test_scores_of_arrays_are_those_of_counts(docs):
    array, total = to_array(docs), sum(docs, Counts())
    for score, wanted in (
        (precisions, total.precision),
        (recalls, total.recall),
        (f_scores, total.f_score),
    ):
        assert float(score(array.sum(axis=0))) == pytest.approx(wanted)


@given(docs_st)
def test_intervals(docs):
    array = to_array(docs)
    intervals = intervals_of(array)
    assert intervals == intervals_of(array)
    # A score of several documents lies between those of its documents.
    for name in ("precision", "recall", "f_score"):
        interval = getattr(intervals, name)
        if interval is None:
            continue
        scores = [0.0, *(getattr(doc, name) for doc in docs)]
        assert 0 <= interval.low <= interval.high <= max(scores) + 1e-9
    scores = [doc.f_score for doc in docs if doc.gold or doc.found]
    told = len(scores) > 1 and any(doc.gold for doc in docs)
    assert (intervals.f_score is not None) == told
    if intervals.f_score and len(scores) == len(docs):
        assert intervals.f_score.low >= min(scores) - 1e-9


def test_several_at_once(monkeypatch):
    """The same draws serve all, however many are multiplied at once."""
    rng = np.random.default_rng(0)
    found, gold = rng.integers(0, 9, (2, 8, 12, 1))
    correct = np.minimum(found, gold) // 2
    sets = list(np.concatenate([correct, gold, found], axis=2))
    sets[1][2:] = 0  # little to say of
    sets[2][:] = 0
    others = sets[::-1]
    at_once = list(bootstrap(sets, FEW)), list(compare(sets, others, FEW))
    monkeypatch.setattr("spacy_modernbert.evaluation.resampling._SETS", 3)
    assert (list(bootstrap(sets, FEW)), list(compare(sets, others, FEW))) == at_once


def test_several_are_as_if_alone():
    """Where the documents of each differ, so that none are drawn together."""
    sets = [to_array([Counts(i % 5, 5 + i, 6 + k) for i in range(9)]) for k in (0, 7)]
    assert list(bootstrap(sets, FEW)) == [intervals_of(each) for each in sets]
    others = [np.add(each, [0, k, k]) for k, each in enumerate(sets, 1)]
    pairs = [compare_two(*pair) for pair in zip(sets, others, strict=True)]
    assert list(compare(sets, others, FEW)) == pairs


def test_bootstrap_against_a_loop():
    """Documents drawn one by one, with another generator."""
    docs = to_array([Counts(i % 5, 5, 6) for i in range(20)])
    rng = np.random.default_rng(7)
    totals = np.array(
        [docs[rng.integers(0, 20, size=20)].sum(axis=0) for _ in range(4000)]
    )
    intervals = intervals_of(docs, Resampling(samples=4000))
    for interval, scores in (
        (intervals.precision, precisions(totals)),
        (intervals.recall, recalls(totals)),
        (intervals.f_score, f_scores(totals)),
    ):
        assert (interval.low, interval.high) == pytest.approx(
            np.quantile(scores, [0.025, 0.975]), abs=0.02
        )


def test_many_documents_that_are_alike():
    """Draws take as much memory as there are kinds of documents."""
    kinds = [Counts(), Counts(1, 1, 1), Counts(0, 1, 0), Counts(0, 1, 1)]
    docs = np.repeat(to_array(kinds), 50_000, axis=0)
    others = docs[::-1].copy()
    tracemalloc.start()
    intervals, compared = intervals_of(docs), compare_two(docs, others)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6
    # By the normal distribution, as of so many.
    recall = intervals.recall
    assert (recall.low + recall.high) / 2 == pytest.approx(1 / 3, abs=2e-4)
    wanted = 2 * 1.96 * (1 / 3 * 2 / 3 / 150_000) ** 0.5
    assert recall.high - recall.low == pytest.approx(wanted, rel=0.2)
    assert compared.difference == 0 and compared.p_value == 1


def test_documents_that_differ_are_drawn_one_by_one():
    """So the figures of a corpus of long documents are what they have been."""
    docs = to_array([Counts(i % 5, 5 + i, 6) for i in range(20)])
    drawn = np.random.default_rng(0).multinomial(20, np.full(20, 1 / 20), size=200)
    wanted = np.quantile(f_scores(drawn @ docs), [0.025, 0.975])
    found = intervals_of(docs, Resampling(samples=200)).f_score
    assert [found.low, found.high] == wanted.tolist()
    others = docs - [0, 0, 1]
    swapped = np.random.default_rng(0).integers(0, 2, (200, 20)) @ (others - docs)
    one, other = f_scores(docs.sum(0)), f_scores(others.sum(0))
    differences = f_scores(docs.sum(0) + swapped) - f_scores(others.sum(0) - swapped)
    as_large = np.sum(np.abs(differences) >= abs(one - other) - 1e-12)
    compared = compare_two(docs, others, Resampling(samples=200))
    assert compared.p_value == (as_large + 1) / 201


@pytest.mark.parametrize("counts", [Counts(3, 5, 5), Counts(0, 0, 5), Counts()])
@pytest.mark.parametrize("n_others", [0, 9])
def test_a_label_of_one_document(counts, n_others):
    """Draws without that document do not tell how well the label is found, and all
    others tell the same.
    """
    docs = to_array([counts, *[Counts()] * n_others])
    assert intervals_of(docs) == Intervals(None, None, None)


def test_a_label_of_two_documents():
    # Precision is of what was found, in one document; recall of what there is, in two.
    docs = to_array([Counts(5, 5, 5), Counts(0, 5, 0), *[Counts()] * 8])
    intervals = intervals_of(docs)
    assert intervals.precision is None
    assert intervals.recall == Interval(0.0, 1.0)
    # Draws with neither of them do not tell.
    docs = to_array([Counts(5, 5, 5), Counts(5, 5, 5), *[Counts()] * 8])
    assert intervals_of(docs) == Intervals(*[Interval(1.0, 1.0)] * 3)


def test_comparing_a_label_of_one_document():
    nothing = [Counts()] * 9
    one, other = (
        to_array([each, *nothing]) for each in (Counts(5, 5, 5), Counts(0, 5))
    )
    assert compare_two(one, other) == Comparison(1.0, None, None)
    # Here, the other found something in a second one.
    other[3] = [0, 0, 2]
    found = compare_two(one, other)
    assert found.interval == Interval(0.0, 1.0) and found.p_value > 0.1


def test_a_label_that_the_reference_does_not_have():
    """F is 0, whether one of them is found in its place, or a hundred."""
    one, other = (to_array([Counts(0, 0, n)] * 20) for n in (1, 9))
    assert compare_two(one, other) == Comparison(None, None, None)
    intervals = intervals_of(one)
    assert intervals.f_score is None and intervals.precision == Interval(0.0, 0.0)
    nothing = to_array([Counts()] * 20)
    assert compare_two(nothing, nothing) == Comparison(None, None, None)


def test_randomization_by_hand():
    """With two documents, four ways to swap can be listed: two of them are as extreme
    as what was observed, so p is about one half. So it is where the two are alike."""
    alike = [to_array([Counts(n, 5, 5)] * 2) for n in (4, 1)]
    p_value = compare_two(*alike, Resampling(samples=4000)).p_value
    assert p_value == pytest.approx(0.5, abs=0.03)
    one = to_array([Counts(5, 5, 5), Counts(4, 5, 5)])
    other = to_array([Counts(3, 5, 5), Counts(1, 5, 5)])
    comparison = compare_two(one, other, Resampling(samples=4000))
    assert comparison.difference == pytest.approx(0.5)
    assert comparison.p_value == pytest.approx(0.5, abs=0.03)
    assert comparison.interval.low == pytest.approx(0.4)
    assert comparison.interval.high == pytest.approx(0.6)


@given(docs_st, docs_st)
def test_comparisons_are_of_both_sides(docs, others):
    n = min(len(docs), len(others))
    one, other = to_array(docs[:n]), to_array(others[:n])
    forth, back = compare_two(one, other), compare_two(other, one)
    if not any(doc.gold for doc in (*docs[:n], *others[:n])):
        assert forth == back == Comparison(None, None, None)
        return
    assert forth.difference == pytest.approx(-back.difference)
    assert forth.p_value == back.p_value
    told = np.count_nonzero(np.hstack((one, other)).any(axis=1)) > 1
    assert (forth.p_value is not None) == (forth.interval is not None) == told
    if told:
        assert 1 / 301 <= forth.p_value <= 1
    told = np.count_nonzero(one.any(axis=1)) > 1 and one[:, 1].any()
    assert compare_two(one, one).p_value == (1.0 if told else None)


def test_a_clear_difference_is_seen():
    better = to_array([Counts(9, 10, 10)] * 30)
    worse = to_array([Counts(6, 10, 10)] * 30)
    comparison = compare_two(better, worse, Resampling(samples=999))
    assert comparison.p_value == pytest.approx(1 / 1000)
    assert comparison.to_dict()["low"] > 0


def test_what_makes_no_sense():
    with pytest.raises(ValueError, match="The default is"):
        Resampling(samples=0)
