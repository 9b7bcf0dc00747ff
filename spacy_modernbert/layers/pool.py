"""Wordpiece vectors → one vector for each spaCy token."""

from typing import Any, Callable, List, Optional, Tuple, cast

from thinc.api import Model, Ops
from thinc.layers.reduce_mean import forward as forward_mean
from thinc.types import Floats2d, Ints1d, Ragged

from ..types import Floats, TokenRows
from .encode import EncodedDocs
from .unsaved import Unsaved

_GRADIENT = "gradient"


def pool_tokens(
    pooling: Model[Ragged, Floats2d], grad_factor: float
) -> Model[EncodedDocs, List[Floats2d]]:
    """Pool the wordpieces of each token into one vector.

    A token that no wordpiece covers gets zeros, and the pooling layer never sees it:
    most of Thinc's refuse to reduce nothing.

    pooling (Model[Ragged, Floats2d]): Makes one row of each item of a Ragged, such
        as `reduce_mean.v1`.
    grad_factor (float): Multiplies the gradient on its way to the encoder. 0 leaves
        the encoder as it is; `modernbert_tok2vec` then lets it predict only.
    RETURNS (Model[EncodedDocs, List[Floats2d]]): The layer. It gives `(n_tokens,
        width)` for each Doc, and a gradient for `EncodedDocs.vectors`.
    """
    return Model(
        "modernbert-pool",
        forward,
        init=init,
        layers=[pooling],
        attrs={_GRADIENT: Unsaved(grad_factor)},
    )


def pools_means(model: Model[EncodedDocs, Any]) -> bool:
    """RETURNS (bool): Whether a layer of `pool_tokens` takes the mean of the wordpieces
    of a token, as `Encoder.encode_tokens` does where the hidden state is.
    """
    return model.layers[0]._func is forward_mean


def grad_factor_of(model: Model[EncodedDocs, Any]) -> float:
    """RETURNS (float): What a layer of `pool_tokens` multiplies the gradient by."""
    factor: float = model.attrs[_GRADIENT].value
    return factor


def forward(
    model: Model[EncodedDocs, List[Floats2d]], encoded: EncodedDocs, is_train: bool
) -> Tuple[List[Floats2d], Callable[[List[Floats2d]], Floats]]:
    ops = model.ops
    output, backprop_rows = pool_rows(
        model, encoded.vectors, encoded.plan.rows, is_train
    )

    def backprop(d_outputs: List[Floats2d]) -> Floats:
        return backprop_rows(ops.flatten(d_outputs))

    # Lengths on the host, from which `unflatten` would only bring them back.
    doc_lengths = cast(Ints1d, encoded.plan.doc_lengths)
    return ops.unflatten(output, doc_lengths), backprop


def pool_rows(
    model: Model[EncodedDocs, Any], vectors: Floats, rows: TokenRows, is_train: bool
) -> Tuple[Floats2d, Callable[[Floats2d], Floats]]:
    """Pool the rows of each token.

    model (Model[EncodedDocs, Any]): The layer.
    vectors (Floats): `(total, width)`, the vectors of wordpieces.
    rows (TokenRows): The rows of each token.
    is_train (bool): Whether a gradient will arrive.
    RETURNS (Tuple[Floats2d, Callable[[Floats2d], Floats]]): One row for each token, and
        a callback that takes their gradient and gives that of the vectors.
    """
    ops = model.ops
    total, width = vectors.shape
    lengths = ops.asarray1i(cast(Ints1d, rows.lengths))
    covered = lengths > 0
    if rows.rows.size:
        gathered = cast(Floats2d, vectors[rows.rows])
        pieces = Ragged(ops.asarray2f(gathered), cast(Ints1d, lengths[covered]))
    else:
        pieces = _one_zero_row(ops, width)
    pooled, backprop_pooling = model.layers[0](pieces, is_train)
    output = ops.alloc2f(lengths.size, pooled.shape[1])
    output[covered] = pooled[: int(covered.sum())]

    def backprop(d_output: Floats2d) -> Floats:
        d_vectors = ops.alloc2f(total, width)
        if rows.rows.size:
            d_pieces = backprop_pooling(d_output[covered]).dataXd
            d_pieces = d_pieces * grad_factor_of(model)
            # What tokens share is summed.
            index = ops.asarray1i(cast(Ints1d, rows.rows))
            ops.scatter_add(d_vectors, index, d_pieces)
        return ops.to_numpy(d_vectors)

    return output, backprop


def init(
    model: Model[EncodedDocs, List[Floats2d]],
    X: Optional[EncodedDocs] = None,
    Y: Optional[Any] = None,
) -> None:
    sample = None if X is None else _one_zero_row(model.ops, X.vectors.shape[1])
    model.layers[0].initialize(X=sample)


def _one_zero_row(ops: Ops, width: int) -> Ragged:
    """Shows a pooling layer how wide its input is."""
    return Ragged(ops.alloc2f(1, width), ops.asarray1i([1]))
