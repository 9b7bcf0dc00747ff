"""From annotations, which may nest and cross, to entities, which may not."""

from collections import Counter
from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

import numpy as np
from spacy.tokens import Doc, Span

from .raw import Annotation

# Why an annotation is not an entity
EMPTY = "empty"
DUPLICATE = "duplicate"
SAME_SPAN = "same span"
NESTED = "nested"
CROSSING = "crossing"
DISCONTINUOUS = "discontinuous"
REASONS = (EMPTY, DUPLICATE, SAME_SPAN, NESTED, CROSSING, DISCONTINUOUS)


@dataclass(frozen=True)
class Selection:
    """What became of the annotations of a document.

    entities (Tuple[Span, ...]): In the order of the text, none overlapping.
    dropped (Dict[str, int]): By reason, how many annotations are not entities.
        EMPTY: there is nothing but white space in it.
        DUPLICATE: an entity has the same tokens and the same label.
        SAME_SPAN: an entity has the same tokens and another label.
        NESTED: it lies inside an entity.
        CROSSING: it shares tokens with an entity and does not lie inside one.
        DISCONTINUOUS: it is in pieces, and what lies between its first and last
            character shares tokens with an entity.
    expanded (int): Entities that begin or end inside a token, and were expanded
        to all of it.
    enclosed (int): Entities made of an annotation in pieces: from its first to
        its last character.

    Invariant: every annotation is either an entity or counted in `dropped`.
    """

    entities: Tuple[Span, ...]
    dropped: Dict[str, int]
    expanded: int
    enclosed: int


def select_entities(
    doc: Doc, annotations: Sequence[Annotation], labels: Sequence[str]
) -> Selection:
    """Choose the entities of a document.

    Annotations are taken in this order, and each becomes an entity if no earlier
    one has any of its tokens:

    1. those in one piece before those in several: what an annotator marked is
       never displaced by the span that we put around pieces;
    2. the longer, in characters, before the shorter: so the outermost of nested
       annotations wins;
    3. the earlier before the later;
    4. by the order of the labels.

    doc (Doc): The tokens, over the text that the annotations belong to.
    annotations (Sequence[Annotation]): The annotations.
    labels (Sequence[str]): All labels, the preferred first.
    RETURNS (Selection): The entities, and the counts of what was dropped.
    """
    text = doc.text  # put together at every access
    rank = {label: i for i, label in enumerate(labels)}
    ordered = sorted(
        annotations,
        key=lambda a: (a.is_discontinuous, a.start - a.end, a.start, rank[a.label]),
    )
    token_starts = np.array([token.idx for token in doc], dtype=np.int64)
    token_ends = token_starts + [len(token) for token in doc]
    owner = np.full(len(doc), -1)  # (n_tokens,): which of the entities has the token
    entities: List[Span] = []
    dropped: Counter = Counter()
    expanded = enclosed = 0
    for annotation in ordered:
        start, end = _trim(text, annotation.start, annotation.end)
        if start == end:
            dropped[EMPTY] += 1
            continue
        first = int(np.searchsorted(token_ends, start, side="right"))
        last = int(np.searchsorted(token_starts, end, side="left"))
        span = Span(doc, first, last, label=annotation.label)
        rivals = np.unique(owner[first:last])
        rivals = rivals[rivals >= 0]
        if rivals.size:
            dropped[_reason(annotation, span, [entities[i] for i in rivals])] += 1
            continue
        owner[first:last] = len(entities)
        entities.append(span)
        enclosed += annotation.is_discontinuous
        expanded += (span.start_char, span.end_char) != (start, end)
    return Selection(
        tuple(sorted(entities, key=lambda span: span.start)),
        {reason: dropped[reason] for reason in REASONS},
        expanded,
        enclosed,
    )


def _trim(text: str, start: int, end: int) -> Tuple[int, int]:
    """Without white space at either end: an entity of spaCy's has none there."""
    inner = text[start:end]
    start += len(inner) - len(inner.lstrip())
    return start, start + len(inner.strip())


def _reason(annotation: Annotation, span: Span, rivals: Sequence[Span]) -> str:
    for rival in rivals:
        if (rival.start, rival.end, rival.label) == (span.start, span.end, span.label):
            return DUPLICATE
    if annotation.is_discontinuous:
        return DISCONTINUOUS
    for rival in rivals:
        if (rival.start, rival.end) == (span.start, span.end):
            return SAME_SPAN
        if rival.start <= span.start and span.end <= rival.end:
            return NESTED
    return CROSSING
