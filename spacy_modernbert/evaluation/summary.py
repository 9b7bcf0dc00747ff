"""All that is known of the entities that a pipeline found, as plain data."""

from collections import Counter
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from .consistency import check_consistency
from .counts import Counts
from .documents import ScoredDoc
from .matching import Kind, Match
from .modes import count_modes
from .resampling import (
    LEVEL,
    Interval,
    Resampling,
    bootstrap,
    compare,
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
    labels = list_labels(docs)
    overall, *by_label = score_each(_count_each(docs, labels), resampling)
    return {
        "documents": len(docs),
        "tokens": sum(len(doc.doc) for doc in docs),
        "resampling": {
            "samples": resampling.samples,
            "seed": resampling.seed,
            "level": LEVEL,
        },
        "overall": overall,
        "labels": dict(zip(labels, by_label, strict=True)),
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


def score_each(
    sets: Sequence[Sequence[Counts]], resampling: Resampling
) -> Iterator[Dict[str, Any]]:
    """Score documents together.

    sets (Sequence[Sequence[Counts]]): What was counted in each of them: of all
        entities, or of those of one label.
    resampling (Resampling): How to find intervals.
    YIELDS (Dict[str, Any]): Counts, scores, and `p_interval`, `r_interval` and
        `f_interval`, `[low, high]`, or None if there are too few documents for one.
    """
    found = bootstrap(list(map(to_array, sets)), resampling)
    for counts, intervals in zip(sets, found, strict=True):
        yield {
            **sum(counts, Counts()).to_dict(),
            "p_interval": _to_list(intervals.precision),
            "r_interval": _to_list(intervals.recall),
            "f_interval": _to_list(intervals.f_score),
        }


def _to_list(interval: Optional[Interval]) -> Optional[List[float]]:
    return None if interval is None else [interval.low, interval.high]


def _count_each(docs: Sequence[ScoredDoc], labels: Sequence[str]) -> List[List[Counts]]:
    """RETURNS (List[List[Counts]]): What was counted in each document: of all entities,
    and then of each label.
    """
    by_doc = [doc.count_labels() for doc in docs]
    return [
        [doc.count() for doc in docs],
        *([counts.get(label, Counts()) for counts in by_doc] for label in labels),
    ]


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
        label, in how many documents there are entities, true ones or found ones, and in
        how many which of the two is better.
    """
    labels = list_labels([*docs, *others])
    ones, theirs = (_count_each(each, labels) for each in (docs, others))
    overall, *by_label = compare(
        list(map(to_array, ones)), list(map(to_array, theirs)), resampling
    )
    one, other = ones[0], theirs[0]
    pairs = list(zip(one, other, strict=True))
    return {
        "other": sum(other, Counts()).to_dict(),
        **overall.to_dict(),
        "documents_scored": sum(a + b != Counts() for a, b in pairs),
        "documents_better": sum(_rank(a) > _rank(b) for a, b in pairs),
        "documents_worse": sum(_rank(a) < _rank(b) for a, b in pairs),
        "labels": {
            label: {
                **comparison.to_dict(),
                "found": sum(each.found for each in mine),
                "other_found": sum(each.found for each in their),
            }
            for label, comparison, mine, their in zip(
                labels, by_label, ones[1:], theirs[1:], strict=True
            )
        },
    }
