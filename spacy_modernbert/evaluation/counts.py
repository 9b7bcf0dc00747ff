"""What is counted, and the scores that follow from it."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Dict, Tuple


@dataclass(frozen=True)
class Scored(ABC):
    """What has precision, recall and F. Its fields, in a class that is made of it, are
    counts. Scores of nothing are 0, as spaCy's are.
    """

    @property
    @abstractmethod
    def parts(self) -> Tuple[float, int, int]:
        """RETURNS (Tuple[float, int, int]): How much is right, of how many entities of
        the reference, and of how many found.
        """

    @property
    def precision(self) -> float:
        """RETURNS (float): Of those found, how many are right."""
        right, _, found = self.parts
        return ratio(right, found)

    @property
    def recall(self) -> float:
        """RETURNS (float): Of those of the reference, how many are found."""
        right, gold, _ = self.parts
        return ratio(right, gold)

    @property
    def f_score(self) -> float:
        """RETURNS (float): The harmonic mean of both."""
        right, gold, found = self.parts
        return ratio(2 * right, gold + found)

    def to_dict(self) -> Dict[str, float]:
        """RETURNS (Dict[str, float]): The counts, and the scores by spaCy's names."""
        scores = {"p": self.precision, "r": self.recall, "f": self.f_score}
        return {**asdict(self), **scores}


@dataclass(frozen=True)
class Counts(Scored):
    """Entities that agree in span and label: what spaCy scores.

    correct (int): Those both in the reference and found.
    gold (int): Those of the reference.
    found (int): Those found.

    Invariant: `correct` is at most `gold` and at most `found`.
    """

    correct: int = 0
    gold: int = 0
    found: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.correct + other.correct,
            self.gold + other.gold,
            self.found + other.found,
        )

    @property
    def parts(self) -> Tuple[float, int, int]:
        """RETURNS (Tuple[float, int, int]): The counts."""
        return self.correct, self.gold, self.found


@dataclass(frozen=True)
class ModeCounts(Scored):
    """Entities by the categories of MUC-5, in one of the modes of SemEval-2013.

    correct (int): Pairs that agree.
    incorrect (int): Pairs that do not.
    partial (int): Pairs that agree in part. They count for half.
    missed (int): Entities of the reference without a pair.
    spurious (int): Entities found without a pair.
    """

    correct: int = 0
    incorrect: int = 0
    partial: int = 0
    missed: int = 0
    spurious: int = 0

    @property
    def parts(self) -> Tuple[float, int, int]:
        """RETURNS (Tuple[float, int, int]): The credit, of how many."""
        pairs = self.correct + self.incorrect + self.partial
        credit = self.correct + 0.5 * self.partial
        return credit, pairs + self.missed, pairs + self.spurious


def ratio(part: float, whole: float) -> float:
    """RETURNS (float): The part of the whole; 0 of nothing."""
    return part / whole if whole else 0.0
