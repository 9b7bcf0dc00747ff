"""The four modes of SemEval-2013, task 9.1.

| | exactly the span, label | exactly the span | overlap, label | overlap |
| --- | --- | --- | --- | --- |
| strict | correct | incorrect | incorrect | incorrect |
| exact | correct | correct | incorrect | incorrect |
| partial | correct | correct | partial | partial |
| type | correct | incorrect | correct | incorrect |

`exact` and `partial` judge the boundaries only, `type` the label, `strict` both. In
every mode, an entity without a pair is missed or spurious. Precision is the credit
divided by the number of entities found, recall the credit divided by the number in the
reference; a partial match earns half a credit.

Segura-Bedmar, Martínez and Herrero-Zazo (2013), SemEval-2013 Task 9: Extraction of
Drug-Drug Interactions from Biomedical Texts, https://aclanthology.org/S13-2056; the
categories are those of Chinchor and Sundheim (1993), MUC-5 Evaluation Metrics,
https://aclanthology.org/M93-1007.
"""

from collections import Counter
from typing import Dict, Iterable, Mapping

from .counts import ModeCounts
from .matching import Kind, Match

MODES = ("strict", "exact", "partial", "type")

_OUTCOMES: Mapping[str, Mapping[Kind, str]] = {
    "strict": {
        Kind.CORRECT: "correct",
        Kind.MISLABELLED: "incorrect",
        Kind.BOUNDARY: "incorrect",
        Kind.BOTH: "incorrect",
    },
    "exact": {
        Kind.CORRECT: "correct",
        Kind.MISLABELLED: "correct",
        Kind.BOUNDARY: "incorrect",
        Kind.BOTH: "incorrect",
    },
    "partial": {
        Kind.CORRECT: "correct",
        Kind.MISLABELLED: "correct",
        Kind.BOUNDARY: "partial",
        Kind.BOTH: "partial",
    },
    "type": {
        Kind.CORRECT: "correct",
        Kind.MISLABELLED: "incorrect",
        Kind.BOUNDARY: "correct",
        Kind.BOTH: "incorrect",
    },
}
_UNPAIRED = {Kind.MISSED: "missed", Kind.SPURIOUS: "spurious"}


def count_modes(matches: Iterable[Match]) -> Dict[str, ModeCounts]:
    """Count matches in each mode.

    matches (Iterable[Match]): The matches of any number of documents.
    RETURNS (Dict[str, ModeCounts]): By the name of the mode.
    """
    kinds = Counter(match.kind for match in matches)
    return {mode: _count(kinds, mode) for mode in MODES}


def _count(kinds: Mapping[Kind, int], mode: str) -> ModeCounts:
    outcomes: Counter = Counter()
    for kind, number in kinds.items():
        outcomes[{**_OUTCOMES[mode], **_UNPAIRED}[kind]] += number
    return ModeCounts(**outcomes)
