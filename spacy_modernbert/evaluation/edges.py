"""How far the tokens of a document are from where it was cut into windows."""

from dataclasses import dataclass
from typing import List, Optional, Sequence

import numpy as np
from spacy.tokens import Doc
from spacy.training import Example

from ..documents.alignment import Alignment, align, token_offsets
from ..documents.windows import Window, cut_doc
from ..documents.wordpieces import WordpieceTokenizer
from ..types import Ints

# The distance of a token from a cut, where there is no cut.
NO_CUT = -1


@dataclass(frozen=True)
class WindowCutter:
    """How a pipeline cuts documents into windows.

    tokenizer (WordpieceTokenizer): The tokenizer of its encoder.
    window (int): The wordpieces of a window, special ones counted.
    overlap (int): The wordpieces that two windows share.
    """

    tokenizer: WordpieceTokenizer
    window: int
    overlap: int

    def __call__(self, examples: Sequence[Example]) -> List[Optional[Ints]]:
        """Find the distances of the tokens of the references.

        examples (Sequence[Example]): References, and the Docs as the encoder gets them,
            before any later component has set the starts of sentences.
        RETURNS (List[Optional[Ints]]): For each: see `cut_distances`. None where the
            two differ in their text.
        """
        return [self._distances(eg.predicted, eg.reference) for eg in examples]

    def _distances(self, predicted: Doc, reference: Doc) -> Optional[Ints]:
        if predicted.text != reference.text:
            return None
        (pieces,) = self.tokenizer([predicted.text])
        windows = cut_doc(
            predicted,
            align(pieces, *token_offsets(predicted)),
            n_pieces=len(pieces),
            capacity=self.window - self.tokenizer.n_special,
            overlap=self.overlap,
        )
        return cut_distances(
            align(pieces, *token_offsets(reference)), windows, len(pieces)
        )


def cut_distances(
    alignment: Alignment, windows: Sequence[Window], n_pieces: int
) -> Ints:
    """The wordpieces between each token and the nearest cut, in the window that speaks
    for the token: the one in which it stands farthest from a cut. The start and the
    end of the document are no cuts.

    alignment (Alignment): The wordpieces of each token.
    windows (Sequence[Window]): The windows of the document.
    n_pieces (int): The wordpieces of the document.
    RETURNS (Ints): `(n_tokens,)` the distances, or `NO_CUT` where the window has no
        cut: it holds the whole document.
    """
    far = n_pieces + 1
    farthest = np.full(len(alignment), -1, dtype=np.int64)
    for window in windows:
        left = alignment.starts.astype(np.int64) - window.piece_start
        right = window.piece_end - alignment.ends.astype(np.int64)
        inside = (left >= 0) & (right >= 0)
        if window.piece_start == 0:
            left[:] = far
        if window.piece_end >= n_pieces:
            right[:] = far
        distance = np.where(inside, np.minimum(left, right), -1)
        farthest = np.maximum(farthest, distance)
    # A token that is too long for any window is at a cut.
    return np.where(farthest == far, NO_CUT, np.maximum(farthest, 0))
