"""Docs → wordpieces → windows → packed batches, and each token's rows in the output."""

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np
from spacy.tokens import Doc

from ..documents.alignment import Alignment, align, token_offsets
from ..documents.breaks import doc_breaks
from ..documents.windows import (
    Window,
    cut_doc,
    token_owners,
    token_rows,
    warn_oversized,
    windows_from_spans,
)
from ..documents.wordpieces import Wordpieces, WordpieceTokenizer
from ..errors import Errors
from ..span_getters import LongContextSpans, SpanGetter
from ..types import Ints, PackedBatch, TokenRows, pack


@dataclass(frozen=True)
class Plan:
    """How the encoder is to go through some Docs.

    windows (Tuple[List[Window], ...]): The windows of each Doc.
    window_lengths (Ints): `(n_windows,)` the rows of each window, those of all Docs
        in order, in the encoder's output: its wordpieces and the special ones
        around them. 0 for a window without wordpieces, which is not encoded.
    batches (Tuple[PackedBatch, ...]): The passes to make. Their outputs end to end
        are the output that `rows` speaks of.
    rows (TokenRows): The rows of each token, of all Docs in order.
    doc_lengths (Ints): `(n_docs,)` int32, the tokens of each Doc.

    Invariants: the windows with wordpieces are the sequences of the batches, in order,
    and the rows of a token are all in one window.
    """

    windows: Tuple[List[Window], ...]
    window_lengths: Ints
    batches: Tuple[PackedBatch, ...]
    rows: TokenRows
    doc_lengths: Ints

    @property
    def total(self) -> int:
        """RETURNS (int): The rows of the encoder's output."""
        return int(self.window_lengths.sum())

    @property
    def ids(self) -> Ints:
        """RETURNS (Ints): `(total,)` int64, the wordpiece that each row is of."""
        none = np.zeros(0, np.int64)
        return np.concatenate([none, *(batch.ids for batch in self.batches)])


def make_plan(
    docs: Sequence[Doc],
    tokenizer: WordpieceTokenizer,
    get_spans: SpanGetter,
    limit: int,
    max_batch_wordpieces: int,
) -> Plan:
    """Tokenize Docs, each once, and plan the passes through the encoder.

    docs (Sequence[Doc]): The Docs, which may be empty, or none.
    tokenizer (WordpieceTokenizer): The tokenizer of the encoder.
    get_spans (SpanGetter): Where to cut. This package's own counts wordpieces
        exactly; what any other gives is cut further where it is longer than the
        encoder takes, or than a pass.
    limit (int): The longest sequence that the encoder takes and a pass may hold,
        special wordpieces counted. It is the same whatever memory there is: windows
        decide what the vectors are.
    max_batch_wordpieces (int): The most wordpieces of a pass of several sequences.
    RETURNS (Plan): The plan.
    RAISES (ValueError): If the spans of a Doc leave a token out, or nothing fits
        beside the special wordpieces.
    """
    if limit <= tokenizer.n_special:
        raise ValueError(
            Errors.NO_ROOM_FOR_TEXT.format(limit=limit, n_special=tokenizer.n_special)
        )
    pieces = tokenizer([doc.text for doc in docs])
    alignments = [
        align(doc_pieces, *token_offsets(doc))
        for doc, doc_pieces in zip(docs, pieces, strict=True)
    ]
    windows = _cut(docs, pieces, alignments, get_spans, limit, tokenizer)
    sequences = [
        _sequence(doc_pieces.ids[window.piece_start : window.piece_end], tokenizer)
        for doc_pieces, doc_windows in zip(pieces, windows, strict=True)
        for window in doc_windows
    ]
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    return Plan(
        windows=windows,
        window_lengths=lengths,
        batches=tuple(pack([s for s in sequences if len(s)], max_batch_wordpieces)),
        rows=_rows(alignments, windows, lengths, len(tokenizer.prefix_ids)),
        doc_lengths=np.array([len(doc) for doc in docs], dtype=np.int32),
    )


def _cut(
    docs: Sequence[Doc],
    pieces: Sequence[Wordpieces],
    alignments: Sequence[Alignment],
    get_spans: SpanGetter,
    limit: int,
    tokenizer: WordpieceTokenizer,
) -> Tuple[List[Window], ...]:
    """Each Doc's windows."""
    if isinstance(get_spans, LongContextSpans):
        limit = get_spans.window
    capacity = limit - tokenizer.n_special
    for alignment in alignments:
        warn_oversized(alignment, capacity, owner=tokenizer)
    if isinstance(get_spans, LongContextSpans):
        return tuple(
            cut_doc(doc, alignment, len(doc_pieces), capacity, get_spans.overlap)
            for doc, doc_pieces, alignment in zip(docs, pieces, alignments, strict=True)
        )
    return tuple(
        windows_from_spans(
            [(span.start, span.end) for span in spans],
            alignment,
            len(doc_pieces),
            doc_breaks(doc),
            capacity,
        )
        for doc, spans, doc_pieces, alignment in zip(
            docs, get_spans(list(docs)), pieces, alignments, strict=True
        )
    )


def _sequence(ids: Ints, tokenizer: WordpieceTokenizer) -> Ints:
    """What the encoder is given for a window: nothing if it has no wordpieces."""
    if not len(ids):
        return ids
    # Of no ids, NumPy would make an array of floats.
    prefix, suffix = (
        np.array(special, dtype=ids.dtype)
        for special in (tokenizer.prefix_ids, tokenizer.suffix_ids)
    )
    return np.concatenate([prefix, ids, suffix])


def _rows(
    alignments: Sequence[Alignment],
    windows: Sequence[List[Window]],
    lengths: Ints,
    n_prefix: int,
) -> TokenRows:
    """The rows of each token, in the window whose vectors are used for it."""
    offsets = np.cumsum(lengths) - lengths + n_prefix
    parts = []
    first = 0
    for alignment, doc_windows in zip(alignments, windows, strict=True):
        last = first + len(doc_windows)
        parts.append(
            token_rows(
                alignment,
                doc_windows,
                token_owners(alignment, doc_windows),
                offsets[first:last],
            )
        )
        first = last
    return TokenRows.concat(parts)
