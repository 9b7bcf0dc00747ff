"""The adapter to spacy-transformers: what its `transformer` component hands on.

A `FullTransformerBatch` holds one padded row of wordpieces for each window, and says
which of them belong to each token. Nothing else in this package is padded. Each token
is aligned to the one window whose vectors are used for it, and a token without
wordpieces to a row of zeros, so that any pooling layer can reduce it.
"""

from typing import Any, Callable, Dict, Iterator, List, Mapping, Tuple, cast

import numpy as np
import numpy.typing as npt
from spacy.tokens import Doc
from spacy_transformers.data_classes import (
    FullTransformerBatch,
    TransformerData,
    WordpieceBatch,
)
from thinc.api import Model, xp2torch
from thinc.types import Floats2d, Floats3d, Ints1d, Ints2d, Ragged
from transformers.modeling_outputs import BaseModelOutput

from ..documents.wordpieces import WordpieceTokenizer
from ..errors import Errors
from ..span_getters import SpanGetter
from . import encode
from .encode import get_shim
from .plan import Plan
from .shim import EncoderShim

# By how many tokens Docs in a group may differ in length, even if all are short.
_SHORT = 32


def modernbert_batch(
    shim: EncoderShim, get_spans: SpanGetter
) -> Model[List[Doc], FullTransformerBatch]:
    """The model of a `transformer` component.

    shim (EncoderShim): Owns the encoder.
    get_spans (SpanGetter): Where to cut Docs.
    RETURNS (Model[List[Doc], FullTransformerBatch]): The layer. Its `nO` is the width
        of the encoder.
    """
    return Model(
        "modernbert-batch",
        forward,
        init=encode.init,
        dims={"nO": None},
        shims=[shim],
        attrs={
            "get_spans": get_spans,
            "replace_listener": replace_listener,
            "replace_listener_cfg": replace_listener_cfg,
        },
    )


def forward(
    model: Model[List[Doc], Any], docs: List[Doc], is_train: bool
) -> Tuple[FullTransformerBatch, Callable[[FullTransformerBatch], List[Doc]]]:
    encoded, backprop_vectors = encode.forward(model, docs, is_train)
    _check_ends(encoded.plan)
    filled = _filled(encoded.plan)
    padded = np.zeros((*filled.shape, encoded.vectors.shape[1]), np.float32)
    padded[filled] = encoded.vectors
    hidden: Any = xp2torch(model.ops.asarray3f(cast(Floats3d, padded)))
    batch = FullTransformerBatch(
        spans=[
            [doc[window.token_start : window.token_end] for window in windows]
            for doc, windows in zip(docs, encoded.plan.windows, strict=True)
        ],
        wordpieces=_wordpieces(encoded.plan, filled, get_shim(model).loaded.tokenizer),
        model_output=BaseModelOutput(last_hidden_state=hidden),
        align=_align(encoded.plan, filled),
    )

    def backprop(d_batch: FullTransformerBatch) -> List[Doc]:
        (d_padded,) = d_batch.model_output.to_tuple()
        return backprop_vectors(d_padded.detach().cpu().numpy()[filled])

    return batch, backprop


def replace_listener(
    model: Model[List[Doc], FullTransformerBatch],
) -> Model[List[Doc], List[TransformerData]]:
    """What `nlp.replace_listeners` puts in the place of a listener: the model of the
    component, with each Doc's part of its output.

    Together with the pooling layer after it, this has the same tree of layers as
    `spacy-modernbert.Tok2VecModernBert.v1`, so that what is saved with one is loaded
    with the other.

    model (Model[List[Doc], FullTransformerBatch]): A copy of the component's model.
    RETURNS (Model[List[Doc], List[TransformerData]]): The layer.
    """
    return Model(
        "modernbert-docs",
        forward_docs,
        init=encode.init,
        dims={"nO": model.maybe_get_dim("nO")},
        shims=model.shims,
        attrs={"get_spans": model.attrs["get_spans"]},
    )


def forward_docs(
    model: Model[List[Doc], Any], docs: List[Doc], is_train: bool
) -> Tuple[List[TransformerData], Callable[[List[TransformerData]], List[Doc]]]:
    if not is_train:
        return _predict_docs(model, docs), lambda d_outputs: docs
    batch, backprop_batch = forward(model, docs, is_train)

    def backprop(d_outputs: List[TransformerData]) -> List[Doc]:
        # Only Docs with tokens have a gradient.
        tensors: List[Any] = [list(d_output.tensors) for d_output in d_outputs]
        return backprop_batch(batch.unsplit_by_doc(tensors)) if tensors else docs

    return batch.doc_data, backprop


