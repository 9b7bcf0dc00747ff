"""Texts → wordpieces → packed batches of sequences, in a reproducible order."""

import itertools
from dataclasses import dataclass
from typing import Iterator, List, Sequence, Tuple

import numpy as np

from ..documents.wordpieces import WordpieceTokenizer
from ..types import Ints, PackedBatch, pack

# Texts that are tokenized at a time.
_TEXTS = 16


@dataclass(frozen=True)
class TokenizedTexts:
    """Texts as wordpieces.

    ids (Tuple[Ints, ...]): For each text `(n_wordpieces,)` int32, no special ones.
    prefix, suffix (Ints): The special wordpieces around a sequence.
    """

    ids: Tuple[Ints, ...]
    prefix: Ints
    suffix: Ints

    @property
    def n_special(self) -> int:
        """RETURNS (int): The special wordpieces around a sequence."""
        return len(self.prefix) + len(self.suffix)


def tokenize(texts: Sequence[str], tokenizer: WordpieceTokenizer) -> TokenizedTexts:
    """Tokenize texts.

    texts (Sequence[str]): The texts.
    tokenizer (WordpieceTokenizer): The tokenizer.
    RETURNS (TokenizedTexts): Their wordpieces.
    """
    ids = (
        ids.astype(np.int32)
        for start in range(0, len(texts), _TEXTS)
        for ids in tokenizer.ids(texts[start : start + _TEXTS])
    )
    return TokenizedTexts(
        tuple(ids),
        np.asarray(tokenizer.prefix_ids, np.int32),
        np.asarray(tokenizer.suffix_ids, np.int32),
    )


def cut(texts: TokenizedTexts, length: int, rng: np.random.Generator) -> List[Ints]:
    """Cut texts into sequences. Where each text is first cut is left to chance, so that
    another epoch has other sequences. No wordpiece is left out.

    texts (TokenizedTexts): The texts.
    length (int): The most wordpieces of a sequence, special ones included.
    rng (np.random.Generator): The random number generator.
    RETURNS (List[Ints]): `(at most length,)` each, with the special wordpieces, in the
        order of the texts.
    """
    capacity = length - texts.n_special
    sequences = []
    for ids in texts.ids:
        fits = len(ids) <= capacity
        first = len(ids) if fits else int(rng.integers(1, capacity + 1))
        cuts = [0, *range(first, len(ids), capacity), len(ids)]
        sequences += [
            np.concatenate([texts.prefix, ids[start:end], texts.suffix])
            for start, end in itertools.pairwise(cuts)
            if start < end
        ]
    return sequences


def stream(
    texts: TokenizedTexts, length: int, batch_wordpieces: int, seed: Sequence[int]
) -> Iterator[PackedBatch]:
    """Batches for ever, each epoch in another order. The same seed gives the same.

    texts (TokenizedTexts): The texts, at least one.
    length (int): The most wordpieces of a sequence.
    batch_wordpieces (int): The most wordpieces of a batch.
    seed (Sequence[int]): Numbers, not negative.
    YIELDS (PackedBatch): The batches.
    """
    epoch = 0
    while True:
        rng = np.random.default_rng([*seed, epoch])
        sequences = cut(texts, length, rng)
        order = rng.permutation(len(sequences))
        yield from pack([sequences[i] for i in order], batch_wordpieces)
        epoch += 1
