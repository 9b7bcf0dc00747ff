"""Documents through an encoder."""

from pathlib import Path
from typing import List

import numpy as np

from spacy_modernbert.encoder.checkpoint import load_config
from spacy_modernbert.types import Floats

from ..documents import draw_documents
from ..engines import make_encode
from ..points import Point
from . import Job

# Enough for every library to start its threads and to choose its kernels. It takes
# a sliding window, two documents, and lengths that no block size divides.
_WARM_UP = (131, 67)


def make(point: Point) -> Job:
    config = load_config(Path(point.folder))
    encode = make_encode(point.peer, Path(point.folder), point.threads)
    special = (config.vocab_size, config.cls_token_id or 0, config.sep_token_id or 0)
    documents = draw_documents(point.work["lengths"], *special)
    pooled = point.work.get("pool", False)

    def run() -> List[Floats]:
        hidden = encode(documents)
        # Sentence embeddings: the mean over the wordpieces of a document.
        return [vectors.mean(axis=0)[None] for vectors in hidden] if pooled else hidden

    encode(draw_documents(_WARM_UP, *special))
    return Job(
        run=run,
        vectors=np.concatenate,
        facts={
            "wordpieces": sum(map(len, documents)),
            "documents": len(documents),
        },
    )
