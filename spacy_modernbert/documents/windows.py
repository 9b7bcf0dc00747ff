"""How a Doc is cut into windows, and which vectors are used for a token.

A Doc whose wordpieces fit is one window. A longer one is cut greedily from its
start: a window is filled, then cut back to the end of a paragraph, else of a
sentence, else of a token. The next one starts a little before the cut, so that
the two share wordpieces.
"""

import warnings
from dataclasses import dataclass
from typing import Any, Iterator, List, Sequence, Tuple
from weakref import WeakSet

import numpy as np
from spacy.tokens import Doc

from ..errors import Errors, Warnings
from ..types import Ints, TokenRows, lay_ranges
from .alignment import Alignment
from .breaks import PARAGRAPH, SENTENCE, TOKEN, doc_breaks

# The end of a paragraph or of a sentence is looked for in the last part of a full
# window only: a window cut there still holds three quarters of what it could.
_SHORTEST_WINDOW = 0.75

# What has warned of tokens that are too long.
_has_warned: "WeakSet[Any]" = WeakSet()


@dataclass(frozen=True)
class Window:
    """A stretch of a Doc that is encoded at once.

    token_start, token_end (int): The spaCy tokens in it, `[start, end)`. At least
        one.
    piece_start, piece_end (int): The wordpieces in it, `[start, end)`: all that
        its tokens own, save for a token that is too long by itself. None at all,
        if the tokenizer found none in the text.
    """

    token_start: int
    token_end: int
    piece_start: int
    piece_end: int

    @property
    def n_pieces(self) -> int:
        """RETURNS (int): The wordpieces in it."""
        return self.piece_end - self.piece_start


def warn_oversized(
    alignment: Alignment,
    capacity: int,
    owner: Any,
    warning: str = Warnings.OVERSIZED_TOKENS,
) -> None:
    """Warn of the tokens of a Doc that are longer than a window, unless the same owner
    has warned of those of another Doc: a stream may have many.

    alignment (Alignment): The wordpieces of each token.
    capacity (int): The wordpieces that a window holds, special ones not counted.
    owner (Any): What warns once: it can be hashed, and referred to weakly.
    warning (str): What to say.
    """
    lengths = alignment.lengths
    oversized = np.flatnonzero(lengths > capacity)
    if oversized.size and owner not in _has_warned:
        _has_warned.add(owner)
        message = warning.format(
            count=oversized.size,
            capacity=capacity,
            token=oversized[0],
            n_pieces=lengths[oversized[0]],
        )
        warnings.warn(message, UserWarning, stacklevel=2)


def cut_windows(
    alignment: Alignment,
    n_pieces: int,
    breaks: Ints,
    capacity: int,
    overlap: int,
) -> List[Window]:
    """Cut a Doc into windows.

    Every token is in at least one window, and no window holds more than
    `capacity` wordpieces. Windows are in order, and each ends later than the one
    before it.

    alignment (Alignment): The wordpieces of each token.
    n_pieces (int): The wordpieces of the Doc. Those that no token owns go with
        the token before them.
    breaks (Ints): `(n_tokens,)`, what ends after each token (`doc_breaks`).
    capacity (int): The wordpieces that a window holds, special ones not counted. At
        least 1.
    overlap (int): The most wordpieces that two windows next to each other share.
        They share fewer by less than one token, unless the token after the cut
        needs the room. At least 0.
    RETURNS (List[Window]): The windows: none for a Doc of no tokens, one for a Doc
        that fits. A token with more than `capacity` wordpieces has a window for
        itself that holds the first of them: see `warn_oversized`.
    """
    bounds = _Bounds.of(alignment, n_pieces, breaks)
    return list(_cut(bounds, 0, len(alignment), capacity, overlap))


def cut_doc(
    doc: Doc, alignment: Alignment, n_pieces: int, capacity: int, overlap: int
) -> List[Window]:
    """Cut a Doc into windows at the end of a paragraph, else of a sentence, else of a
    token.

    doc (Doc): The Doc.
    alignment (Alignment): The wordpieces of each of its tokens.
    n_pieces, capacity, overlap (int): As in `cut_windows`.
    RETURNS (List[Window]): The windows, as `cut_windows` gives them.
    """
    if len(doc) and n_pieces <= capacity:
        # No need to look for places to cut.
        return [Window(0, len(doc), 0, n_pieces)]
    return cut_windows(alignment, n_pieces, doc_breaks(doc), capacity, overlap)


