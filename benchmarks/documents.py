"""Documents of given lengths."""

from typing import List, Sequence

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]

MIXED = 32
MIXED_SHORTEST = 32
MIXED_LONGEST = 4096
_SEED = 0


def draw_lengths(n_documents: int = MIXED, longest: int = MIXED_LONGEST) -> List[int]:
    """RETURNS (List[int]): The mixed batch: log-uniform lengths, so that each doubling
    is as frequent as any other.
    """
    rng = np.random.default_rng(_SEED)
    drawn = np.exp(rng.uniform(np.log(MIXED_SHORTEST), np.log(longest), n_documents))
    return [round(length) for length in drawn]


def draw_documents(
    lengths: Sequence[int], vocab_size: int, cls_id: int, sep_id: int
) -> List[Ids]:
    """RETURNS (List[Ids]): For each length a document of random wordpieces,
    `[CLS] … [SEP]`. The same for everyone who asks with the same numbers.
    """
    rng = np.random.default_rng([_SEED, len(lengths), sum(lengths)])
    # The last ids of the published vocabulary are special, as are the first of ours.
    documents = [
        rng.integers(16, vocab_size - 128, length, dtype=np.int64) for length in lengths
    ]
    for ids in documents:
        ids[0], ids[-1] = cls_id, sep_id
    return documents
