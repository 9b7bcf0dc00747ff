"""spaCy pipelines that find entities, ours and spacy-transformers'."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional

from spacy.language import Language
from spacy.training import Example

from spacy_modernbert.types import Floats

from ..points import OURS, Peer

PIPELINES: Dict[str, str] = {
    OURS: "ours",
    "spacy-transformers": "stock",
}

# Fits into the shortest of windows, so that every pipeline sees it whole.
PROBE = " ".join(["The clerk of the harbour wrote down every name he was told."] * 6)


@dataclass(frozen=True)
class Pipeline:
    """A pipeline, initialized and not trained.

    nlp (Language): The pipeline.
    hidden (Callable[[str], Floats]): A text that fits into a window to the last hidden
        states of its wordpieces, `(length, width)`.
    limit (Optional[int]): The wordpieces of a document that it reads, from the first
        one on, and nothing of what comes after them; None if it reads all.
    """

    nlp: Language
    hidden: Callable[[str], Floats]
    limit: Optional[int] = None


def make_pipeline(peer: Peer, folder: Path, n_labels: int) -> Pipeline:
    """Make a pipeline.

    peer (Peer): Of what kind.
    folder (Path): The checkpoint of its encoder.
    n_labels (int): How many kinds of entities it tells apart.
    RETURNS (Pipeline): The pipeline.
    RAISES (Unavailable): If it cannot be run here.
    """
    module = importlib.import_module(f".{PIPELINES[peer.engine]}", __name__)
    pipeline: Pipeline = module.make(peer, folder, n_labels)
    return pipeline


def make_examples(nlp: Language, n_labels: int) -> List[Example]:
    """RETURNS (List[Example]): One for each label, to initialize a pipeline by."""
    return [
        Example.from_dict(
            nlp.make_doc("He wrote to Anna."), {"entities": [(12, 16, f"LABEL{i}")]}
        )
        for i in range(n_labels)
    ]