def windows_from_spans(
    spans: Sequence[Tuple[int, int]],
    alignment: Alignment,
    n_pieces: int,
    breaks: Ints,
    capacity: int,
) -> List[Window]:
    """Make windows of the spans that any span getter gives for a Doc.

    A span that holds too many wordpieces is cut like a Doc.

    spans (Sequence[Tuple[int, int]]): The tokens of each span, `[start, end)`.
        Empty spans are left out.
    alignment, n_pieces, breaks, capacity: As in `cut_windows`.
    RETURNS (List[Window]): The windows, in the order of the spans.
    RAISES (ValueError): If a token is in no span.
    """
    n_tokens = len(alignment)
    spans = [(start, end) for start, end in spans if start < end]
    in_spans = np.zeros(n_tokens, dtype=bool)
    for start, end in spans:
        in_spans[start:end] = True
    if not in_spans.all():
        token = int(np.argmin(in_spans))
        raise ValueError(
            Errors.SPANS_LEAVE_TOKENS.format(token=token, n_tokens=n_tokens)
        )
    bounds = _Bounds.of(alignment, n_pieces, breaks)
    return [
        window
        for start, end in spans
        for window in _cut(bounds, start, end, capacity, overlap=0)
    ]


def token_owners(alignment: Alignment, windows: Sequence[Window]) -> Ints:
    """Choose the window whose vectors are used for each token: the one in which it is
    farthest, counted in wordpieces, from an edge where the Doc was cut. The start
    and the end of the Doc itself are no such edges. The earlier of two equals.

    alignment (Alignment): The wordpieces of each token.
    windows (Sequence[Window]): The windows of the Doc, that together hold every
        token.
    RETURNS (Ints): `(n_tokens,)` int32 indices into the windows.
    """
    n_tokens = len(alignment)
    owners = np.zeros(n_tokens, dtype=np.int32)
    if len(windows) == 1:
        return owners
    farthest = np.full(n_tokens, -1, dtype=np.int64)
    no_edge = np.iinfo(np.int64).max
    for index, window in enumerate(windows):
        inside = slice(window.token_start, window.token_end)
        distance = np.full(window.token_end - window.token_start, no_edge)
        if window.token_start > 0:
            distance = np.minimum(
                distance, alignment.starts[inside] - window.piece_start
            )
        if window.token_end < n_tokens:
            distance = np.minimum(distance, window.piece_end - alignment.ends[inside])
        # A token that is too long reaches beyond its window.
        distance = np.maximum(distance, 0)
        closer_to_none = distance > farthest[inside]
        owners[inside][closer_to_none] = index
        farthest[inside][closer_to_none] = distance[closer_to_none]
    return owners


@dataclass(frozen=True)
class _Bounds:
    """The places between tokens at which a Doc of n tokens can be cut: bound `k` is
    before token `k`, bound `n` is the end of the Doc.

    lefts, rights (Ints): `(n + 1,)`, non-decreasing: a window of the tokens
        `[i, j)` holds the wordpieces `[lefts[i], rights[j])`. The two differ where
        the tokens on both sides of the bound own the same wordpiece.
    levels (Tuple[Ints, ...]): Rising arrays of the bounds where no wordpiece is
        shared: all, those at the end of a sentence, those at the end of a
        paragraph.
    starts, ends (Ints): `(n,)`, the wordpieces that each token owns.
    """

    lefts: Ints
    rights: Ints
    levels: Tuple[Ints, ...]
    starts: Ints
    ends: Ints

    @classmethod
    def of(cls, alignment: Alignment, n_pieces: int, breaks: Ints) -> "_Bounds":
        starts = alignment.starts.astype(np.int64)
        ends = alignment.ends.astype(np.int64)
        lefts = np.append(starts, n_pieces)
        lefts[0] = 0
        rights = lefts.copy()
        rights[1:] = np.maximum(ends, lefts[1:])
        unshared = lefts[1:] == rights[1:]
        levels = tuple(
            np.flatnonzero(unshared & (breaks >= level)) + 1
            for level in (TOKEN, SENTENCE, PARAGRAPH)
        )
        return cls(lefts, rights, levels, starts, ends)


