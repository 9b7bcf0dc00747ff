"""Checkpoints of a shape with random weights, as every peer reads them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from spacy_modernbert.cli.encoder import SPECIAL_IDS, train_tokenizer
from spacy_modernbert.encoder.checkpoint import (
    TOKENIZER,
    TOKENIZER_CONFIG,
    save_checkpoint,
)
from spacy_modernbert.encoder.config import SIZES_FOLDER, ModernBertConfig
from spacy_modernbert.encoder.weights import init_tensors

# Of what a projection makes of normed vectors. The published recipe comes to 0.55 in
# the base shape: attention is then all but uniform, and parity would hardly show a
# wrong mask. Speed does not depend on it.
_DEVIATION = 1.1


def make_checkpoint(
    shape: str, folder: Path, tokenizer: Optional[Path], texts: Sequence[str]
) -> ModernBertConfig:
    """Write a checkpoint.

    shape (str): A size of fresh encoders.
    folder (Path): Where to.
    tokenizer (Optional[Path]): A folder with the tokenizer of a published checkpoint.
        Without one, a tokenizer is learned from the texts.
    texts (Sequence[str]): The texts.
    RETURNS (ModernBertConfig): Its config.
    """
    config = ModernBertConfig.from_dict(_read(SIZES_FOLDER / f"{shape}.json"))
    deviation = _DEVIATION * config.hidden_size**-0.5
    config = replace(config, initializer_range=deviation)
    tokenizer_config = None
    if tokenizer is not None:
        tokenizer_json = (tokenizer / TOKENIZER).read_text(encoding="utf8")
        tokenizer_config = _read(tokenizer / TOKENIZER_CONFIG)
        tokenizer_config["model_max_length"] = config.max_wordpieces
        published = ModernBertConfig()
        special = ("cls_token_id", "sep_token_id", "pad_token_id")
        ids = {name: getattr(published, name) for name in special}
        config = replace(config, vocab_size=published.vocab_size, **ids)
    else:
        config = ModernBertConfig.from_dict({**config.to_dict(), **SPECIAL_IDS})
        tokenizer_json = train_tokenizer(texts, config.vocab_size).to_str()
    tensors = init_tensors(config, seed=0)
    save_checkpoint(folder, config, tensors, tokenizer_json, tokenizer_config)
    return config


def _read(path: Path) -> Dict[str, Any]:
    data: Dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
    return data
