"""Where a Doc may be cut: at the end of a paragraph, of a sentence, or of a token."""

import numpy as np
from spacy.tokens import Doc

from ..types import Ints
from .alignment import token_offsets
from .wordpieces import code_points, is_space

# What ends after a token.
TOKEN, SENTENCE, PARAGRAPH = 0, 1, 2

_SENTENCE_FINAL = ".!?…‽։؟۔।॥။።。！？｡．"
_CLOSERS = "\"'’”»)]}」』）】》〉］｝›"
_LINE_ENDS = "\n\r\x85\u2028\u2029"


def doc_breaks(doc: Doc) -> Ints:
    """What ends after each token of a Doc.

    A paragraph ends after a stretch of whitespace that holds a blank line, that
    is, two line ends or a paragraph separator (U+2029): the blank line stays with
    the paragraph before it. Sentences are those of the Doc where they are
    annotated. Else a sentence ends after a token of sentence-final punctuation and
    the quotes and brackets that close directly after it.

    doc (Doc): The Doc.
    RETURNS (Ints): `(n_tokens,)` int8: 0 if only a token ends, 1 if a sentence
        ends, 2 if a paragraph ends, as one does after the last token.
    """
    breaks = np.zeros(len(doc), dtype=np.int8)
    if not len(doc):
        return breaks
    chars = code_points(doc.text)
    starts, ends = token_offsets(doc)
    if doc.has_annotation("SENT_START"):
        sentence_starts = doc.to_array("SENT_START").astype(np.int64) == 1
        breaks[:-1][sentence_starts[1:]] = SENTENCE
    else:
        breaks[_punctuated_ends(chars, starts, ends)] = SENTENCE
    # The token before the one that a paragraph starts with.
    paragraph_starts = _blank_line_ends(chars)
    next_token = np.searchsorted(starts, paragraph_starts)
    at_token = (next_token > 0) & (next_token < len(doc))
    at_token[at_token] = starts[next_token[at_token]] == paragraph_starts[at_token]
    breaks[next_token[at_token] - 1] = PARAGRAPH
    breaks[-1] = PARAGRAPH
    return breaks


def _blank_line_ends(chars: Ints) -> Ints:
    """Where stretches of whitespace that hold a blank line end, in characters."""
    space = is_space(chars)
    at = np.flatnonzero(space)
    if not at.size:
        return at
    weights = np.isin(chars[at], code_points(_LINE_ENDS)).astype(np.int64)
    weights[chars[at] == ord("\u2029")] = 2
    # "\r\n" is one line end.
    following = chars[np.minimum(at + 1, chars.size - 1)]
    weights[(chars[at] == ord("\r")) & (following == ord("\n"))] = 0
    firsts = np.flatnonzero(np.concatenate([[True], np.diff(at) > 1]))
    lasts = np.append(firsts[1:], at.size) - 1
    return at[lasts[np.add.reduceat(weights, firsts) >= 2]] + 1


def _punctuated_ends(chars: Ints, starts: Ints, ends: Ints) -> Ints:
    """The tokens at which sentences end, judged by punctuation alone."""
    first_chars, last_chars = chars[starts], chars[ends - 1]
    marks = code_points(_SENTENCE_FINAL)
    # A token of punctuation only: "Mr." and "3.5" are not.
    final = np.isin(first_chars, marks) & np.isin(last_chars, marks)
    # What closes must follow directly: the quote in `. "Yes` opens.
    closing = final | np.isin(first_chars, code_points(_CLOSERS))
    closing[:1] = False
    closing[1:] &= starts[1:] == ends[:-1]
    # A group: a token and the punctuation that closes after it.
    heads = np.flatnonzero(~closing)
    group_ends = np.append(heads[1:], starts.size) - 1
    return group_ends[np.logical_or.reduceat(final, heads)]
