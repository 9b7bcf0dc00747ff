"""Docs → one vector for each spaCy token."""

from functools import partial
from typing import Any, Callable, List, Optional

from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.api import Model, chain
from thinc.types import Floats2d

from .encode import EncodedDocs


def modernbert_tok2vec(
    encode: Model[List[Doc], EncodedDocs], pool: Model[EncodedDocs, List[Floats2d]]
) -> Model[List[Doc], List[Floats2d]]:
    """Chain the two layers.

    encode (Model[List[Doc], EncodedDocs]): Docs to wordpiece vectors.
    pool (Model[EncodedDocs, List[Floats2d]]): Wordpiece vectors to token vectors.
    RETURNS (Model[List[Doc], List[Floats2d]]): `(n_tokens, width)` for each Doc.
    """
    model: Model[List[Doc], List[Floats2d]] = chain(encode, pool)
    model.init = show_no_text(model.init)
    return model


def show_no_text(init: Callable[..., Any]) -> Callable[..., Any]:
    """Have a model initialized by an empty Doc, whatever Docs are given.

    Thinc sends the sample that a model is initialized with through every layer, once
    for each chain it is in, only to see how wide the outputs are. spaCy's sample is
    ten whole documents; an empty one tells the same, and nothing is encoded.

    init (Callable[..., Any]): The `init` of a model of Docs.
    RETURNS (Callable[..., Any]): What to put in its place.
    """
    return partial(_init_by_empty_doc, init)


def _init_by_empty_doc(
    init: Callable[..., Any],
    model: Model,
    X: Optional[List[Doc]] = None,
    Y: Optional[Any] = None,
) -> None:
    init(model, X=[Doc(Vocab())], Y=Y)
