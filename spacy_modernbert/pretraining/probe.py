"""Does it help to see more? The same wordpieces, hidden in the same places, are asked
for with all of a long sequence in sight, and with short pieces of it.
"""

from dataclasses import dataclass, replace
from typing import List, Tuple

import numpy as np
import torch

from ..types import Ints, PackedBatch
from .masked_lm import MaskedLM
from .masking import MaskedBatch, Masking
from .sequences import TokenizedTexts, cut


@dataclass(frozen=True)
class Found:
    """How hidden wordpieces were found.

    loss (float): The mean cross-entropy in nats.
    accuracy (float): The share of those that had the highest score.
    n_hidden (int): How many there were.
    """

    loss: float
    accuracy: float
    n_hidden: int


def hide_texts(
    texts: TokenizedTexts,
    masking: Masking,
    length: int,
    max_wordpieces: int,
    seed: int,
) -> List[MaskedBatch]:
    """Held-out texts with hidden wordpieces, the same on every call. Each batch is one
    sequence: of a long text a full one, and of a short one all of it.

    texts (TokenizedTexts): The texts.
    masking (Masking): How to hide.
    length (int): The most wordpieces of a sequence, special ones included.
    max_wordpieces (int): About how many wordpieces to take in all, evenly from all
        texts. At least one sequence is taken.
    seed (int): The seed.
    RETURNS (List[MaskedBatch]): The sequences.
    """
    rng = np.random.default_rng(seed)
    sequences: List[Ints] = []
    for ids in texts.ids:
        cuts = cut(replace(texts, ids=(ids,)), length, rng)
        # Full ones say most of what a length is worth. Short texts have none.
        sequences += [each for each in cuts if len(each) == length] or cuts
    total = sum(map(len, sequences))
    n_sequences = round(max_wordpieces * len(sequences) / total)
    n_taken = max(1, min(len(sequences), n_sequences))
    places = np.linspace(0, len(sequences) - 1, n_taken).round().astype(int)
    return [masking.hide(PackedBatch.of([sequences[i]]), rng) for i in places]


def ask(model: MaskedLM, batches: List[MaskedBatch]) -> Found:
    """Ask for what is hidden, without dropout.

    model (MaskedLM): The model.
    batches (List[MaskedBatch]): The batches, in which something is hidden.
    RETURNS (Found): How it was found.
    """
    loss = 0.0
    n_found = n_hidden = 0
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for masked in batches:
                if masked.places.size:
                    batch_loss, batch_found = model.score(masked)
                    loss += float(batch_loss)
                    n_found += int(batch_found)
                    n_hidden += masked.places.size
    finally:
        model.train(was_training)
    return Found(loss / n_hidden, n_found / n_hidden, n_hidden)


def cut_sight(
    masked: MaskedBatch, length: int, prefix: Ints, suffix: Ints
) -> MaskedBatch:
    """Cut a sequence with hidden wordpieces into shorter ones. What is hidden, and what
    stands in its place, stays the same.

    masked (MaskedBatch): One sequence.
    length (int): The most wordpieces of a short sequence, special ones included.
    prefix, suffix (Ints): The special wordpieces around a sequence.
    RETURNS (MaskedBatch): The short sequences, as one batch.
    """
    capacity = length - len(prefix) - len(suffix)
    inner = masked.batch.ids[len(prefix) : masked.batch.total - len(suffix)]
    pieces = [inner[i : i + capacity] for i in range(0, len(inner), capacity)]
    sequences = [np.concatenate([prefix, piece, suffix]) for piece in pieces]
    before = masked.places - len(prefix)
    shift = len(prefix) + (before // capacity) * (length - capacity)
    return MaskedBatch(
        PackedBatch.of(sequences),
        before + shift,
        masked.targets,
    )


def compare_sights(
    model: MaskedLM, batches: List[MaskedBatch], length: int, special: Tuple[Ints, Ints]
) -> Tuple[Found, Found]:
    """RETURNS (Tuple[Found, Found]): How the same hidden wordpieces are found with
    whole sequences in sight, and with pieces of `length` wordpieces.
    """
    short = [cut_sight(masked, length, *special) for masked in batches]
    return ask(model, batches), ask(model, short)
