"""What `nlp.pipe` costs beside the encoder, stage by stage.

    python -m spacy_modernbert.corpora litbank corpus/litbank
    taskset -c 0 python -m benchmarks.stages corpus/litbank \\
        --tokenizer assets/modernbert-mini/tokenizer.json

An encoder that answers at once, with numbers drawn beforehand, stands in for a real
one; everything else is as it is for users: texts in, Docs with entities out, one
thread. The times of the stages are those of the median run. The first run
shows what a text with words never seen before costs. Prints a table and writes JSON.
"""

from . import one_thread  # noqa: F401

# isort: split

import time
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Dict, List, cast

import numpy as np
import spacy
import typer
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from wasabi import msg

from spacy_modernbert import decoder
from spacy_modernbert.components import ModernBertNER
from spacy_modernbert.doc_files import read_docs
from spacy_modernbert.documents import wordpieces
from spacy_modernbert.encoder.checkpoint import save_checkpoint
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.layers import encode, plan, tok2vec
from spacy_modernbert.layers.encode import find_layers, get_shim

from .figures import output_option, write_figures
from .markdown import make_table
from .pipelines.fake import make_instant
from .recognizer import calibrate, draw_weights, share_in_entities

WIDTH = 768
LABELS = (6, 18)

CORPUS = typer.Argument(
    ..., help="Folder of .spacy files", exists=True, file_okay=False
)
TOKENIZER = typer.Option(..., help="A tokenizer.json", exists=True, dir_okay=False)


def main(
    corpus: Path = CORPUS,
    tokenizer: Path = TOKENIZER,
    repeats: int = 5,
    output: Path = output_option("stages.json"),  # noqa: B008
) -> None:
    """Time the stages for 6 and 18 labels, print a table and write the results."""
    texts = read_texts(corpus)
    rows = [measure(texts, tokenizer, n_labels, repeats) for n_labels in LABELS]
    write_figures(
        output,
        f"python -m benchmarks.stages {corpus} --tokenizer {tokenizer} "
        f"--repeats {repeats}",
        workload={
            "corpus": corpus.name,
            "docs": len(texts),
            "tokens": rows[0]["tokens"],
            "width": WIDTH,
            "threads": 1,
            "repeats": repeats,
        },
        runs=rows,
    )
    print(to_markdown(rows))
    msg.good(f"Wrote {output}")


def to_markdown(rows: List[Dict[str, Any]]) -> str:
    """RETURNS (str): A table with a column for each number of labels."""
    header = ["µs a token", *(f"{row['labels']} labels" for row in rows)]
    cells = [
        [stage, *(f"{row['microseconds'][stage]:.2f}" for row in rows)]
        for stage in rows[0]["microseconds"]
    ]
    for name in ("tokens_per_second", "first_run", "in_entities"):
        form = ".0%" if name == "in_entities" else ",.0f"
        values = (format(row[name], form) for row in rows)
        cells.append([name.replace("_", " "), *values])
    return "\n".join(make_table(header, cells))


