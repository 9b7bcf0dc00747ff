"""Our own encoder, on any backend: documents packed, as a pipeline packs them."""

from pathlib import Path
from typing import List, Sequence

import numpy as np

from spacy_modernbert.encoder.availability import look_for
from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.checkpoint import load_config, open_tensors
from spacy_modernbert.types import Floats, pack

from ..documents import Ids
from ..points import Peer, Unavailable
from . import Encode

# The default of a pipeline.
MAX_BATCH_WORDPIECES = 16384


def make(peer: Peer, folder: Path, threads: int) -> Encode:
    missing = look_for(peer.device).missing
    if missing:
        raise Unavailable(missing)
    config = load_config(folder)
    quantization = peer.options.get("quantization")
    try:
        encoder = make_encoder(
            config,
            open_tensors(folder, config),
            backend=peer.device,
            precision="auto" if quantization else peer.precision,
            quantization=quantization,
        )
    except ImportError as error:
        raise Unavailable(f"not there: {error}") from error
    except ValueError as error:  # its messages say what cannot be had here
        raise Unavailable(str(error)) from error

    def encode(documents: Sequence[Ids]) -> List[Floats]:
        found: List[Floats] = []
        for batch in pack(documents, MAX_BATCH_WORDPIECES):
            hidden = encoder.encode(batch)
            found += np.split(hidden, batch.cu_seqlens[1:-1])
        return found

    return encode
