"""What is counted, and the scores that follow from it."""

from dataclasses import dataclass
from typing import Dict


@dataclass(frozen=True)
class Counts:
    """Entities that agree in span and label: what spaCy scores.

    correct (int): Those both in the reference and found.
    gold (int): Those of the reference.
    found (int): Those found.

    Invariant: `correct` is at most `gold` and at most `found`. Scores of nothing are
    0, as spaCy's are.
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
    def precision(self) -> float:
        """RETURNS (float): Of those found, how many are correct."""
        return ratio(self.correct, self.found)

    @property
    def recall(self) -> float:
        """RETURNS (float): Of those of the reference, how many are found."""
        return ratio(self.correct, self.gold)

    @property
    def f_score(self) -> float:
        """RETURNS (float): The harmonic mean of both."""
        return ratio(2 * self.correct, self.gold + self.found)

    def to_dict(self) -> Dict[str, float]:
        """RETURNS (Dict[str, float]): The counts, and the scores by spaCy's names."""
        return {
            "correct": self.correct,
            "gold": self.gold,
            "found": self.found,
            "p": self.precision,
            "r": self.recall,
            "f": self.f_score,
        }


@dataclass(frozen=True)
class ModeCounts:
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
    def possible(self) -> int:
        """RETURNS (int): The entities of the reference."""
        return self.correct + self.incorrect + self.partial + self.missed

    @property
    def actual(self) -> int:
        """RETURNS (int): The entities found."""
        return self.correct + self.incorrect + self.partial + self.spurious

    @property
    def precision(self) -> float:
        """RETURNS (float): The credit, of the entities found."""
        return ratio(self.correct + 0.5 * self.partial, self.actual)

    @property
    def recall(self) -> float:
        """RETURNS (float): The credit, of the entities of the reference."""
        return ratio(self.correct + 0.5 * self.partial, self.possible)

    @property
    def f_score(self) -> float:
        """RETURNS (float): The harmonic mean of both."""
        return ratio(2 * self.correct + self.partial, self.possible + self.actual)

    def to_dict(self) -> Dict[str, float]:
        """RETURNS (Dict[str, float]): The counts, and the scores by spaCy's names."""
        return {
            "correct": self.correct,
            "incorrect": self.incorrect,
            "partial": self.partial,
            "missed": self.missed,
            "spurious": self.spurious,
            "p": self.precision,
            "r": self.recall,
            "f": self.f_score,
        }


def ratio(part: float, whole: float) -> float:
    """RETURNS (float): The part of the whole; 0 of nothing."""
    return part / whole if whole else 0.0
