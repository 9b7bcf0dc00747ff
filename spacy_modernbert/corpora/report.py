"""What a conversion kept and what it dropped."""

from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Mapping, Tuple

from ..errors import Errors


@dataclass(frozen=True)
class SplitReport:
    """The counts of one split.

    documents (int): The documents.
    tokens (int): spaCy's tokens, white space included.
    annotations (int): The annotations in the files.
    entities (Mapping[str, int]): The entities by label.
    expanded (int): Entities expanded to the tokens that they begin and end in.
    enclosed (int): Entities made of an annotation in several pieces.
    dropped (Mapping[str, int]): By reason, annotations that are not entities.

    Invariant: every annotation is an entity or dropped, so that nothing is lost
    without being counted.
    """

    documents: int
    tokens: int
    annotations: int
    entities: Mapping[str, int]
    expanded: int
    enclosed: int
    dropped: Mapping[str, int]

    def __post_init__(self) -> None:
        counted = sum(self.entities.values()) + sum(self.dropped.values())
        if counted != self.annotations:
            raise ValueError(
                Errors.CORPUS_BAD_COUNTS.format(
                    annotations=self.annotations, counted=counted
                )
            )

    def __add__(self, other: "SplitReport") -> "SplitReport":
        return SplitReport(
            self.documents + other.documents,
            self.tokens + other.tokens,
            self.annotations + other.annotations,
            _sum(self.entities, other.entities),
            self.expanded + other.expanded,
            self.enclosed + other.enclosed,
            _sum(self.dropped, other.dropped),
        )


@dataclass(frozen=True)
class ConversionReport:
    """The counts of a corpus.

    corpus (str): Its name.
    splits (Mapping[str, SplitReport]): By the name of the split; at least one.
    """

    corpus: str
    splits: Mapping[str, SplitReport]

    @property
    def total(self) -> SplitReport:
        """RETURNS (SplitReport): The counts of all splits together."""
        first, *others = self.splits.values()
        for other in others:
            first = first + other
        return first

    def to_dict(self) -> Dict[str, Any]:
        """RETURNS (Dict[str, Any]): All that, JSON-serializable."""
        return {**asdict(self), "total": asdict(self.total)}

    def table(self) -> Tuple[List[str], List[List[str]]]:
        """RETURNS (Tuple[List[str], List[List[str]]]): A header and rows to print:
        a column for each split and one for their sum. For a corpus that lost
        nothing, there are no rows for the reasons to drop an annotation, nor for
        changes that did not occur.
        """
        reports = [*self.splits.values(), self.total]
        changed = [
            ("  expanded to tokens", [report.expanded for report in reports]),
            ("  enclosing pieces", [report.enclosed for report in reports]),
        ]
        lost = [sum(report.dropped.values()) for report in reports]
        reasons = [
            (f"  {reason}", [report.dropped[reason] for report in reports])
            for reason in reports[0].dropped
        ]
        if not any(lost):
            changed = [(name, counts) for name, counts in changed if any(counts)]
            reasons = []
        rows = [
            ("documents", [report.documents for report in reports]),
            ("tokens", [report.tokens for report in reports]),
            ("annotations", [report.annotations for report in reports]),
            ("entities", [sum(report.entities.values()) for report in reports]),
            *(
                (f"  {label}", [report.entities[label] for report in reports])
                for label in reports[0].entities
            ),
            *changed,
            ("dropped", lost),
            *reasons,
        ]
        header = [self.corpus, *self.splits, "total"]
        return header, [[name, *(f"{n:,}" for n in counts)] for name, counts in rows]


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> Dict[str, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}
