"""A step of training on one document, the optimizer's included."""

import json
from pathlib import Path
from typing import Dict

from spacy.training import Example

from spacy_modernbert.encoder.checkpoint import TOKENIZER

from ..devices import wait_for
from ..pipelines import PROBE, make_pipeline
from ..points import Point
from ..texts import read_tokenizer
from . import Job

# Of so many words, one is an entity.
_DISTANCE = 15


def make(point: Point) -> Job:
    (text,) = json.loads(Path(point.work["texts"]).read_text(encoding="utf8"))
    pipeline = make_pipeline(point.peer, Path(point.folder), point.work["labels"])
    nlp = pipeline.nlp
    probed = pipeline.hidden(PROBE)
    doc = nlp.make_doc(text)
    words = [token for token in doc if token.is_alpha]
    entities = [
        (token.idx, token.idx + len(token), f"LABEL{i % point.work['labels']}")
        for i, token in enumerate(words[::_DISTANCE])
    ]
    example = Example.from_dict(doc, {"entities": entities})
    # As `spacy train` has it. `resume_training` would copy the encoder for `rehearse`.
    optimizer = nlp.create_optimizer()

    # From the first step on, the state of the optimizer is part of what is held.
    first = Example.from_dict(nlp.make_doc(PROBE), {"entities": []})
    nlp.update([first], sgd=optimizer)

    def run() -> Dict[str, float]:
        losses: Dict[str, float] = nlp.update([example], sgd=optimizer)
        wait_for(point.peer.device)
        return losses

    tokenizer = read_tokenizer(Path(point.folder) / TOKENIZER)
    return Job(
        run=run,
        vectors=lambda losses: probed,
        facts={
            "documents": 1,
            "wordpieces": len(tokenizer.encode(text)),
            "tokens": len(doc),
        },
    )
