"""The mask token of a tokenizer, and the wordpieces that are never masked."""

from pathlib import Path
from typing import Any, Mapping

import numpy as np
from tokenizers import Tokenizer

from ..documents.wordpieces import WordpieceTokenizer
from ..encoder.checkpoint import MASK_TOKENS
from ..errors import Errors
from .masking import Masking


def make_masking(
    wordpieces: WordpieceTokenizer,
    tokenizer: Tokenizer,
    tokenizer_config: Mapping[str, Any],
    rate: float,
    vocab_size: int,
    folder: Path,
) -> Masking:
    """Find out what a tokenizer masks by, and what is never masked.

    wordpieces (WordpieceTokenizer): Tells what is put around a sequence.
    tokenizer (Tokenizer): The same, as the tokenizers library has it.
    tokenizer_config (Mapping[str, Any]): What tokenizer_config.json says.
    rate (float): The share of the wordpieces that are to be selected.
    vocab_size (int): The wordpieces that the encoder has vectors for.
    folder (Path): Where the tokenizer is from, for a message.
    RETURNS (Masking): How wordpieces are masked.
    RAISES (ValueError): If there is no mask token.
    """
    mask_id = _find_mask_id(tokenizer, tokenizer_config, folder)
    added = tokenizer.get_added_tokens_decoder()
    special = {id for id, token in added.items() if token.special}
    # Not every tokenizer.json flags what it puts around a sequence.
    special |= {mask_id, *wordpieces.prefix_ids, *wordpieces.suffix_ids}
    return Masking(
        rate=rate,
        mask_id=mask_id,
        special_ids=np.array(sorted(special), np.int64),
        vocab_size=min(vocab_size, tokenizer.get_vocab_size()),
    )


def _find_mask_id(
    tokenizer: Tokenizer, tokenizer_config: Mapping[str, Any], folder: Path
) -> int:
    """The mask token: the one that tokenizer_config.json names, else one with a usual
    name.
    """
    told = tokenizer_config.get("mask_token")
    if isinstance(told, Mapping):  # with what it strips
        told = told.get("content")
    for token in (told, *MASK_TOKENS):
        found = tokenizer.token_to_id(token) if isinstance(token, str) else None
        if found is not None:
            return found
    raise ValueError(Errors.NO_MASK_TOKEN.format(folder=folder))
