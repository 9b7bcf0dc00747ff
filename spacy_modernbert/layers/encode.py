"""Docs → wordpiece vectors."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, cast

import numpy as np
import numpy.typing as npt
from spacy.tokens import Doc
from thinc.api import Model

from ..encoder.backend import Encoder
from ..errors import Errors
from ..span_getters import LongContextSpans
from ..types import PackedBatch
from .doc_vectors import note_doc_vectors
from .forks import run_single_threaded_if_forked
from .plan import Plan, SpanGetter, make_plan
from .shim import EncoderShim

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EncodedDocs:
    """What the encoder makes of some Docs.

    plan (Plan): The windows, and where each token's wordpieces are.
    vectors (Floats): `(plan.total, width)` float32, the vectors of the wordpieces of
        all windows, special ones included.
    """

    plan: Plan
    vectors: Floats


def encode_docs(
    shim: EncoderShim, get_spans: SpanGetter
) -> Model[List[Doc], EncodedDocs]:
    """Run Docs through the encoder, in windows and within the budget of a pass.

    No pass holds more than the shim's `max_batch_wordpieces`, in training neither:
    see `encode_batches`.

    shim (EncoderShim): Owns the encoder.
    get_spans (SpanGetter): Where to cut Docs.
    RETURNS (Model[List[Doc], EncodedDocs]): The layer. Its `nO` is the width of the
        encoder; the gradient that it takes is one for `EncodedDocs.vectors`.
    """
    return Model(
        "modernbert-encode",
        forward,
        init=init,
        dims={"nO": None},
        shims=[shim],
        attrs={"get_spans": get_spans},
    )


def forward(
    model: Model[List[Doc], EncodedDocs], docs: List[Doc], is_train: bool
) -> Tuple[EncodedDocs, Callable[[Floats], List[Doc]]]:
    run_single_threaded_if_forked()
    bind(model)
    shim = get_shim(model)
    loaded = shim.to_train() if is_train else shim.loaded
    plan = make_plan(
        docs,
        loaded.tokenizer,
        model.attrs["get_spans"],
        loaded.encoder.config.max_wordpieces,
        shim.settings.max_batch_wordpieces,
    )
    if is_train:
        shim.expect_gradient()
        shim.trained_wordpieces += plan.total
    vectors, backprop_batches = encode_batches(loaded.encoder, plan.batches, is_train)
    if not is_train:
        note_doc_vectors(docs, plan, vectors, loaded)

    def backprop(d_vectors: Floats) -> List[Doc]:
        backprop_batches(d_vectors)
        shim.gradient_came()
        return docs

    return EncodedDocs(plan, vectors), backprop


def init(
    model: Model[List[Doc], Any],
    X: Optional[List[Doc]] = None,
    Y: Optional[Any] = None,
) -> None:
    """Get the encoder; its config has the width, so nothing is encoded."""
    get_shim(model).start()
    bind(model)


def bind(model: Model[List[Doc], Any]) -> None:
    """Check that a layer and its encoder fit together, and take the encoder's width.

    model (Model[List[Doc], Any]): A layer with a dimension `nO` and an attribute
        `get_spans`, whose shim has an encoder.
    RAISES (ValueError): If there is no encoder, if windows are longer than it takes
        or than a pass holds, or if the layer was trained for another width.
    """
    shim = get_shim(model)
    loaded = shim.loaded
    window = limit = loaded.encoder.config.max_wordpieces
    get_spans = model.attrs["get_spans"]
    if isinstance(get_spans, LongContextSpans):
        get_spans.bind(loaded.tokenizer, limit)
        window = get_spans.window
    if shim.settings.max_batch_wordpieces < window:
        raise ValueError(
            Errors.BATCH_UNDER_WINDOW.format(
                value=shim.settings.max_batch_wordpieces, window=window
            )
        )
    width = loaded.encoder.config.hidden_size
    if model.has_dim("nO") and model.get_dim("nO") != width:
        raise ValueError(
            Errors.ENCODER_OTHER_WIDTH.format(found=width, wanted=model.get_dim("nO"))
        )
    model.set_dim("nO", width)


def get_shim(layer: Model) -> EncoderShim:
    """RETURNS (EncoderShim): The shim of a layer that has an encoder."""
    return cast(EncoderShim, layer.shims[0])


def find_layers(model: Model) -> List[Model]:
    """The layers of a model that have an encoder.

    model (Model): Any Thinc model.
    RETURNS (List[Model]): The layers, each with one shim, an `EncoderShim`.
    """
    return [
        node
        for node in model.walk()
        if any(isinstance(shim, EncoderShim) for shim in node.shims)
    ]


def encode_batches(
    encoder: Encoder, batches: Sequence[PackedBatch], is_train: bool
) -> Tuple[Floats, Callable[[Floats], None]]:
    """Encode batches one by one.

    What a pass must remember for its gradient is many times its output, so in
    training it is kept for one batch only, the last. The others are encoded again
    when the gradient arrives. One batch thus costs nothing extra, and more than one
    never need more memory than one. (Not so with dropout, which would differ the
    second time. ModernBERT as published has none.)

    encoder (Encoder): The encoder.
    batches (Sequence[PackedBatch]): The batches, maybe none.
    is_train (bool): Whether a gradient will arrive.
    RETURNS (Tuple[Floats, Callable[[Floats], None]]): `(total, width)` the outputs
        end to end, and a callback that takes their gradient and adds to those of the
        encoder's weights.
    """
    config = encoder.config
    drops = config.attention_dropout or config.embedding_dropout or config.mlp_dropout
    outputs = [np.zeros((0, config.hidden_size), np.float32)]
    backprops: Dict[int, Callable[[Floats], None]] = {}
    for i, batch in enumerate(batches):
        if is_train and (drops or i == len(batches) - 1):
            output, backprops[i] = encoder.encode_train(batch)
        else:
            output = encoder.encode(batch)
        outputs.append(output)

    def backprop(d_outputs: Floats) -> None:
        end = d_outputs.shape[0]
        for i, batch in reversed(list(enumerate(batches))):
            start = end - batch.total
            d_output = d_outputs[start:end]
            backprop_batch = backprops.pop(i, None)
            # A gradient of zeros teaches nothing.
            if d_output.any():
                if backprop_batch is None:
                    _, backprop_batch = encoder.encode_train(batch)
                backprop_batch(d_output)
            end = start

    return np.concatenate(outputs), backprop
