"""Pipelines that are made and trained for a moment."""

from pathlib import Path

import spacy
from spacy.language import Language
from spacy.util import fix_random_seed

from .util import make_examples


def train_ner(checkpoint: Path, steps: int = 25) -> Language:
    """RETURNS (Language): A pipeline with `modernbert_ner`, trained for a moment."""
    fix_random_seed(0)
    nlp = spacy.blank("en")
    # Other processes are to find the same, on any processor.
    tok2vec = {"name": str(checkpoint), "backend": "cpu", "precision": "float32"}
    nlp.add_pipe("modernbert_ner", config={"model": {"tok2vec": tok2vec}})
    examples = make_examples(nlp, 8)
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = 0.003
    for _ in range(steps):
        nlp.update(examples, sgd=optimizer)
    return nlp