def token_rows(
    alignment: Alignment,
    windows: Sequence[Window],
    owners: Ints,
    window_offsets: Ints,
) -> TokenRows:
    """Find the rows of each token of a Doc in the packed output.

    alignment (Alignment): The wordpieces of each token.
    windows (Sequence[Window]): The windows of the Doc.
    owners (Ints): `(n_tokens,)`, the window whose vectors are used for each token
        (`token_owners`).
    window_offsets (Ints): `(n_windows,)`, the row of each window's first
        wordpiece, the special ones before it left out.
    RETURNS (TokenRows): The rows. A token that is longer than its window has those of
        the wordpieces that lie in the window.
    """
    piece_starts = np.array([w.piece_start for w in windows], dtype=np.int64)
    piece_ends = np.array([w.piece_end for w in windows], dtype=np.int64)
    # From an index of a wordpiece in the Doc to its row, for each window.
    shifts = np.asarray(window_offsets, dtype=np.int64) - piece_starts
    starts = np.maximum(alignment.starts, piece_starts[owners])
    ends = np.minimum(alignment.ends, piece_ends[owners])
    lengths = np.maximum(ends - starts, 0)
    rows = lay_ranges(starts + shifts[owners], lengths)
    return TokenRows(rows.astype(np.int32), lengths.astype(np.int32))


def _cut(
    bounds: _Bounds, first: int, last: int, capacity: int, overlap: int
) -> Iterator[Window]:
    """Cut the tokens `[first, last)`. Each window ends at a later bound than the
    one before it, so this comes to an end whatever the overlap."""
    start, done = first, first  # the next window's first token; the last cut
    while done < last:
        room = bounds.lefts[start] + capacity
        fits = int(np.searchsorted(bounds.rights, room, side="right")) - 1
        if fits <= start:  # not even this one token, with all that goes with it
            yield _token_window(bounds, start, capacity)
            start = done = start + 1
            continue
        cut = last
        if fits < last:
            cut = _best_cut(bounds, start, done, fits, capacity, overlap)
        yield Window(start, cut, int(bounds.lefts[start]), int(bounds.rights[cut]))
        done = cut
        if cut < last:
            start = _next_start(bounds, start, cut, capacity, overlap)


def _token_window(bounds: _Bounds, token: int, capacity: int) -> Window:
    start = int(bounds.starts[token])
    end = min(int(bounds.rights[token + 1]), start + capacity)
    return Window(token, token + 1, start, end)


def _best_cut(
    bounds: _Bounds, start: int, done: int, fits: int, capacity: int, overlap: int
) -> int:
    """The bound at which to end a window that starts at `start` and could reach to
    `fits`. It is later than `done`, where the window before was cut."""
    # Longer than the overlap, or the next window would start no later.
    shortest = max(int(_SHORTEST_WINDOW * capacity), overlap + 1)
    full_enough = np.searchsorted(bounds.rights, bounds.lefts[start] + shortest)
    after = max(start, done) + 1
    for level, lowest in (
        (PARAGRAPH, max(after, int(full_enough))),
        (SENTENCE, max(after, int(full_enough))),
        (TOKEN, after),
    ):
        cuts = bounds.levels[level]
        at = int(np.searchsorted(cuts, fits, side="right")) - 1
        if at >= 0 and cuts[at] >= lowest:
            return int(cuts[at])
    return fits  # through a wordpiece that several tokens share


def _next_start(
    bounds: _Bounds, start: int, cut: int, capacity: int, overlap: int
) -> int:
    """The first token of the window after one that starts at `start` and was cut at
    `cut`: as much before the cut as overlaps, with room for the token after it."""
    earliest = max(bounds.rights[cut] - overlap, bounds.rights[cut + 1] - capacity)
    next_start = int(np.searchsorted(bounds.lefts, earliest))
    next_start = min(max(next_start, start + 1), cut)
    unshared = bounds.levels[TOKEN]
    at = int(np.searchsorted(unshared, next_start))
    if at < unshared.size and unshared[at] <= cut:
        return int(unshared[at])
    return next_start
