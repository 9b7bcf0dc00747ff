"""Registered span getters: how a long Doc is divided into windows.

A span getter is a function from Docs to the spans of each. Any spacy-transformers
model takes one. This package's own models read the window and the overlap off
theirs, and count wordpieces exactly.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Callable, List, Sequence
from unicodedata import normalize

import catalogue
import numpy as np
from spacy.tokens import Doc, Span
from spacy.util import registry

from .checks import is_int
from .documents.alignment import Alignment, token_offsets
from .documents.breaks import doc_breaks
from .documents.windows import Window, cut_windows, warn_oversized
from .documents.wordpieces import code_points
from .errors import Errors, Warnings
from .types import Ints

SpanGetter = Callable[[List[Doc]], List[List[Span]]]

# The name that `long_context_spans_v1` is registered under.
LONG_CONTEXT_SPANS = "spacy-modernbert.long_context_spans.v1"

MIN_WINDOW = 16

# Room that is left in each window for what a tokenizer adds: special wordpieces (two,
# mostly) and one for a space put before the text.
_ADDED_PIECES = 4


def ensure_span_getters_registry() -> None:
    """Make `spacy.registry.span_getters`, if spacy-transformers has not done it.

    Either may come first: the names themselves are in one global table.
    """
    if not hasattr(registry, "span_getters"):
        registry.span_getters = catalogue.create(  # type: ignore[attr-defined]
            "spacy", "span_getters", entry_points=True
        )


def long_context_spans_v1(window: int = 8192, overlap: int = 512) -> "LongContextSpans":
    """Create a span getter whose spans are as long as a model can read at once.
    Registered as `spacy-modernbert.long_context_spans.v1`.

    window (int): The wordpieces of a window, special ones counted.
    overlap (int): The wordpieces that two windows of one Doc share.
    RETURNS (LongContextSpans): The span getter.
    RAISES (ValueError): If the window is not a whole number, or below 16; if the
        overlap is not a whole number, below 0, or not less than the window.
    """
    return LongContextSpans(window=window, overlap=overlap)


@dataclass(frozen=True)
class LongContextSpans:
    """A span getter that knows no tokenizer: `(List[Doc]) -> List[List[Span]]`.

    Every token is in at least one span. An empty Doc has no spans. A Doc that
    surely fits into a window is one span; a longer one is cut at the end of a
    paragraph, else of a sentence, else of a token.

    No span has more than `window` wordpieces, whatever the model's tokenizer, so
    long as that makes no more wordpieces than the text has bytes in UTF-8: in
    whichever Unicode normal form is longest, lower-cased or not. Byte-level BPE,
    WordPiece, and SentencePiece with byte fallback all keep to that. The price is
    that windows are shorter than they could be (English has about four bytes to a
    wordpiece), and that `overlap` is counted in bytes as well. The one exception
    is a single token longer than a window: it has a span of its own, which the
    model may truncate, and a warning tells of the first.

    window (int): The wordpieces of a window, special ones counted. At least 16, and
        no more than the model takes.
    overlap (int): What two windows of one Doc share. From 0 to `window - 1`.
    """

    window: int
    overlap: int

    def __post_init__(self) -> None:
        if not is_int(self.window) or self.window < MIN_WINDOW:
            raise ValueError(
                Errors.BAD_WINDOW.format(value=self.window, minimum=MIN_WINDOW)
            )
        if not is_int(self.overlap) or not 0 <= self.overlap < self.window:
            raise ValueError(
                Errors.BAD_OVERLAP.format(value=self.overlap, window=self.window)
            )

    def __call__(self, docs: Sequence[Doc]) -> List[List[Span]]:
        """Get the spans of each Doc.

        docs (Sequence[Doc]): The Docs.
        RETURNS (List[List[Span]]): Their spans.
        """
        return [
            [doc[w.token_start : w.token_end] for w in self._byte_windows(doc)]
            for doc in docs
        ]

    def _byte_windows(self, doc: Doc) -> List[Window]:
        """The windows of a Doc in which each byte counts as a wordpiece."""
        starts, ends = token_offsets(doc)
        most_pieces = _most_pieces(doc.text)
        alignment = Alignment(most_pieces[starts], most_pieces[ends])
        capacity = self.window - _ADDED_PIECES
        warn_oversized(alignment, capacity, self, Warnings.OVERSIZED_TOKENS_UNBOUND)
        return cut_windows(
            alignment,
            n_pieces=int(most_pieces[-1]),
            breaks=doc_breaks(doc),
            capacity=capacity,
            overlap=self.overlap,
        )


def check_window(get_spans: SpanGetter, limit: int, max_batch_wordpieces: int) -> None:
    """Check that a model takes the windows of a span getter, and a pass holds them.

    get_spans (SpanGetter): The span getter. The spans of any but `LongContextSpans` are
        cut to what the model takes and a pass holds, which must not be too little.
    limit (int): The most wordpieces that the model takes, special ones counted.
    max_batch_wordpieces (int): The most wordpieces of a pass.
    RAISES (ValueError): If the window is larger than the limit, or a pass smaller than
        the window (or than the smallest window, with another span getter).
    """
    if not isinstance(get_spans, LongContextSpans):
        least = min(MIN_WINDOW, limit)
        if max_batch_wordpieces < least:
            raise ValueError(
                Errors.BATCH_UNDER_LEAST.format(value=max_batch_wordpieces, least=least)
            )
        return
    window = get_spans.window
    if window > limit:
        raise ValueError(Errors.WINDOW_OVER_LIMIT.format(window=window, limit=limit))
    if max_batch_wordpieces < window:
        raise ValueError(
            Errors.BATCH_UNDER_WINDOW.format(value=max_batch_wordpieces, window=window)
        )


def _most_pieces(text: str) -> Ints:
    """`(len(text) + 1,)`: an upper bound on the wordpieces of each prefix of a text."""
    if text.isascii():
        return np.arange(len(text) + 1, dtype=np.int64)
    kinds, which = np.unique(code_points(text), return_inverse=True)
    most_bytes = np.array([_most_bytes(chr(c)) for c in kinds.tolist()], dtype=np.int64)
    return np.concatenate([[0], np.cumsum(most_bytes[which])])


@lru_cache(maxsize=65536)
def _most_bytes(char: str) -> int:
    """The bytes of a character in the longest of its forms. A composed form (NFC,
    NFKC) is never longer than the decomposed one, and the length of a decomposed
    text is the sum of those of its characters."""
    forms = (char, normalize("NFD", char), normalize("NFKD", char))
    return max(len(text.encode()) for form in forms for text in (form, form.lower()))