def measure(
    texts: List[str], tokenizer: Path, n_labels: int, repeats: int
) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): Tokens per second, and microseconds of each stage."""
    nlp = make_pipeline(tokenizer, n_labels)
    share = calibrate(_recognizer(nlp), lambda: share_in_entities(nlp, texts[:3]))
    with Stopwatch(nlp) as watch:
        runs = [watch.run(lambda: [len(doc) for doc in nlp.pipe(texts)])]
        n_tokens = sum(runs[0].result)
        runs += [
            watch.run(lambda: [len(doc) for doc in nlp.pipe(texts)])
            for _ in range(repeats)
        ]
    first, *others = runs
    middle = sorted(others, key=lambda run: run.seconds)[len(others) // 2]
    return {
        "labels": n_labels,
        "tokens": n_tokens,
        "in_entities": share,
        "tokens_per_second": n_tokens / middle.seconds,
        "first_run": n_tokens / first.seconds,
        "microseconds": {
            stage: 1e6 * seconds / n_tokens for stage, seconds in middle.stages.items()
        },
    }


@dataclass(frozen=True)
class Run:
    """One call.

    result (Any): What it returned.
    seconds (float): How long it took.
    stages (Dict[str, float]): The seconds of each stage.
    """

    result: Any
    seconds: float
    stages: Dict[str, float]


class Stopwatch:
    """Within, the functions of each stage are timed. The time that one stage spends in
    another counts only for the inner one.
    """

    def __init__(self, nlp: Language):
        encoder = get_shim(find_layers(_recognizer(nlp).model)[0])
        self._functions = [
            ("spaCy's tokenizer", nlp, "make_doc"),
            ("wordpiece tokenizer", wordpieces.WordpieceTokenizer, "__call__"),
            ("alignment", wordpieces, "trim"),
            ("alignment", plan, "align"),
            ("alignment", plan, "token_offsets"),
            ("text, windows, packing", encode, "make_plan"),
            ("pooling", encoder.loaded.encoder, "encode_tokens"),
            ("passes", tok2vec, "predict_vectors"),
            ("projection of token vectors", decoder, "hidden_vectors"),
            ("decoding", decoder, "predict_entities"),
            ("setting entities", decoder, "set_entities"),
        ]
        self._stages: Dict[str, float] = {}
        self._started: List[float] = []
        self._originals: List[Any] = []

    def __enter__(self) -> "Stopwatch":
        for stage, owner, name in self._functions:
            original = getattr(owner, name)
            self._originals.append((owner, name, original))
            setattr(owner, name, self._timed(stage, original))
        return self

    def __exit__(self, *error: Any) -> None:
        for owner, name, original in self._originals:
            setattr(owner, name, original)

    def run(self, function: Callable[[], Any]) -> Run:
        """RETURNS (Run): What a call costs."""
        self._stages = {stage: 0.0 for stage, _, _ in self._functions}
        start = time.perf_counter()
        result = function()
        seconds = time.perf_counter() - start
        rest = seconds - sum(self._stages.values())
        return Run(result, seconds, {**self._stages, "everything else": rest})

    def _timed(self, stage: str, function: Callable) -> Callable:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._started.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds = time.perf_counter() - start
                self._stages[stage] += seconds - self._started.pop()
                if self._started:
                    self._started[-1] += seconds

        return timed


def make_pipeline(tokenizer: Path, n_labels: int) -> Language:
    """RETURNS (Language): `modernbert_ner` as by default, with random weights."""
    nlp = spacy.blank("en")
    words = [f"w{i}" for i in range(n_labels)]
    entities = {"entities": [f"U-LABEL{i}" for i in range(n_labels)]}
    example = Example.from_dict(Doc(nlp.vocab, words=words), entities)
    with TemporaryDirectory() as name:
        folder = Path(name) / "encoder"
        config = ModernBertConfig.from_dict(
            {
                "model_type": "modernbert",
                "vocab_size": 50368,
                "hidden_size": WIDTH,
                "intermediate_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 12,
            }
        )
        text = tokenizer.read_text(encoding="utf8")
        save_checkpoint(folder, config, init_tensors(config, 0), text)
        settings = {"name": str(folder), "backend": "cpu"}
        nlp.add_pipe("modernbert_ner", config={"model": {"tok2vec": settings}})
        nlp.initialize(lambda: [example])
    ner = _recognizer(nlp)
    draw_weights(ner, np.random.default_rng(0))
    shim = get_shim(find_layers(ner.model)[0])
    make_instant(shim.loaded.encoder, shim.settings.max_batch_wordpieces)
    return nlp


def _recognizer(nlp: Language) -> ModernBertNER:
    return cast(ModernBertNER, nlp.get_pipe("modernbert_ner"))


def read_texts(corpus: Path) -> List[str]:
    """RETURNS (List[str]): The texts of all files of a corpus."""
    paths = sorted(corpus.glob("*.spacy"))
    return [doc.text for path in paths for doc in read_docs(path)]


if __name__ == "__main__":
    typer.run(main)
