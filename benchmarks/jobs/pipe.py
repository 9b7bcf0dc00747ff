"""Texts through `nlp.pipe`, up to their entities."""

import json
from pathlib import Path

from tokenizers import Tokenizer

from spacy_modernbert.encoder.checkpoint import TOKENIZER

from ..pipelines import PROBE, make_pipeline
from ..points import Point
from . import Job


def make(point: Point) -> Job:
    texts = json.loads(Path(point.work["texts"]).read_text(encoding="utf8"))
    pipeline = make_pipeline(point.peer, Path(point.folder), point.work["labels"])
    nlp = pipeline.nlp
    # Of an encoder that is none, there is nothing to compare.
    probed = None if point.peer.options.get("fake") else pipeline.hidden(PROBE)

    def run() -> int:
        return sum(len(doc.ents) for doc in nlp.pipe(texts))

    list(nlp.pipe([PROBE, texts[0][:1000]]))
    tokenizer = Tokenizer.from_file(str(Path(point.folder) / TOKENIZER))
    tokenizer.no_truncation()
    lengths = [len(tokenizer.encode(text)) for text in texts]
    limit = pipeline.limit or max(lengths)
    n_truncated = sum(length > limit for length in lengths)
    return Job(
        run=run,
        vectors=None if probed is None else lambda n_entities: probed,
        facts={
            "documents": len(texts),
            "wordpieces": sum(lengths),
            "tokens": sum(len(nlp.tokenizer(text)) for text in texts),
            **({"truncated": n_truncated} if n_truncated else {}),
        },
    )
