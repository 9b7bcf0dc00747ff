"""All that is known of the entities that a pipeline found, as plain data."""

from collections import Counter
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from .consistency import check_consistency
from .counts import Counts
from .documents import ScoredDoc
from .matching import Kind, Match
from .modes import count_modes
from .resampling import (
    Interval,
    Intervals,
    Resampling,
    bootstrap,
    bootstrap_each,
    compare,
    compare_each,
    to_array,
)
from .slices import slice_by_edge, slice_by_length, slice_by_mention, slice_by_seen

# The row or column of the confusion matrix for entities without a counterpart.
NOTHING = ""


def summarize(
    docs: Sequence[ScoredDoc],
    resampling: Resampling,
    seen: Optional[Mapping[str, Set[str]]] = None,
) -> Dict[str, Any]:
    """Count and score all that a report shows.

    docs (Sequence[ScoredDoc]): The documents. At least one.
    resampling (Resampling): How to find intervals.
    seen (Optional[Mapping[str, Set[str]]]): The names of the training data, with their
        labels, if they are known.
    RETURNS (Dict[str, Any]): Plain data, that JSON can hold.
    """
    matches = [match for doc in docs for match in doc.matches]
    modes = count_modes(matches)
    return {
        "documents": len(docs),
        "tokens": sum(len(doc.doc) for doc in docs),
        "resampling": {
            "samples": resampling.samples,
            "seed": resampling.seed,
            "level": resampling.level,
        },
        "overall": score_counts([doc.count() for doc in docs], resampling),
        "labels": score_labels(docs, resampling),
        "modes": {mode: counts.to_dict() for mode, counts in modes.items()},
        "kinds": count_kinds(matches),
        "confusion": count_confusion(matches),
        "slices": {
            "length": [each.to_dict() for each in slice_by_length(docs)],
            "edge": [each.to_dict() for each in slice_by_edge(docs)],
            "mention": [each.to_dict() for each in slice_by_mention(docs)],
            "seen": [each.to_dict() for each in slice_by_seen(docs, seen)]
            if seen is not None
            else [],
        },
        "consistency": {
            "gold": check_consistency(docs, lambda doc: doc.gold).to_dict(),
            "found": check_consistency(docs, lambda doc: doc.found).to_dict(),
        },
        "per_document": [describe_doc(doc) for doc in docs],
    }


def score_counts(counts: Sequence[Counts], resampling: Resampling) -> Dict[str, Any]:
    """Score documents together.

    counts (Sequence[Counts]): What was counted in each.
    resampling (Resampling): How to find intervals.
    RETURNS (Dict[str, Any]): Counts, scores, and `p_interval`, `r_interval` and
        `f_interval`, `[low, high]`, or None if there are too few documents for one.
    """
    return _score(counts, bootstrap(to_array(counts), resampling))


def _score(counts: Sequence[Counts], intervals: Intervals) -> Dict[str, Any]:
    return {
        **sum(counts, Counts()).to_dict(),
        "p_interval": _to_list(intervals.precision),
        "r_interval": _to_list(intervals.recall),
        "f_interval": _to_list(intervals.f_score),
    }


def _to_list(interval: Optional[Interval]) -> Optional[List[float]]:
    return None if interval is None else [interval.low, interval.high]


def score_labels(docs: Sequence[ScoredDoc], resampling: Resampling) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): For each label, in the order of the alphabet, what
    `score_counts` gives.
    """
    labels = list_labels(docs)
    counts = _count_each(docs, labels)
    intervals = bootstrap_each(list(map(to_array, counts)), resampling)
    return dict(zip(labels, map(_score, counts, intervals), strict=True))


def _count_each(docs: Sequence[ScoredDoc], labels: Sequence[str]) -> List[List[Counts]]:
    """RETURNS (List[List[Counts]]): What was counted of each label in each document."""
    by_doc = [doc.count_labels() for doc in docs]
    return [[counts.get(label, Counts()) for counts in by_doc] for label in labels]


def list_labels(docs: Iterable[ScoredDoc]) -> List[str]:
    """RETURNS (List[str]): The labels of the reference and of what was found, in the
    order of the alphabet.
    """
    return sorted(
        {mention.label for doc in docs for mention in (*doc.gold, *doc.found)}
    )


def count_kinds(matches: Iterable[Match]) -> Dict[str, int]:
    """RETURNS (Dict[str, int]): How many matches there are of each kind."""
    kinds = Counter(match.kind for match in matches)
    return {kind.value: kinds[kind] for kind in Kind}


def count_confusion(matches: Iterable[Match]) -> Dict[str, Dict[str, int]]:
    """Count which label was found for which.

    matches (Iterable[Match]): The matches; those whose boundaries differ count, too.
    RETURNS (Dict[str, Dict[str, int]]): By the label of the reference, then by the one
        found, what occurs; "" stands for nothing.
    """
    confusion: Dict[str, Counter] = {}
    for match in matches:
        gold = match.gold.label if match.gold else NOTHING
        found = match.found.label if match.found else NOTHING
        confusion.setdefault(gold, Counter())[found] += 1
    return {gold: dict(counts) for gold, counts in sorted(confusion.items())}


def describe_doc(doc: ScoredDoc) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): A document's name, length, counts, scores and kinds."""
    return {
        "id": doc.id,
        "tokens": len(doc.doc),
        **doc.count().to_dict(),
        "kinds": count_kinds(doc.matches),
    }


def _rank(counts: Counts) -> Tuple[float, int]:
    """RETURNS (Tuple[float, int]): What is larger for the better of two documents: F,
    and then how few are missed and spurious, since without entities F is 0 whatever is
    found.
    """
    return counts.f_score, 2 * counts.correct - counts.gold - counts.found


def summarize_comparison(
    docs: Sequence[ScoredDoc], others: Sequence[ScoredDoc], resampling: Resampling
) -> Dict[str, Any]:
    """Compare what two pipelines found in the same documents.

    docs (Sequence[ScoredDoc]): The documents, with what the one found.
    others (Sequence[ScoredDoc]): The same, with what the other found.
    resampling (Resampling): How to test.
    RETURNS (Dict[str, Any]): The scores of the other, the difference overall and by
        label, and in how many documents which of the two is better.
    """
    one, other = ([doc.count() for doc in each] for each in (docs, others))
    labels = list_labels([*docs, *others])
    ones, theirs = (
        list(map(to_array, _count_each(each, labels))) for each in (docs, others)
    )
    by_label = compare_each(ones, theirs, resampling)
    return {
        "other": sum(other, Counts()).to_dict(),
        **compare(to_array(one), to_array(other), resampling).to_dict(),
        "documents_better": sum(
            _rank(a) > _rank(b) for a, b in zip(one, other, strict=True)
        ),
        "documents_worse": sum(
            _rank(a) < _rank(b) for a, b in zip(one, other, strict=True)
        ),
        "labels": {
            label: comparison.to_dict()
            for label, comparison in zip(labels, by_label, strict=True)
        },
    }
