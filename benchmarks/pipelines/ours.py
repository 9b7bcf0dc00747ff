"""`modernbert_ner` with its default windows."""

from pathlib import Path
from typing import Any

import spacy

from spacy_modernbert.encoder.availability import look_for
from spacy_modernbert.layers.encode import find_layers, get_shim
from spacy_modernbert.types import Floats

from ..points import Peer, Unavailable
from . import Pipeline, make_examples
from .fake import make_instant


def make(peer: Peer, folder: Path, n_labels: int) -> Pipeline:
    missing = look_for(peer.device).missing
    if missing:
        raise Unavailable(missing)
    nlp = spacy.blank("en")
    nlp.max_length = 10_000_000
    quantization = peer.options.get("quantization")
    tok2vec = {
        "name": str(folder),
        "backend": peer.device,
        "precision": "auto" if quantization else peer.precision,
        "quantization": quantization,
    }
    ner: Any = nlp.add_pipe("modernbert_ner", config={"model": {"tok2vec": tok2vec}})
    try:
        nlp.initialize(lambda: make_examples(nlp, n_labels))
    except ImportError as error:
        raise Unavailable(f"not there: {error}") from error
    (layer,) = find_layers(ner.model)
    if peer.options.get("fake"):
        make_instant(get_shim(layer).loaded.encoder)

    def hidden(text: str) -> Floats:
        vectors: Floats = layer.predict([nlp.make_doc(text)]).vectors
        return vectors

    return Pipeline(nlp, hidden)
