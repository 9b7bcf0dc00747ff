"""The head for masked language modelling, as tensors. The encoder has no use for it,
but one that is to be pretrained further should bring it along.

The layout is that of transformers' `ModernBertForMaskedLM`: `head.dense`, `head.norm`,
and `decoder.bias`. The weights of the decoder are those of the embedding table.
"""

from pathlib import Path
from typing import Dict, Mapping, Optional

import numpy as np

from ..errors import Errors
from ..types import Floats
from .checkpoint import open_entries, read_all_entries
from .config import ModernBertConfig
from .quantize import part_names
from .tensor_files import Shape

_DECODER_WEIGHT = "decoder.weight"


def head_shapes(config: ModernBertConfig) -> Dict[str, Shape]:
    """RETURNS (Dict[str, Shape]): The shape of each tensor of the head, by its name in
    `ModernBertForMaskedLM`.
    RAISES (ValueError): If the head would have another activation than GELU.
    """
    activation = config.extras.get("classifier_activation", "gelu")
    if activation != "gelu":
        raise ValueError(Errors.HEAD_OTHER_ACTIVATION.format(value=activation))
    width = config.hidden_size
    shapes: Dict[str, Shape] = {"head.dense.weight": (width, width)}
    if config.extras.get("classifier_bias", False):
        shapes["head.dense.bias"] = (width,)
    shapes["head.norm.weight"] = (width,)
    if config.norm_bias:
        shapes["head.norm.bias"] = (width,)
    if config.extras.get("decoder_bias", True):
        shapes["decoder.bias"] = (config.vocab_size,)
    return shapes


def init_head(config: ModernBertConfig, seed: int) -> Dict[str, Floats]:
    """RETURNS (Dict[str, Floats]): A fresh head. Its matrix is drawn by the
    initializer settings of the config; what falls outside the cutoff is clipped to it.
    """
    fresh: Dict[str, Floats] = {}
    for name, shape in head_shapes(config).items():
        if name == "head.dense.weight":
            rng = np.random.default_rng([seed, config.hidden_size])
            limit = config.initializer_cutoff_factor
            drawn = rng.standard_normal(shape).clip(-limit, limit)
            fresh[name] = (drawn * config.initializer_range).astype(np.float32)
        else:
            make = np.ones if name == "head.norm.weight" else np.zeros
            fresh[name] = make(shape, np.float32)
    return fresh


def open_head(folder: Path, config: ModernBertConfig) -> Optional[Mapping[str, Floats]]:
    """Open the head of a checkpoint.

    folder (Path): The checkpoint.
    config (ModernBertConfig): Its config.
    RETURNS (Optional[Mapping[str, Floats]]): The tensors of `head_shapes`, each read
        when it is asked for. None if the checkpoint is of an encoder alone, or of
        another task.
    RAISES (ValueError): If the decoder has weights of its own, or a tensor is not the
        one of the config.
    """
    entries = read_all_entries(folder)
    shapes = head_shapes(config)
    # The head of a classifier has the same names, but was trained for another task.
    is_classifier = any(name.startswith("classifier.") for name in entries)
    if is_classifier or not all(name in entries for name in shapes):
        return None
    if _DECODER_WEIGHT in entries and not config.extras.get(
        "tie_word_embeddings", True
    ):
        raise ValueError(Errors.HEAD_NOT_TIED.format(folder=folder))
    # A quantized weight has parts beside it.
    names = {*shapes, *(part for name in shapes for part in part_names(name))}
    found = {name: entry for name, entry in entries.items() if name in names}
    return open_entries(found, shapes, f"'{folder}'")
