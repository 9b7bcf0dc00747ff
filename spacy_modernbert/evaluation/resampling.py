"""How sure a score is, and whether one pipeline is better than another.

Entities of one document go together, so documents are drawn, not entities.

Intervals are those of the percentile bootstrap: Efron and Tibshirani (1993), An
Introduction to the Bootstrap, chapter 13. The test is approximate randomization:
Noreen (1989), Computer-Intensive Methods for Testing Hypotheses; for F-scores, Yeh
(2000), More accurate tests for the statistical significance of result differences,
https://aclanthology.org/C00-2137.
"""

from dataclasses import dataclass
from typing import Callable, Dict, Iterable, Iterator, Optional

import numpy as np

from ..errors import Errors
from ..types import Floats, Ints
from .counts import Counts

# Columns of counts.
_GOLD, _FOUND = 1, 2

# Draws that are made at once, so that memory is bounded.
_BLOCK = 256


@dataclass(frozen=True)
class Resampling:
    """How to draw.

    samples (int): How often. At least 1.
    seed (int): The same seed draws the same documents.
    level (float): The confidence of intervals, such as 0.95.
    """

    samples: int = 10_000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(Errors.BAD_SAMPLES.format(value=self.samples))
        if not 0 < self.level < 1:
            raise ValueError(Errors.BAD_LEVEL.format(value=self.level))


@dataclass(frozen=True)
class Interval:
    """Where a score lies. low, high (float): Its ends."""

    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """Where the scores of some documents lie. precision, recall, f_score
    (Optional[Interval]); None where a single document has what is scored, or none has:
    nothing can be said of chance then.
    """

    precision: Optional[Interval]
    recall: Optional[Interval]
    f_score: Optional[Interval]


@dataclass(frozen=True)
class Comparison:
    """The F of one pipeline against that of another, on the same documents.

    difference (float): The F of the one less that of the other.
    interval (Optional[Interval]): Where that difference lies, by paired bootstrap.
    p_value (Optional[float]): How often so large a difference, in either direction,
        comes about if it does not matter which of the two a document's entities are
        from.

    With entities in one document or none, nothing can be said of chance, and the last
    two are None.
    """

    difference: float
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


def precisions(totals: Ints) -> Floats:
    """RETURNS (Floats): `(...)`, of totals `(..., 3)`: correct by found."""
    return _divide(totals[..., 0], totals[..., 2])


def recalls(totals: Ints) -> Floats:
    """RETURNS (Floats): `(...)`, of totals `(..., 3)`: correct by gold."""
    return _divide(totals[..., 0], totals[..., 1])


def f_scores(totals: Ints) -> Floats:
    """RETURNS (Floats): `(...)`, of totals `(..., 3)`: their harmonic mean."""
    return _divide(2 * totals[..., 0], totals[..., 1] + totals[..., 2])


def bootstrap(counts: Ints, resampling: Resampling) -> Intervals:
    """Find where scores lie, by drawing as many documents as there are, with
    replacement, again and again. A draw with nothing to score, such as one with none of
    the few documents that have a label, says nothing of where that score lies.

    counts (Ints): `(n_docs, 3)`, see `to_array`. At least one document.
    resampling (Resampling): How to draw.
    RETURNS (Intervals): Where they lie, as far as that can be said.
    """
    draws = _draw_documents(len(counts), resampling)
    totals = np.concatenate([times @ counts for times in draws])

    def find(score: Callable[[Ints], Floats], *columns: int) -> Optional[Interval]:
        if not _tells_of_chance(counts[:, columns]):
            return None
        has_any = totals[:, columns].any(axis=1)
        return _interval(score(totals[has_any]), resampling.level)

    return Intervals(
        precision=find(precisions, _FOUND),
        recall=find(recalls, _GOLD),
        f_score=find(f_scores, _GOLD, _FOUND),
    )


def compare(one: Ints, other: Ints, resampling: Resampling) -> Comparison:
    """Compare the F of two pipelines.

    one, other (Ints): `(n_docs, 3)`, their counts for the same documents.
    resampling (Resampling): How to draw.
    RETURNS (Comparison): How they compare.
    """
    observed = float(_difference(one.sum(axis=0), other.sum(axis=0)))
    if not _tells_of_chance(np.hstack((one, other))):
        return Comparison(observed, None, None)
    both = np.stack((one, other))
    # (2, samples, 3)
    totals = np.concatenate(
        [times @ both for times in _draw_documents(len(one), resampling)], axis=1
    )
    # As in `bootstrap`: the other draws have nothing to compare.
    has_any = totals[..., 1:].sum(axis=(0, 2)) > 0
    differences = _difference(totals[0, has_any], totals[1, has_any])
    interval = _interval(differences, resampling.level)
    if interval is None:
        return Comparison(observed, None, None)
    swapped = np.concatenate(
        [
            _difference(
                one.sum(axis=0) + swaps @ (other - one),
                other.sum(axis=0) + swaps @ (one - other),
            )
            for swaps in _draw_swaps(len(one), resampling)
        ]
    )
    # What is as large but for the last bits is as large.
    as_large = int((np.abs(swapped) >= abs(observed) - 1e-12).sum())
    return Comparison(
        difference=observed,
        interval=interval,
        p_value=(as_large + 1) / (resampling.samples + 1),
    )


def _tells_of_chance(counts: Ints) -> bool:
    """RETURNS (bool): Whether more than one document has any. From one, all draws are
    the same.
    """
    return int(np.count_nonzero(counts.any(axis=1))) > 1


def _difference(one: Ints, other: Ints) -> Floats:
    return f_scores(one) - f_scores(other)


def _draw_documents(n_docs: int, resampling: Resampling) -> Iterator[Ints]:
    """How often each document is drawn, `(n, n_docs)` at a time."""
    rng = np.random.default_rng(resampling.seed)
    for n in _blocks(resampling.samples):
        yield rng.multinomial(n_docs, np.full(n_docs, 1 / n_docs), size=n)


def _draw_swaps(n_docs: int, resampling: Resampling) -> Iterator[Ints]:
    """Which documents change sides, `(n, n_docs)` at a time."""
    rng = np.random.default_rng(resampling.seed)
    for n in _blocks(resampling.samples):
        yield rng.integers(0, 2, size=(n, n_docs))


def _blocks(samples: int) -> Iterator[int]:
    for start in range(0, samples, _BLOCK):
        yield min(_BLOCK, samples - start)


def _interval(scores: Floats, level: float) -> Optional[Interval]:
    if scores.size == 0:  # too few draws
        return None
    tail = (1 - level) / 2
    low, high = np.quantile(scores, [tail, 1 - tail])
    return Interval(float(low), float(high))


def _divide(part: Ints, whole: Ints) -> Floats:
    # As `counts.ratio`: 0 of nothing.
    return np.asarray(part / np.maximum(whole, 1), dtype=np.float64)
