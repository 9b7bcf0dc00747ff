"""Which entity found is which entity of the reference, and what is wrong with it."""

from dataclasses import dataclass
from enum import Enum
from typing import Callable, Dict, List, Optional, Sequence, Set, Tuple


@dataclass(frozen=True)
class Mention:
    """An entity.

    start, end (int): The tokens of the reference in it, `[start, end)`. At least one.
    label (str): Its label.
    name (str): Its text as names are compared: see `normalize`.
    """

    start: int
    end: int
    label: str
    name: str

    def has_span_of(self, other: "Mention") -> bool:
        """RETURNS (bool): Whether the two have the same tokens."""
        return (self.start, self.end) == (other.start, other.end)


class Kind(str, Enum):
    """What became of an entity."""

    CORRECT = "correct"  # the same span, the same label
    MISLABELLED = "mislabelled"  # the same span, another label
    BOUNDARY = "boundary"  # spans overlap, the same label
    BOTH = "mislabelled boundary"  # spans overlap, another label
    MISSED = "missed"  # in the reference only
    SPURIOUS = "spurious"  # found only


@dataclass(frozen=True)
class Match:
    """An entity of the reference, what was found of it, or both.

    gold (Optional[Mention]): The one of the reference.
    found (Optional[Mention]): The one found.

    Invariant: at least one of them is there; if both are, they overlap.
    """

    gold: Optional[Mention]
    found: Optional[Mention]

    @property
    def kind(self) -> Kind:
        """RETURNS (Kind): What became of it."""
        if self.gold is None:
            return Kind.SPURIOUS
        if self.found is None:
            return Kind.MISSED
        same_label = self.gold.label == self.found.label
        if self.gold.has_span_of(self.found):
            return Kind.CORRECT if same_label else Kind.MISLABELLED
        return Kind.BOUNDARY if same_label else Kind.BOTH

    @property
    def mention(self) -> Mention:
        """RETURNS (Mention): The entity of the reference or, if there is none, the one
        found.
        """
        mention = self.gold or self.found
        assert mention is not None  # by the invariant
        return mention

    @property
    def start(self) -> int:
        """RETURNS (int): The first token of either."""
        return min(each.start for each in (self.gold, self.found) if each)

    @property
    def end(self) -> int:
        """RETURNS (int): One past the last token of either."""
        return max(each.end for each in (self.gold, self.found) if each)


def normalize(text: str) -> str:
    """Make a name of the text of an entity, so that "The  Boy" is "the boy".

    text (str): The text.
    RETURNS (str): It with single spaces, in lower case.
    """
    return " ".join(text.split()).casefold()


# From the best pair to the least.
_AGREEMENTS: Tuple[Callable[[Mention, Mention], bool], ...] = (
    lambda gold, found: gold.has_span_of(found) and gold.label == found.label,
    lambda gold, found: gold.has_span_of(found),
    lambda gold, found: gold.label == found.label,
    lambda gold, found: True,
)


def match_mentions(
    gold: Sequence[Mention], found: Sequence[Mention]
) -> Tuple[Match, ...]:
    """Pair entities of the reference with those found. Each is in one pair at most.

    First those are paired that have the same tokens and label, then those that have
    the same tokens, then those that overlap and have the same label, then those that
    overlap; each time from the start of the document on.

    gold (Sequence[Mention]): The entities of the reference. No two overlap.
    found (Sequence[Mention]): Those found.
    RETURNS (Tuple[Match, ...]): All of them, in the order of the text.
    """
    overlapping = _find_overlapping(gold, found)
    pair_of: Dict[int, int] = {}
    taken: Set[int] = set()
    for agree in _AGREEMENTS:
        for i, j in overlapping:
            if i not in pair_of and j not in taken and agree(gold[i], found[j]):
                pair_of[i] = j
                taken.add(j)
    matches = [
        Match(mention, found[pair_of[i]] if i in pair_of else None)
        for i, mention in enumerate(gold)
    ]
    matches += [
        Match(None, mention) for j, mention in enumerate(found) if j not in taken
    ]
    return tuple(sorted(matches, key=lambda match: (match.start, match.end)))


def _find_overlapping(
    gold: Sequence[Mention], found: Sequence[Mention]
) -> List[Tuple[int, int]]:
    found_at: Dict[int, List[int]] = {}
    for j, mention in enumerate(found):
        for token in range(mention.start, mention.end):
            found_at.setdefault(token, []).append(j)
    pairs = {
        (i, j)
        for i, mention in enumerate(gold)
        for token in range(mention.start, mention.end)
        for j in found_at.get(token, ())
    }
    return sorted(pairs)
