"""Which wordpieces belong to which spaCy token."""

from dataclasses import dataclass
from typing import Tuple

import numpy as np
from spacy.tokens import Doc

from ..types import Ints
from .wordpieces import Wordpieces


@dataclass(frozen=True)
class Alignment:
    """Which wordpieces belong to which spaCy token of a Doc.

    starts, ends (Ints): `(n_tokens,)` int32. Token `i` owns the wordpieces
        `[starts[i], ends[i])`; an empty range means that no wordpiece covers it.

    Invariants: `starts <= ends`, and both are non-decreasing. Two tokens can own
    the same wordpiece.
    """

    starts: Ints
    ends: Ints

    def __len__(self) -> int:
        return int(self.starts.size)

    @property
    def lengths(self) -> Ints:
        """RETURNS (Ints): `(n_tokens,)`, how many wordpieces each token owns."""
        return self.ends - self.starts


def token_offsets(doc: Doc) -> Tuple[Ints, Ints]:
    """Where the spaCy tokens of a Doc lie in its text.

    doc (Doc): The Doc.
    RETURNS (Tuple[Ints, Ints]): `(n_tokens,)` int32 starts and ends, in
        characters of `doc.text`, without trailing spaces.
    """
    if not len(doc):
        return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int32)
    columns = doc.to_array(["IDX", "LENGTH"]).astype(np.int32)
    return columns[:, 0], columns[:, 0] + columns[:, 1]


def align(wordpieces: Wordpieces, token_starts: Ints, token_ends: Ints) -> Alignment:
    """Find the wordpieces of each spaCy token.

    A token takes every wordpiece whose trimmed span overlaps it. A token left
    without any (whitespace, mostly) takes those whose untrimmed span overlaps it.

    For `"in  London"` with the wordpieces `in`, `Ġ`, `ĠLondon`, whose untrimmed
    spans are [0, 2), [2, 3), [3, 10), spaCy has the tokens `in` [0, 2), a space
    [3, 4) and `London` [4, 10). `in` takes the first wordpiece, `London` the
    third, and the space, which no trimmed span overlaps, the third as well.

    wordpieces (Wordpieces): The wordpieces of the Doc's text.
    token_starts, token_ends (Ints): `(n_tokens,)` the span of each token, in
        characters, in order of the text (`token_offsets`).
    RETURNS (Alignment): A contiguous range of wordpieces for each token. Should a
        tokenizer's offsets not rise with its wordpieces, the range also holds those
        between the ones that overlap the token.
    """
    starts, ends = _overlapping(
        wordpieces.starts, wordpieces.ends, token_starts, token_ends
    )
    left_out = np.flatnonzero(starts >= ends)
    if left_out.size:
        starts[left_out], ends[left_out] = _overlapping(
            wordpieces.raw_starts,
            wordpieces.raw_ends,
            token_starts[left_out],
            token_ends[left_out],
        )
    # Uncovered tokens: an empty range, at the place where wordpieces would be.
    starts = np.minimum(starts, ends)
    # Rising offsets make rising ranges, and then this changes nothing.
    starts = np.minimum.accumulate(starts[::-1])[::-1]
    ends = np.maximum.accumulate(ends)
    return Alignment(starts.astype(np.int32), ends.astype(np.int32))


def _overlapping(
    starts: Ints, ends: Ints, token_starts: Ints, token_ends: Ints
) -> Tuple[Ints, Ints]:
    """Ranges of the wordpieces that overlap each token: `start < token end` and
    `end > token start`. Where starts and ends rise (they do, in every tokenizer
    met so far), those are a prefix and a suffix of all wordpieces. A running
    minimum of the starts and maximum of the ends keep it a superset otherwise.
    Start >= end where there is none; the end is right even then."""
    low_starts = np.minimum.accumulate(starts[::-1])[::-1]
    high_ends = np.maximum.accumulate(ends)
    return (
        np.searchsorted(high_ends, token_starts, side="right"),
        np.searchsorted(low_starts, token_ends, side="left"),
    )
