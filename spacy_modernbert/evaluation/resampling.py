"""How sure a score is, and whether one pipeline is better than another.

The entities of one document are not independent, so documents are drawn, not entities.

Intervals are those of the percentile bootstrap: Efron and Tibshirani (1993), An
Introduction to the Bootstrap, chapter 13. The test is approximate randomization:
Noreen (1989), Computer-Intensive Methods for Testing Hypotheses; for F-scores, Yeh
(2000), More accurate tests for the statistical significance of result differences,
https://aclanthology.org/C00-2137.
"""

from dataclasses import dataclass
from typing import (
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import numpy as np

from ..errors import Errors
from ..types import Floats, Ints
from .counts import Counts

# Counts as they are, or sums of them by a product of matrices: whole numbers, too.
Numbers = Union[Ints, Floats]

# Columns of counts.
_GOLD, _FOUND = 1, 2

# Draws that are made at once, and sets of counts that they serve, so that memory is
# bounded.
_BLOCK = 256
_SETS = 64

# The confidence of intervals.
LEVEL = 0.95


@dataclass(frozen=True)
class Resampling:
    """How to draw.

    samples (int): How often. At least 1.
    seed (int): The same seed draws the same documents.
    """

    samples: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(Errors.BAD_SAMPLES.format(value=self.samples))


@dataclass(frozen=True)
class Interval:
    """Where a score lies.

    low, high (float): The ends of the interval.
    """

    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """Where the scores of some documents lie.

    precision, recall, f_score (Optional[Interval]): Where each lies; None where at most
        one document has anything to score, which does not tell how much is chance. That
        of F is None, too, where the reference has no entities: F is 0 whatever is
        found.
    """

    precision: Optional[Interval]
    recall: Optional[Interval]
    f_score: Optional[Interval]


@dataclass(frozen=True)
class Comparison:
    """The F of one pipeline against that of another, on the same documents.

    difference (Optional[float]): The F of the one less that of the other. None where
        the reference has no entities: both are 0 whatever is found.
    interval (Optional[Interval]): Where that difference lies, by paired bootstrap.
    p_value (Optional[float]): How often a difference at least this large, in either
        direction, arises if for each document it is left to chance which of the two
        pipelines its entities are attributed to.

    With entities in one document or none, it cannot be said what is chance, and the
    last two are None. So they are where the difference is.
    """

    difference: Optional[float]
    interval: Optional[Interval]
    p_value: Optional[float]

    def to_dict(self) -> Dict[str, Optional[float]]:
        """RETURNS (Dict[str, Optional[float]]): All that, flat."""
        interval = self.interval
        return {
            "difference": self.difference,
            "low": None if interval is None else interval.low,
            "high": None if interval is None else interval.high,
            "p_value": self.p_value,
        }


def to_array(counts: Iterable[Counts]) -> Ints:
    """RETURNS (Ints): `(n_docs, 3)` the counts of documents: correct, gold, found."""
    rows = [(each.correct, each.gold, each.found) for each in counts]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def precisions(totals: Numbers) -> Floats:
    """RETURNS (Floats): `(...)`, of totals `(..., 3)`: correct divided by found."""
    return _divide(totals[..., 0], totals[..., 2])


def recalls(totals: Numbers) -> Floats:
    """RETURNS (Floats): `(...)`, of totals `(..., 3)`: correct divided by gold."""
    return _divide(totals[..., 0], totals[..., 1])


def f_scores(totals: Numbers) -> Floats:
    """RETURNS (Floats): `(...)`, of totals `(..., 3)`: their harmonic mean."""
    return _divide(2 * totals[..., 0], totals[..., 1] + totals[..., 2])


def bootstrap(sets: Sequence[Ints], resampling: Resampling) -> Iterator[Intervals]:
    """Find where scores lie, by drawing as many documents as there are, with
    replacement, again and again. A draw with nothing to score, such as one with none of
    the few documents that have a label, says nothing of where that score lies.

    sets (Sequence[Ints]): Several counts of the same documents, such as those of each
        label, each `(n_docs, 3)`: see `to_array`. At least one document. The same draws
        serve all.
    resampling (Resampling): How to draw.
    YIELDS (Intervals): Where the scores of each lie, as far as that can be said.
    """
    firsts, times = _find_alike(sets)
    for some in _group(sets):
        counts = _stack(some, firsts)
        draws = _draw_documents(times, resampling)
        totals = np.concatenate([drawn @ counts for drawn in draws])
        for each, of_draws in zip(some, _ungroup(totals), strict=True):
            yield _find_intervals(each, of_draws)


def compare(
    ones: Sequence[Ints], others: Sequence[Ints], resampling: Resampling
) -> Iterator[Comparison]:
    """Compare the F of two pipelines.

    ones, others (Sequence[Ints]): Several counts of each for the same documents, as for
        `bootstrap`.
    resampling (Resampling): How to draw.
    YIELDS (Comparison): How those of each compare.
    """
    firsts, times = _find_alike([*ones, *others])
    for some, theirs in zip(_group(ones), _group(others), strict=True):
        one, other = _stack(some, firsts), _stack(theirs, firsts)
        pairs = [
            (drawn @ one, drawn @ other) for drawn in _draw_documents(times, resampling)
        ]
        totals, their_totals = map(np.concatenate, zip(*pairs, strict=True))
        # What the one gains when documents change sides, the other loses.
        swaps = _draw_swaps(times, resampling)
        gained = np.concatenate([swapped @ (other - one) for swapped in swaps])
        drawn_of_each = map(_ungroup, (totals, their_totals, gained))
        for counts, their_counts, *found in zip(
            some, theirs, *drawn_of_each, strict=True
        ):
            yield _compare(counts, their_counts, resampling, *found)


def _find_intervals(counts: Ints, totals: Floats) -> Intervals:
    """totals (Floats): `(samples, 3)`, those of each draw."""

    def find(score: Callable[[Floats], Floats], *columns: int) -> Optional[Interval]:
        if not _tells_of_chance(counts[:, columns]):
            return None
        has_any = totals[:, columns].any(axis=1)
        return _interval(score(totals[has_any]))

    return Intervals(
        precision=find(precisions, _FOUND),
        recall=find(recalls, _GOLD),
        f_score=find(f_scores, _GOLD, _FOUND) if counts[:, _GOLD].any() else None,
    )


def _compare(
    one: Ints,
    other: Ints,
    resampling: Resampling,
    totals: Floats,
    other_totals: Floats,
    gained: Floats,
) -> Comparison:
    """totals, other_totals (Floats): `(samples, 3)`, those of each draw of documents.
    gained (Floats): `(samples, 3)`, what the one gains where some change sides.
    """
    whole, other_whole = one.sum(axis=0), other.sum(axis=0)
    if not whole[_GOLD] and not other_whole[_GOLD]:
        return Comparison(None, None, None)
    observed = float(_difference(whole, other_whole))
    if not _tells_of_chance(np.hstack((one, other))):
        return Comparison(observed, None, None)
    # As in `bootstrap`: the other draws have nothing to compare.
    has_any = (totals + other_totals)[:, 1:].any(axis=1)
    differences = _difference(totals[has_any], other_totals[has_any])
    interval = _interval(differences)
    if interval is None:
        return Comparison(observed, None, None)
    swapped = _difference(whole + gained, other_whole - gained)
    # A difference that is smaller only by rounding counts as equally large.
    as_large = int((np.abs(swapped) >= abs(observed) - 1e-12).sum())
    return Comparison(
        difference=observed,
        interval=interval,
        p_value=(as_large + 1) / (resampling.samples + 1),
    )


def _group(sets: Sequence[Ints]) -> Iterator[Sequence[Ints]]:
    """So many at a time that memory is bounded."""
    for start in range(0, len(sets), _SETS):
        yield sets[start : start + _SETS]


def _find_alike(sets: Sequence[Ints]) -> Tuple[Ints, Ints]:
    """Find documents with the same counts in all sets. It makes no difference which of
    them is drawn, so they are drawn together: of many short documents, most are alike.

    RETURNS (Tuple[Ints, Ints]): `(n,)`, `(n,)` the first document of each kind, in
        order, and how many there are of it.
    """
    kinds: Ints = np.zeros(len(sets[0]), dtype=np.int64)
    for column in (column for each in sets for column in each.T):
        # A number for each pair of a kind so far and a count, from 0 on again.
        pairs = kinds * (column.max() + 1) + column
        kinds = np.unique(pairs, return_inverse=True)[1]
    _, firsts, times = np.unique(kinds, return_index=True, return_counts=True)
    order = np.argsort(firsts)
    return firsts[order], times[order]


def _stack(sets: Sequence[Ints], firsts: Ints) -> Floats:
    """RETURNS (Floats): `(n, n_sets * 3)` the counts of a document of each kind."""
    counts: List[Ints] = [each[firsts] for each in sets]
    return np.concatenate(counts, axis=1).astype(np.float64)


def _ungroup(totals: Floats) -> Iterator[Floats]:
    """`(samples, 3)` of each set, of `(samples, n_sets * 3)`."""
    return iter(np.split(totals, totals.shape[1] // 3, axis=1))


def _tells_of_chance(counts: Ints) -> bool:
    """RETURNS (bool): Whether more than one document has anything to score. With only
    one, all draws score the same.
    """
    return int(np.count_nonzero(counts.any(axis=1))) > 1


def _difference(one: Numbers, other: Numbers) -> Floats:
    return f_scores(one) - f_scores(other)


def _draw_documents(times: Ints, resampling: Resampling) -> Iterator[Floats]:
    """How often documents of each kind are drawn, `(n, n_kinds)` at a time: as floating
    point, whose products of matrices are fast, and exact for whole numbers.

    times (Ints): `(n_kinds,)` how many documents there are of each.
    """
    rng = np.random.default_rng(resampling.seed)
    n_docs = int(times.sum())
    for n in _blocks(resampling.samples):
        drawn = rng.multinomial(n_docs, times / n_docs, size=n)
        yield drawn.astype(np.float64)


def _draw_swaps(times: Ints, resampling: Resampling) -> Iterator[Floats]:
    """How many documents of each kind change sides, `(n, n_kinds)` at a time.

    times (Ints): `(n_kinds,)` how many there are of each.
    """
    rng = np.random.default_rng(resampling.seed)
    for n in _blocks(resampling.samples):
        size = (n, len(times))
        # Of one document, a coin says the same, and sooner.
        swapped = (
            rng.binomial(times, 0.5, size=size)
            if (times > 1).any()
            else rng.integers(0, 2, size=size)
        )
        yield swapped.astype(np.float64)


def _blocks(samples: int) -> Iterator[int]:
    for start in range(0, samples, _BLOCK):
        yield min(_BLOCK, samples - start)


def _interval(scores: Floats) -> Optional[Interval]:
    if scores.size == 0:  # too few draws
        return None
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(scores, [tail, 1 - tail])
    return Interval(float(low), float(high))


def _divide(part: Numbers, whole: Numbers) -> Floats:
    # As `counts.ratio`: 0 of nothing.
    return np.asarray(part / np.maximum(whole, 1), dtype=np.float64)
