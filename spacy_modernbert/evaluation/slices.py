"""Scores of a slice of the entities, such as those far from any mention before."""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Set

from spacy.tokens import Doc

from .counts import Counts
from .documents import ScoredDoc, read_gold
from .edges import NO_CUT
from .matching import Kind, Mention

# Names the slice that an entity of a document is in. None leaves it out.
NameSlice = Callable[[Mention], Optional[str]]

LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
EDGE_DISTANCES = (16, 64, 256, 1024)
MENTION_DISTANCES = (64, 256, 1024, 4096)

FIRST = "first mention"
UNCUT = "no cut"
SEEN, SEEN_OTHERWISE, UNSEEN = (
    "seen in training",
    "seen with other labels",
    "not seen in training",
)


@dataclass(frozen=True)
class Slice:
    """Entities that have something in common.

    name (str): What it is.
    counts (Counts): How many there are.
    documents (int): In how many documents.
    """

    name: str
    counts: Counts
    documents: int

    def to_dict(self) -> Dict[str, object]:
        """RETURNS (Dict[str, object]): All that, and the scores."""
        return {
            "name": self.name,
            "documents": self.documents,
            **self.counts.to_dict(),
        }


def name_bin(value: int, bounds: Sequence[int]) -> str:
    """The name of the bin that a number is in.

    value (int): The number, at least 0.
    bounds (Sequence[int]): Where a new bin begins, rising, without 0.
    RETURNS (str): Such as "0–63", "64–255" and "256 and more", of 64 and 256.
    """
    at = bisect_right(bounds, value)
    low = bounds[at - 1] if at else 0
    if at == len(bounds):
        return f"{low:,} and more"
    return f"{low:,}–{bounds[at] - 1:,}"


def name_bins(bounds: Sequence[int]) -> List[str]:
    """RETURNS (List[str]): The names of all bins, in order."""
    return [name_bin(low, bounds) for low in (0, *bounds)]


def slice_by(
    docs: Iterable[ScoredDoc],
    make_namer: Callable[[ScoredDoc], NameSlice],
    names: Sequence[str],
) -> List[Slice]:
    """Count the entities of each slice. What was found in the place of a true entity is
    counted with that one, so that an error stands where it was made.

    docs (Iterable[ScoredDoc]): The documents.
    make_namer (Callable[[ScoredDoc], NameSlice]): For each, what names the slice of an
        entity.
    names (Sequence[str]): The slices, in order.
    RETURNS (List[Slice]): Those that occur.
    """
    counts = {name: Counts() for name in names}
    documents: Counter = Counter()
    for doc in docs:
        name_slice = make_namer(doc)
        names_of_doc = set()
        for match in doc.matches:
            name = name_slice(match.mention)
            if name is not None:
                counts[name] += Counts(
                    correct=match.kind is Kind.CORRECT,
                    gold=match.gold is not None,
                    found=match.found is not None,
                )
                names_of_doc.add(name)
        documents.update(names_of_doc)
    return [
        Slice(name, counts[name], documents[name]) for name in names if documents[name]
    ]


def slice_by_length(docs: Iterable[ScoredDoc]) -> List[Slice]:
    """RETURNS (List[Slice]): By the length of the document, in tokens."""

    def make_namer(doc: ScoredDoc) -> NameSlice:
        name = name_bin(len(doc.doc), LENGTHS)
        return lambda mention: name

    return slice_by(docs, make_namer, name_bins(LENGTHS))


def slice_by_edge(docs: Iterable[ScoredDoc]) -> List[Slice]:
    """RETURNS (List[Slice]): By the distance from the nearest cut, in wordpieces, of
    the token that is nearest to it. Documents without distances are left out.
    """

    def make_namer(doc: ScoredDoc) -> NameSlice:
        def name_slice(mention: Mention) -> Optional[str]:
            if doc.distances is None:
                return None
            distances = doc.distances[mention.start : mention.end]
            cut = distances[distances != NO_CUT]
            return name_bin(int(cut.min()), EDGE_DISTANCES) if cut.size else UNCUT

        return name_slice

    return slice_by(docs, make_namer, [*name_bins(EDGE_DISTANCES), UNCUT])


def slice_by_mention(docs: Iterable[ScoredDoc]) -> List[Slice]:
    """RETURNS (List[Slice]): By the distance, in tokens, to the last entity of the
    reference before it that has the same name.
    """

    def make_namer(doc: ScoredDoc) -> NameSlice:
        ends: Dict[str, List[int]] = {}
        for mention in doc.gold:
            ends.setdefault(mention.name, []).append(mention.end)
        # They are in the order of the matches, which may begin with what was found.
        for each in ends.values():
            each.sort()

        def name_slice(mention: Mention) -> str:
            before = ends.get(mention.name, [])
            at = bisect_right(before, mention.start)
            if not at:
                return FIRST
            return name_bin(mention.start - before[at - 1], MENTION_DISTANCES)

        return name_slice

    return slice_by(docs, make_namer, [FIRST, *name_bins(MENTION_DISTANCES)])


def slice_by_seen(
    docs: Iterable[ScoredDoc], seen: Mapping[str, Set[str]]
) -> List[Slice]:
    """Slice by whether a name is that of an entity of the training data.

    docs (Iterable[ScoredDoc]): The documents.
    seen (Mapping[str, Set[str]]): The names of the training data, with their labels.
    RETURNS (List[Slice]): With the same label, with other labels only, or not.
    """

    def make_namer(doc: ScoredDoc) -> NameSlice:
        def name_slice(mention: Mention) -> str:
            labels = seen.get(mention.name)
            if labels is None:
                return UNSEEN
            return SEEN if mention.label in labels else SEEN_OTHERWISE

        return name_slice

    return slice_by(docs, make_namer, [SEEN, SEEN_OTHERWISE, UNSEEN])


def read_seen(docs: Iterable[Doc]) -> Dict[str, Set[str]]:
    """Collect the names of entities.

    docs (Iterable[Doc]): The training data.
    RETURNS (Dict[str, Set[str]]): The labels of each name.
    """
    seen: Dict[str, Set[str]] = {}
    for doc in docs:
        for mention in read_gold(doc):
            seen.setdefault(mention.name, set()).add(mention.label)
    return seen
