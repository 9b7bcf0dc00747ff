"""How fast entities are learned: by spaCy's update, and by the compiled one.

    python -m benchmarks.learner

Token vectors are drawn at random and given, so that no encoder is timed: this is all
that `modernbert_ner` does in a step of training beside its encoder, without that of the
optimizer. One thread, one process, medians; before anything is timed, both have to find
the same loss. Prints a table and writes it as JSON.
"""

from . import one_thread  # noqa: F401

# isort: split

import random
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import typer
from spacy.pipeline import EntityRecognizer
from spacy.tokens import Doc, Span
from spacy.training import Example
from wasabi import msg

from spacy_modernbert.components import ModernBertNER

from .decoder import SHAPE, make_docs, make_pipe, timed
from .figures import output_option, write_figures
from .recognizer import IN_ENTITIES

# Tokens of an entity.
LENGTH = 2


def main(
    n_docs: int = 3,
    length: int = 5000,
    repeats: int = 5,
    output: Path = output_option("learner.json"),  # noqa: B008
) -> None:
    """Time both for 1, 6 and 18 labels, print a table and write the results."""
    rows = [measure(n_labels, n_docs, length, repeats) for n_labels in (1, 6, 18)]
    write_figures(
        output,
        f"python -m benchmarks.learner --n-docs {n_docs} --length {length} "
        f"--repeats {repeats}",
        workload={
            "docs": n_docs,
            "tokens": n_docs * length,
            "in entities": IN_ENTITIES,
            **SHAPE,
            "repeats": repeats,
        },
        tokens_per_second=rows,
    )
    msg.table(
        [
            [f"{value:,.{0 if value >= 100 else 1}f}" for value in row.values()]
            for row in rows
        ],
        header=list(rows[0]),
        aligns=["r"] * len(rows[0]),
        divider=True,
    )
    msg.good(f"Wrote {output}")


def measure(n_labels: int, n_docs: int, length: int, repeats: int) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): Tokens per second, of both, and how many times as many
    the compiled update learns from.
    """
    steps: List[Callable[[], float]] = []
    for update in (EntityRecognizer.update, ModernBertNER.update):
        rng = np.random.default_rng(0)
        pipe = make_pipe(n_labels, False, rng)
        docs = make_docs(pipe, n_docs, length, rng)
        examples = [Example(doc, make_reference(doc, n_labels, rng)) for doc in docs]
        steps.append(make_step(update, pipe, examples))
    losses = [step() for step in steps]
    if not np.allclose(losses[0], losses[1], rtol=1e-3):
        raise SystemExit(f"The updates do not agree: their losses are {losses}.")
    spacys, compiled = (n_docs * length / timed(step, repeats) for step in steps)
    return {
        "labels": n_labels,
        "spaCy": spacys,
        "compiled": compiled,
        "times": compiled / spacys,
    }


def make_step(
    update: Callable[..., Dict[str, float]],
    pipe: ModernBertNER,
    examples: List[Example],
) -> Callable[[], float]:
    """RETURNS (Callable[[], float]): Learns, by stretches of the same length each time,
    and gives the loss. Weights stay as they are.
    """

    def step() -> float:
        random.seed(0)
        return update(pipe, examples, losses={})[pipe.name]

    return step


def make_reference(doc: Doc, n_labels: int, rng: np.random.Generator) -> Doc:
    """RETURNS (Doc): A Doc with the same tokens, some of them in entities."""
    reference = Doc(doc.vocab, words=[token.text for token in doc])
    n_entities = int(len(doc) * IN_ENTITIES / LENGTH)
    places = rng.choice(len(doc) // LENGTH, size=n_entities, replace=False) * LENGTH
    labels = rng.integers(n_labels, size=n_entities)
    reference.set_ents(
        [
            Span(reference, start, start + LENGTH, f"LABEL{label}")
            for start, label in zip(places.tolist(), labels.tolist(), strict=True)
        ]
    )
    return reference


if __name__ == "__main__":
    typer.run(main)
