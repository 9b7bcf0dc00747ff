"""How fast entities are decoded: by spaCy's parser, and by the compiled decoder.

    python -m benchmarks.decoder

Token vectors are drawn at random and given, so that no encoder is timed: the rows
"from vectors" are all that `modernbert_ner` does between the encoder and the entities,
the rows "from hidden" leave out the layer that makes 64 numbers of a token vector. One
thread, one process, medians; before anything is timed, both have to find the same
entities. Prints a table and writes it as JSON, by default to where `python -m
benchmarks targets` looks for it.
"""

from . import one_thread  # noqa: F401

# isort: split

import time
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import spacy
import typer
from spacy.ml.models.parser import build_tb_parser_model
from spacy.pipeline import EntityRecognizer
from spacy.tokens import Doc
from thinc.api import Model
from wasabi import msg

from spacy_modernbert import decoder
from spacy_modernbert.components import ModernBertNER

from .figures import output_option, write_figures
from .recognizer import calibrate, draw_weights

WIDTH = 768
HIDDEN_WIDTH = 64
PIECES = 2
# What is measured, in the words of the JSON.
SHAPE = {
    "width": WIDTH,
    "hidden_width": HIDDEN_WIDTH,
    "maxout_pieces": PIECES,
    "threads": 1,
}


def main(
    n_docs: int = 4,
    length: int = 5000,
    repeats: int = 9,
    output: Path = output_option("decoder.json"),  # noqa: B008
) -> None:
    """Time both for 1, 6 and 18 labels, print a table and write the results."""
    rows = [
        measure(n_labels, use_upper, n_docs, length, repeats)
        for use_upper in (False, True)
        for n_labels in (1, 6, 18)
    ]
    write_figures(
        output,
        f"python -m benchmarks.decoder --n-docs {n_docs} --length {length} "
        f"--repeats {repeats}",
        workload={
            "docs": n_docs,
            "tokens": n_docs * length,
            **SHAPE,
            "repeats": repeats,
        },
        tokens_per_second=rows,
    )
    names = list(rows[0])
    msg.table(
        [[_show(row[name]) for name in names] for row in rows],
        header=names,
        aligns=["r"] * len(names),
        divider=True,
    )
    msg.good(f"Wrote {output}")


def measure(
    n_labels: int, use_upper: bool, n_docs: int, length: int, repeats: int
) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): Tokens per second, of both."""
    rng = np.random.default_rng(0)
    pipe = make_pipe(n_labels, use_upper, rng)
    docs = make_docs(pipe, n_docs, length, rng)
    share = calibrate(pipe, lambda: share_in_entities(pipe, docs))
    total = n_docs * length

    def stock() -> Any:
        return EntityRecognizer.predict(pipe, docs)

    def fast() -> Any:
        return decoder.predict_entities(pipe, docs)

    if entities_of(pipe, docs, stock()) != entities_of(pipe, docs, fast()):
        raise SystemExit("The decoders do not agree.")

    hidden = decoder.hidden_vectors(pipe.model.layers[0], docs)
    full = pipe.model.layers[0]
    given: Model = Model("given", lambda model, docs, is_train: (hidden, None))
    seconds = {
        "from vectors: stock": timed(stock, repeats),
        "from vectors: fast": timed(fast, repeats),
    }
    pipe.model._layers[0] = given
    seconds["from hidden: stock"] = timed(stock, repeats)
    seconds["from hidden: fast"] = timed(fast, repeats)
    pipe.model._layers[0] = full

    found = fast()
    seconds["set entities"] = timed(lambda: pipe.set_annotations(docs, found), repeats)
    return {
        "labels": n_labels,
        "upper": use_upper,
        "in entities": share,
        **{name: total / value for name, value in seconds.items()},
    }


def make_pipe(
    n_labels: int, use_upper: bool, rng: np.random.Generator
) -> ModernBertNER:
    """RETURNS (ModernBertNER): A recognizer with random weights, on given vectors."""

    def forward(
        model: Model, docs: List[Doc], is_train: bool
    ) -> Tuple[List[np.ndarray], Callable]:
        return [doc.tensor for doc in docs], lambda d_vectors: []

    tok2vec: Model = Model("vectors", forward, dims={"nO": WIDTH})
    model = build_tb_parser_model(
        tok2vec, "ner", False, HIDDEN_WIDTH, PIECES, use_upper
    )
    nlp = spacy.blank("en")
    pipe = ModernBertNER(nlp.vocab, model, name="modernbert_ner")
    labels = [f"LABEL{i}" for i in range(n_labels)]
    pipe.moves.initialize_actions(pipe.moves.get_actions(entity_types=labels))
    pipe.set_output(pipe.moves.n_moves)
    model.initialize()
    draw_weights(pipe, rng)
    return pipe


def make_docs(
    pipe: ModernBertNER, n_docs: int, length: int, rng: np.random.Generator
) -> List[Doc]:
    """RETURNS (List[Doc]): Docs without annotation, with vectors."""
    docs = [Doc(pipe.vocab, words=["word"] * length) for _ in range(n_docs)]
    for doc in docs:
        doc.tensor = rng.normal(size=(length, WIDTH)).astype(np.float32)
    return docs


def share_in_entities(pipe: ModernBertNER, docs: List[Doc]) -> float:
    """RETURNS (float): Which share of the tokens is in an entity."""
    found = entities_of(pipe, docs, decoder.predict_entities(pipe, docs))
    return sum(end - start for _, start, end, _ in found) / sum(map(len, docs))


def entities_of(pipe: ModernBertNER, docs: List[Doc], found: Any) -> List[Any]:
    """RETURNS (List[Any]): The entities that would be set, whoever found them."""
    copies = [Doc(doc.vocab, words=[token.text for token in doc]) for doc in docs]
    pipe.set_annotations(copies, found)
    return [
        (i, ent.start, ent.end, ent.label)
        for i, doc in enumerate(copies)
        for ent in doc.ents
    ]


def timed(function: Callable[[], Any], repeats: int) -> float:
    """RETURNS (float): Seconds that a call takes, the median of some."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return median(times)


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value < 1:
        return f"{value:.0%}"
    return f"{value:,.0f}"


if __name__ == "__main__":
    typer.run(main)
