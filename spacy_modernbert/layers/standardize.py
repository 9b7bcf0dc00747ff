"""Vectors of tokens → the same, centred and scaled.

Most of what an encoder gives can be a single vector that all tokens share (88 % of the
squared norm, for `modernbert-mini`): a training step along it moves all tokens at once,
so that what tells tokens apart is learned slowly. See Mu and Viswanath 2018,
"All-but-the-Top".
"""

from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np
from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d

from .tok2vec import OneWord, Tok2Vec

MEAN, SCALE = "mean", "scale"

# How many tokens suffice to measure a mean and a deviation, and with how few of them
# nothing can be measured.
_ENOUGH, _LEAST = 2000, 50


def standardized(tok2vec: Tok2Vec) -> Tok2Vec:
    """Subtract the mean from each token vector, and divide the rest by its deviation.
    Both are measured in the Docs that the model is initialized with, are saved with the
    model, and are not trained. The vector of a token that no wordpiece covers stays
    zeros.

    tok2vec (Tok2Vec): `(n_tokens, width)` for each Doc.
    RETURNS (Tok2Vec): The same shapes.
    """
    return Model(
        "standardize",
        forward,
        init=init,
        dims={"nO": None},
        params={MEAN: None, SCALE: None},
        layers=[tok2vec],
    )


def forward(
    model: Tok2Vec, docs: List[Doc], is_train: bool
) -> Tuple[List[Floats2d], Callable[[List[Floats2d]], List[Doc]]]:
    # First the layer that says clearly if a pipeline was not initialized.
    vectors, backprop_vectors = model.layers[0](docs, is_train)
    mean, scale = model.get_param(MEAN), model.get_param(SCALE)

    def standardize(rows: Floats2d) -> Floats2d:
        found = rows - mean
        found *= scale
        found[~rows.any(axis=1)] = 0
        return found

    def backprop(d_outputs: List[Floats2d]) -> List[Doc]:
        # Where there is no wordpiece, there is nothing that learns.
        return backprop_vectors([each * scale for each in d_outputs])

    return [standardize(each) for each in vectors], backprop


def init(
    model: Tok2Vec, X: Optional[List[Doc]] = None, Y: Optional[Any] = None
) -> None:
    tok2vec = model.layers[0]
    tok2vec.initialize(X=X)
    width = tok2vec.get_dim("nO")
    model.set_dim("nO", width)
    sample = _sample(X.given if isinstance(X, OneWord) else X or [])
    vectors = tok2vec.predict(sample) if sample else []
    rows = [model.ops.to_numpy(each) for each in vectors]
    mean, scale = _measure(np.concatenate([np.zeros((0, width)), *rows]))
    model.set_param(MEAN, model.ops.asarray1f(mean))
    model.set_param(SCALE, model.ops.asarray1f(scale))


def _sample(docs: Sequence[Doc]) -> List[Doc]:
    """The beginning of each Doc, equally long."""
    docs = [doc for doc in docs if len(doc)]
    share = -(-_ENOUGH // max(1, len(docs)))
    return [doc if len(doc) <= share else doc[:share].as_doc() for doc in docs]


def _measure(rows: Any) -> Tuple[Any, Any]:
    """RETURNS (Tuple[Any, Any]): `(width,)` each: the mean, and what to multiply by. If
    there is too little to measure, 0 and 1: vectors stay as they are.
    """
    rows = rows[rows.any(axis=1)]
    deviation = rows.std(axis=0) if len(rows) >= _LEAST else np.zeros(rows.shape[1])
    if not deviation.any():
        return np.zeros_like(deviation), np.ones_like(deviation)
    # A dimension that hardly varies in the sample must not be blown up elsewhere.
    least = 0.1 * np.sqrt(np.mean(deviation**2))
    return rows.mean(axis=0), 1 / np.maximum(deviation, least)
