"""Docs → wordpiece vectors."""

from dataclasses import dataclass
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple, cast

from spacy.language import Language
from spacy.tokens import Doc
from thinc.api import Model

from ..errors import Errors
from ..span_getters import SpanGetter, check_window
from ..types import Floats
from .passes import encode_batches
from .plan import Plan, make_plan
from .shim import EncoderShim
from .workers import run_single_threaded_if_worker


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

    No pass holds more than the shim's `max_batch_wordpieces`, not even in training:
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
    shim = get_shim(model)
    if is_train:
        shim.to_train()
    plan = plan_docs(model, docs)
    if is_train:
        shim.expect_gradient()
        shim.trained_wordpieces += plan.total
    vectors, backprop_batches = encode_batches(
        shim.loaded.encoder, plan.batches, shim.budget, is_train
    )

    def backprop(d_vectors: Floats) -> List[Doc]:
        backprop_batches(d_vectors)
        shim.gradient_came()
        return docs

    return EncodedDocs(plan, vectors), backprop


def plan_docs(model: Model[List[Doc], Any], docs: Sequence[Doc]) -> Plan:
    """Tokenize Docs and plan the passes, without making them.

    model (Model[List[Doc], Any]): A layer that has an encoder.
    docs (Sequence[Doc]): The Docs.
    RETURNS (Plan): The plan.
    """
    run_single_threaded_if_worker()
    bind(model)
    shim = get_shim(model)
    limit = shim.loaded.encoder.config.max_wordpieces
    return make_plan(
        docs,
        shim.loaded.tokenizer,
        model.attrs["get_spans"],
        min(limit, shim.settings.max_batch_wordpieces),
        shim.budget.wordpieces,
    )


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
    config = shim.loaded.encoder.config
    check_window(
        model.attrs["get_spans"],
        config.max_wordpieces,
        shim.settings.max_batch_wordpieces,
    )
    width = config.hidden_size
    if model.has_dim("nO") and model.get_dim("nO") != width:
        raise ValueError(
            Errors.ENCODER_OTHER_WIDTH.format(found=width, wanted=model.get_dim("nO"))
        )
    model.set_dim("nO", width)


def get_shim(layer: Model) -> EncoderShim:
    """RETURNS (EncoderShim): The shim of a layer that has an encoder."""
    return cast(EncoderShim, layer.shims[0])


def find_in_pipeline(nlp: Language) -> Iterator[Tuple[str, Model]]:
    """The layers of a pipeline that have an encoder.

    nlp (Language): The pipeline.
    YIELDS (Tuple[str, Model]): The name of the component, and the layer.
    """
    for name, pipe in nlp.pipeline:
        model = getattr(pipe, "model", None)
        if isinstance(model, Model):
            for layer in find_layers(model):
                yield name, layer


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
