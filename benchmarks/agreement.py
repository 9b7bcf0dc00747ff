"""Whether a trained pipeline finds the same entities on every backend.

    python -m benchmarks.agreement training/NAME/model-best corpus/NAME/test.spacy

The pipeline is loaded for each backend, precision and kind of weights that can run
here, and goes through the documents. The first row is torch on the CPU in float32; the
others are compared with it. Precisions that the processor does not have are computed
slowly, but with the same numbers. Prints a table and writes it as JSON.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Set, Tuple, cast

import typer
from spacy.language import Language
from spacy.scorer import Scorer
from spacy.training import Example
from spacy.util import load_config, load_model_from_config
from wasabi import msg

from spacy_modernbert.doc_files import read_docs
from spacy_modernbert.encoder.backend import BACKEND_VARIABLE
from spacy_modernbert.pipelines import PIPELINE_CONFIG, find_encoder_blocks

from .figures import RESULTS, write_figures
from .markdown import make_table

Quantization = Optional[Dict[str, int]]
Entities = Set[Tuple[int, int, str]]

GROUP = {"group_size": 64}
VARIANTS: List[Tuple[str, str, Quantization]] = [
    ("cpu", "float32", None),
    ("cpu", "bfloat16", None),
    ("cpu", "float32", {"bits": 8}),
    ("openvino", "float32", None),
    ("openvino", "bfloat16", None),
    ("openvino", "float32", {"bits": 8}),
    ("onnx", "float32", None),
    ("onnx", "float32", {"bits": 8}),
    ("mlx", "float32", None),
    ("mlx", "bfloat16", None),
    ("mlx", "float16", None),
    ("mlx", "float32", {"bits": 8, **GROUP}),
    ("mlx", "float32", {"bits": 4, **GROUP}),
    ("cuda", "float32", None),
    ("cuda", "bfloat16", None),
    ("mps", "float32", None),
]


@dataclass(frozen=True)
class Agreement:
    """How a variant did.

    backend, precision (str): The variant.
    quantization (Optional[Dict[str, int]]): Likewise.
    f (float): Micro-averaged F of exact entities, 0 to 100.
    points (float): How far that is from the F of the first variant.
    n_entities (int): How many entities it found.
    n_differing (int): How many only one of the two found, it or the first variant.
    n_documents_differing (int): In how many documents.
    """

    backend: str
    precision: str
    quantization: Quantization
    f: float
    points: float
    n_entities: int
    n_differing: int
    n_documents_differing: int


def main(
    pipeline: Path = typer.Argument(  # noqa: B008
        ..., help="Folder of a trained pipeline", exists=True, file_okay=False
    ),
    data: Path = typer.Argument(  # noqa: B008
        ..., help="A .spacy file with true entities", exists=True, dir_okay=False
    ),
    output: Optional[Path] = typer.Option(None, help="The JSON file to write"),  # noqa: B008
    only: Optional[str] = typer.Option(None, help="A backend to compare alone"),
) -> None:
    """Compare what a pipeline finds on each backend."""
    # The variable would win over each backend that is asked for.
    os.environ.pop(BACKEND_VARIABLE, None)
    if not find_encoder_blocks(load_config(pipeline / PIPELINE_CONFIG)):
        msg.fail(f"{pipeline} has no encoder that a backend runs.", exits=1)
    rows: List[Agreement] = []
    refused: List[str] = []
    reference: List[Entities] = []
    for backend, precision, quantization in VARIANTS:
        if rows and only not in (None, backend):
            continue
        name = f"{backend} {precision} {quantization or ''}".strip()
        try:
            nlp = load(pipeline, backend, precision, quantization)
        except (ValueError, ImportError) as error:
            refused.append(f"{name}: {error}")
            continue
        f, found = evaluate(nlp, data)
        reference = reference or found
        differing = [len(a ^ b) for a, b in zip(found, reference, strict=True)]
        rows.append(
            Agreement(
                backend,
                precision,
                quantization,
                round(f, 3),
                round(f - (rows[0].f if rows else f), 3),
                sum(map(len, found)),
                sum(differing),
                sum(n > 0 for n in differing),
            )
        )
        msg.text(f"{name}: F {f:.2f}, {sum(differing)} entities differ")
    path = output or RESULTS / f"agreement-{pipeline.parent.name}.json"
    write_figures(
        path,
        f"python -m benchmarks.agreement {pipeline} {data}",
        n_documents=len(reference),
        rows=[asdict(row) for row in rows],
        not_run=refused,
    )
    print(to_markdown(rows))
    for reason in refused:
        msg.text(reason)
    msg.good(f"Wrote {path}")


def load(
    folder: Path, backend: str, precision: str, quantization: Quantization
) -> Language:
    """RETURNS (Language): A saved pipeline, all of its encoders run in another way."""
    config = load_config(folder / PIPELINE_CONFIG)
    for block in find_encoder_blocks(config):
        settings = cast(Dict[str, Any], block.settings)
        settings.update(backend=backend, precision=precision, quantization=quantization)
    nlp = load_model_from_config(config)
    return nlp.from_disk(folder)


def evaluate(nlp: Language, data: Path) -> Tuple[float, List[Entities]]:
    """RETURNS (Tuple[float, List[Entities]]): F, 0 to 100, and each Doc's entities."""
    truth = read_docs(data, nlp.vocab)
    docs = list(nlp.pipe(doc.text for doc in truth))
    examples = [Example(*pair) for pair in zip(docs, truth, strict=True)]
    f = 100 * (Scorer(nlp).score(examples)["ents_f"] or 0.0)
    found = [
        {(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents} for doc in docs
    ]
    return f, found


def to_markdown(rows: List[Agreement]) -> str:
    """RETURNS (str): A table."""
    header = "backend, precision, weights, F, points, entities, differ, in docs"
    cells = [
        [
            row.backend,
            row.precision,
            f"{row.quantization['bits']} bits" if row.quantization else "",
            f"{row.f:.2f}",
            f"{row.points:+.2f}",
            str(row.n_entities),
            str(row.n_differing),
            str(row.n_documents_differing),
        ]
        for row in rows
    ]
    return "\n".join(make_table(header.split(", "), cells, words=(0, 1, 2)))


if __name__ == "__main__":
    typer.run(main)
