"""Does more context help? The same masked wordpieces are predicted from whole long
sequences, and from short pieces of them.
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
class MaskedLMScores:
    """How well masked wordpieces were predicted.

    loss (float): The mean cross-entropy in nats.
    accuracy (float): The share of those that had the highest score.
    n_masked (int): How many there were.
    """

    loss: float
    accuracy: float
    n_masked: int


def mask_texts(
    texts: TokenizedTexts,
    masking: Masking,
    length: int,
    max_wordpieces: int,
    seed: int,
) -> List[MaskedBatch]:
    """Held-out texts with masked wordpieces, the same on every call. Each batch is one
    sequence: a full one of a long text, or all of a short one.

    texts (TokenizedTexts): The texts.
    masking (Masking): How to mask.
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
    taken = np.linspace(0, len(sequences) - 1, n_taken).round().astype(int)
    return [masking.mask(PackedBatch.of([sequences[i]]), rng) for i in taken]


def evaluate_masked(model: MaskedLM, batches: List[MaskedBatch]) -> MaskedLMScores:
    """Predict the masked wordpieces, without dropout.

    model (MaskedLM): The model.
    batches (List[MaskedBatch]): The batches, with at least one masked wordpiece.
    RETURNS (MaskedLMScores): How well they were predicted.
    """
    loss = 0.0
    n_correct = n_masked = 0
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for masked in batches:
                if masked.positions.size:
                    batch_loss, batch_correct = model.score(masked)
                    loss += float(batch_loss)
                    n_correct += int(batch_correct)
                    n_masked += masked.positions.size
    finally:
        model.train(was_training)
    return MaskedLMScores(loss / n_masked, n_correct / n_masked, n_masked)


def shorten_context(
    masked: MaskedBatch, length: int, prefix: Ints, suffix: Ints
) -> MaskedBatch:
    """Cut a sequence with masked wordpieces into shorter ones. The masked wordpieces,
    and what replaces them, stay the same.

    masked (MaskedBatch): One sequence.
    length (int): The most wordpieces of a short sequence, special ones included.
    prefix, suffix (Ints): The special wordpieces around a sequence.
    RETURNS (MaskedBatch): The short sequences, as one batch.
    """
    capacity = length - len(prefix) - len(suffix)
    inner = masked.batch.ids[len(prefix) : masked.batch.total - len(suffix)]
    pieces = [inner[i : i + capacity] for i in range(0, len(inner), capacity)]
    sequences = [np.concatenate([prefix, piece, suffix]) for piece in pieces]
    before = masked.positions - len(prefix)
    shift = len(prefix) + (before // capacity) * (length - capacity)
    return MaskedBatch(
        PackedBatch.of(sequences),
        before + shift,
        masked.targets,
    )


def unigram_baseline(
    train: Ints, targets: Ints, vocab_size: int
) -> Tuple[float, float]:
    """How well masked wordpieces are predicted by the frequency of each alone.

    train (Ints): Wordpieces to count.
    targets (Ints): The masked wordpieces.
    vocab_size (int): How many there are; each is counted once more than it occurs.
    RETURNS (Tuple[float, float]): The cross-entropy in nats, and the accuracy of
        always predicting the most frequent one.
    """
    counts = np.bincount(train, minlength=vocab_size) + 1
    shares = counts / counts.sum()
    loss = float(-np.log(shares[targets]).mean())
    return loss, float((targets == counts.argmax()).mean())
