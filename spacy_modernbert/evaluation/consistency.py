"""Whether a name has one label all over a document."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Callable, Dict, Iterable, List, Mapping, Sequence, Tuple

from .counts import ratio
from .documents import ScoredDoc
from .matching import Mention


@dataclass(frozen=True)
class Conflict:
    """A name with several labels in one document.

    document (str): The document.
    name (str): The name.
    labels (Mapping[str, int]): How often it has each label; two labels at least.
    """

    document: str
    name: str
    labels: Mapping[str, int]


@dataclass(frozen=True)
class Consistency:
    """Of the names that occur at least twice in a document, how many have one label.

    names (int): Such names, counted in each document.
    conflicts (Tuple[Conflict, ...]): Those with several labels.
    """

    names: int
    conflicts: Tuple[Conflict, ...]

    @property
    def share(self) -> float:
        """RETURNS (float): How many of them have one label."""
        return ratio(self.names - len(self.conflicts), self.names)

    def to_dict(self) -> Dict[str, object]:
        """RETURNS (Dict[str, object]): All that, the conflicts as dicts."""
        return {
            "names": self.names,
            "consistent": self.names - len(self.conflicts),
            "share": self.share,
            "conflicts": [asdict(each) for each in self.conflicts],
        }


def check_consistency(
    docs: Iterable[ScoredDoc], get_mentions: Callable[[ScoredDoc], Sequence[Mention]]
) -> Consistency:
    """Look for names with several labels.

    docs (Iterable[ScoredDoc]): The documents.
    get_mentions (Callable[[ScoredDoc], Sequence[Mention]]): Gives the entities to look
        at: those found, or those of the reference, which need not be consistent.
    RETURNS (Consistency): What there is.
    """
    names = 0
    conflicts: List[Conflict] = []
    for doc in docs:
        labels: Dict[str, Counter] = {}
        for mention in get_mentions(doc):
            labels.setdefault(mention.name, Counter())[mention.label] += 1
        repeated = {name: each for name, each in labels.items() if each.total() > 1}
        names += len(repeated)
        conflicts += [
            Conflict(doc.id, name, dict(each.most_common()))
            for name, each in repeated.items()
            if len(each) > 1
        ]
    return Consistency(names, tuple(conflicts))
