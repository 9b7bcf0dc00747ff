"""transformers' `ModernBertModel`, on padded batches as its users make them."""

from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np
import torch
from transformers import ModernBertModel

from spacy_modernbert.encoder.torch.transfer import to_host
from spacy_modernbert.types import Floats

from ..documents import Ids
from ..points import Peer, Unavailable
from . import Encode

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def make(peer: Peer, folder: Path, threads: int) -> Encode:
    model = load(peer, folder)
    return padded(model, peer, load_pad_id(model))


def load(peer: Peer, folder: Path) -> Any:
    """RETURNS (ModernBertModel): On its device, with the attention of the peer's
    options, "sdpa" if they say nothing.
    RAISES (Unavailable): If it cannot be run here.
    """
    if peer.device == "cuda" and not torch.cuda.is_available():
        raise Unavailable("torch finds no CUDA device")
    attention = peer.options.get("attention", "sdpa")
    try:
        model = ModernBertModel.from_pretrained(
            folder,
            attn_implementation=attention,
            torch_dtype=DTYPES[peer.precision],
        )
    except ImportError as error:
        raise Unavailable(str(error).split(". ")[0]) from error
    return model.to(peer.device).eval()


def load_pad_id(model: Any) -> int:
    """RETURNS (int): What padding is written as."""
    return int(model.config.pad_token_id)


def padded(model: Any, peer: Peer, pad_id: int) -> Encode:
    """An encoder of padded batches, each as long as the longest of its documents.

    model (Callable): Takes `input_ids` and `attention_mask`, `(batch, length)`.
    peer (Peer): Its options say how many documents are in a batch, 1 by default.
    pad_id (int): What padding is written as.
    RETURNS (Encode): The encoder.
    """
    size = peer.options.get("batch_size", 1)

    def encode(documents: Sequence[Ids]) -> List[Floats]:
        found: List[Floats] = []
        with torch.inference_mode():
            for start in range(0, len(documents), size):
                batch = documents[start : start + size]
                inputs = pad(batch, pad_id)
                on_device = {name: x.to(peer.device) for name, x in inputs.items()}
                hidden = model(**on_device).last_hidden_state.float()
                # As in our own encoder: without padding, and by memory that CUDA
                # copies to fastest.
                found += [
                    to_host(row[: len(ids)])
                    for row, ids in zip(hidden, batch, strict=True)
                ]
        return found

    return encode


def pad(documents: Sequence[Ids], pad_id: int) -> Dict[str, torch.Tensor]:
    """RETURNS (Dict[str, torch.Tensor]): `input_ids` and `attention_mask`."""
    longest = max(map(len, documents))
    ids = np.full((len(documents), longest), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, document in enumerate(documents):
        ids[row, : len(document)] = document
        mask[row, : len(document)] = 1
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask),
    }
