"""Texts through `nlp.pipe`, up to their entities."""

import json
from pathlib import Path
from typing import Any, Dict

import numpy as np

from spacy_modernbert.encoder.checkpoint import TOKENIZER

from ..pipelines import PROBE, make_pipeline
from ..points import Point
from ..recognizer import calibrate, draw_weights, share_in_entities
from ..texts import read_tokenizer
from . import Job


def make(point: Point) -> Job:
    texts = json.loads(Path(point.work["texts"]).read_text(encoding="utf8"))
    pipeline = make_pipeline(point.peer, Path(point.folder), point.work["labels"])
    nlp = pipeline.nlp
    facts: Dict[str, Any] = {}
    probed = None
    if point.peer.options.get("fake"):
        # There are no vectors to compare, and what the parser costs depends on what it
        # finds: every pipeline finds the same.
        recognizer: Any = nlp.get_pipe(nlp.pipe_names[-1])
        draw_weights(recognizer, np.random.default_rng(0))
        sample = texts[:3]
        facts["in_entities"] = calibrate(
            recognizer, lambda: share_in_entities(nlp, sample)
        )
    else:
        probed = pipeline.hidden(PROBE)

    def run() -> int:
        return sum(len(doc.ents) for doc in nlp.pipe(texts))

    list(nlp.pipe([PROBE, texts[0][:1000]]))
    tokenizer = read_tokenizer(Path(point.folder) / TOKENIZER)
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
            **facts,
        },
    )