def _predict_docs(
    model: Model[List[Doc], Any], docs: List[Doc]
) -> List[TransformerData]:
    """Predict Docs of similar lengths together: each row of a batch is padded to its
    longest, and a pipe hands over many Docs at once, of any length.
    """
    found: Dict[int, TransformerData] = {}
    for numbers in _group_alike([len(doc) for doc in docs]):
        batch, _ = forward(model, [docs[i] for i in numbers], False)
        found.update(zip(numbers, batch.doc_data, strict=True))
    return [found[i] for i in range(len(docs))]


def _group_alike(lengths: List[int]) -> Iterator[List[int]]:
    """RETURNS (Iterator[List[int]]): The indices in groups, shortest first, such that
    the longest of a group is at most about twice as long as its shortest.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    start = 0
    for i, number in enumerate(order):
        if lengths[number] > 2 * lengths[order[start]] + _SHORT:
            yield order[start:i]
            start = i
    if order:
        yield order[start:]


def replace_listener_cfg(
    model_cfg: Dict[str, Any], listener_cfg: Dict[str, Any]
) -> Dict[str, Any]:
    """The config that belongs to `replace_listener`.

    model_cfg (Dict[str, Any]): The config of the component's model.
    listener_cfg (Dict[str, Any]): The config of the tok2vec that listens: the listener,
        or layers of which it is one.
    RETURNS (Dict[str, Any]): The config of an inline model.
    RAISES (ValueError): If listeners in it differ in pooling or `grad_factor`.
    """
    listeners = [
        {key: block[key] for key in ("pooling", "grad_factor") if key in block}
        for block in _find_listeners(listener_cfg)
    ]
    if not listeners:
        return dict(model_cfg)
    if any(listener != listeners[0] for listener in listeners):
        raise ValueError(Errors.LISTENERS_DIFFER)
    inline = "spacy-modernbert.Tok2VecModernBert.v1"
    return {**model_cfg, "@architectures": inline, **listeners[0]}


def _find_listeners(block: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "TransformerListener" in block.get("@architectures", ""):
        yield block
    for value in block.values():
        if isinstance(value, dict):
            yield from _find_listeners(value)


def _check_ends(plan: Plan) -> None:
    """`FullTransformerBatch` takes the tokens from the start of a Doc's first span to
    the end of its last one for those of the Doc.
    """
    for windows, n_tokens in zip(plan.windows, plan.doc_lengths, strict=True):
        if not windows:
            continue
        start, end = windows[0].token_start, windows[-1].token_end
        if start > 0 or end < n_tokens:
            raise ValueError(
                Errors.SPANS_END_WITHIN.format(n_tokens=n_tokens, start=start, end=end)
            )


def _filled(plan: Plan) -> npt.NDArray[np.bool_]:
    """RETURNS (NDArray): `(n_windows, longest)` bool, where there is a wordpiece. Where
    a token has none, the last column is one of padding.
    """
    lengths = plan.window_lengths
    longest = lengths.max(initial=0) + int((plan.rows.lengths == 0).any())
    return np.arange(longest) < lengths[:, None]


def _align(plan: Plan, filled: npt.NDArray[np.bool_]) -> Ragged:
    """RETURNS (Ragged): For each token, where its wordpieces are, counted over the
    padded windows laid end to end.
    """
    longest = filled.shape[1]
    lengths = plan.rows.lengths
    places = np.flatnonzero(filled)[plan.rows.rows]
    # The last place of its Doc's first window, for a token that has none.
    first_windows = np.cumsum([0, *(len(windows) for windows in plan.windows)])[:-1]
    zeros = np.repeat(first_windows, plan.doc_lengths) * longest + longest - 1
    bare = lengths == 0
    places = np.insert(places, plan.rows.starts[bare], zeros[bare])
    return Ragged(
        cast(Ints1d, places.astype(np.int32)),
        cast(Ints1d, np.maximum(lengths, 1).astype(np.int32)),
    )


def _wordpieces(
    plan: Plan, filled: npt.NDArray[np.bool_], tokenizer: WordpieceTokenizer
) -> WordpieceBatch:
    ids = np.zeros(filled.shape, np.int64)
    ids[filled] = plan.ids
    return WordpieceBatch(
        strings=[
            tokenizer.strings(row[:length])
            for row, length in zip(ids, plan.window_lengths, strict=True)
        ],
        input_ids=cast(Ints2d, ids),
        attention_mask=cast(Floats2d, filled.astype(np.float32)),
        lengths=plan.window_lengths.tolist(),
        token_type_ids=None,
    )
