"""The tokenizer of a checkpoint, for commands that write another checkpoint of it."""

from pathlib import Path

from ..documents.wordpieces import WordpieceTokenizer
from ..encoder.checkpoint import TOKENIZER, read_tokenizer_json
from ..encoder.config import ModernBertConfig


def read_fitting_tokenizer(folder: Path, config: ModernBertConfig) -> str:
    """Read the tokenizer of a checkpoint, and check that no text will have a wordpiece
    without a vector.

    folder (Path): The checkpoint.
    config (ModernBertConfig): Its config.
    RETURNS (str): The text of `tokenizer.json`.
    RAISES (ValueError): If there is none, it cannot be used, or the encoder has fewer
        wordpieces.
    """
    tokenizer_json = read_tokenizer_json(folder)
    source = str(folder / TOKENIZER)
    WordpieceTokenizer.from_json(tokenizer_json, source, config.vocab_size)
    return tokenizer_json
