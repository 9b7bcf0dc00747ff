"""Docs → one vector for each spaCy token."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Callable, List, Optional, Sequence, Tuple, cast

from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.api import Model
from thinc.layers.chain import forward as forward_chain
from thinc.layers.chain import init as init_chain
from thinc.types import Floats2d

from ..errors import Errors
from ..types import Floats, PackedBatch, TokenRows
from .encode import EncodedDocs, get_shim, plan_docs
from .kept import KeptVectors
from .passes import PoolPass, pool_passes
from .plan import Plan
from .pool import grad_factor_of, pool_rows, pools_means
from .unsaved import Unsaved

# Docs to `(n_tokens, width)` for each.
Tok2Vec = Model[List[Doc], List[Floats2d]]

KEPT = "kept"


@dataclass(frozen=True)
class DocVectors:
    """What an encoder says of some Docs.

    tokens (List[Floats2d]): `(n_tokens, width)` for each Doc.
    docs (List[Floats]): `(hidden_size,)` for each Doc; empty if they were not asked
        for.
    """

    tokens: List[Floats2d]
    docs: List[Floats] = field(default_factory=list)


class EncodedDocList(List[Doc]):
    """Docs whose vectors have been made already (`layers.ahead`), for a model that
    takes Docs.

    vectors (DocVectors): Their vectors.
    """

    def __init__(self, docs: Sequence[Doc], vectors: DocVectors):
        super().__init__(docs)
        self.vectors = vectors


# Tells which layers are those of `modernbert_tok2vec`. A name would not: loading gives
# a layer the name of the one that was saved.
_MARK = "modernbert_tok2vec"


class OneWord(List[Doc]):
    """A Doc of one word that `modernbert_tok2vec` does not read: its vector is zeros.
    It has the vocab of the Docs given, in which layers of others may look for word
    vectors.

    given (Sequence[Doc]): The Docs in whose place it stands.
    """

    def __init__(self, given: Sequence[Doc]):
        vocab = given[0].vocab if given else Vocab()
        # A word that the vocab has already.
        word = next((token.text for doc in given for token in doc), "word")
        super().__init__([Doc(vocab, words=[word])])
        self.given = given


def modernbert_tok2vec(
    encode: Model[List[Doc], EncodedDocs], pool: Model[EncodedDocs, List[Floats2d]]
) -> Tok2Vec:
    """Chain the two layers. In prediction, each pass is pooled as soon as it is made,
    so that the wordpiece vectors of one pass only are held.

    encode (Model[List[Doc], EncodedDocs]): Docs to wordpiece vectors.
    pool (Model[EncodedDocs, List[Floats2d]]): Wordpiece vectors to token vectors.
    RETURNS (Tok2Vec): `(n_tokens, width)` for each Doc.
    """
    return Model(
        "modernbert-tok2vec",
        forward,
        init=init,
        dims={"nO": None},
        layers=[encode, pool],
        attrs={_MARK: Unsaved(True)},
    )


def forward(
    model: Tok2Vec, docs: List[Doc], is_train: bool
) -> Tuple[List[Floats2d], Callable[[List[Floats2d]], List[Doc]]]:
    if is_train:
        return _train(model, docs)
    return _predict(model, docs), lambda d_vectors: docs


def _predict(model: Tok2Vec, docs: List[Doc]) -> List[Floats2d]:
    encode = model.layers[0]
    if isinstance(docs, OneWord):
        return [model.ops.alloc2f(1, model.get_dim("nO"))]
    if isinstance(docs, EncodedDocList):
        return docs.vectors.tokens
    if recalls(model):
        return _recall(model, docs, _plan_each(encode, docs))
    return _make(model, plan_docs(encode, docs))


def _train(
    model: Tok2Vec, docs: List[Doc]
) -> Tuple[List[Floats2d], Callable[[List[Floats2d]], List[Doc]]]:
    encode, pool = model.layers
    if grad_factor_of(pool):
        return forward_chain(model, docs, True)
    # No gradient reaches the encoder: it predicts, which any encoder can.
    if KEPT in model.attrs:
        plans = _plan_each(encode, docs)
        get_shim(encode).trained_wordpieces += sum(plan.total for plan in plans)
        return _recall(model, docs, plans), lambda d_vectors: docs
    if any(map(_differs_in_training, pool.walk())):
        return _train_pooling(encode, pool, docs)
    plan = plan_docs(encode, docs)
    get_shim(encode).trained_wordpieces += plan.total
    return _make(model, plan), lambda d_vectors: docs


def _differs_in_training(node: Model) -> bool:
    """RETURNS (bool): Whether a layer learns something, or drops something out."""
    return bool(node.param_names) or "dropout_rate" in node.attrs


def _train_pooling(
    encode: Model[List[Doc], EncodedDocs],
    pool: Model[EncodedDocs, List[Floats2d]],
    docs: List[Doc],
) -> Tuple[List[Floats2d], Callable[[List[Floats2d]], List[Doc]]]:
    encoded, _ = encode(docs, False)
    get_shim(encode).trained_wordpieces += encoded.plan.total
    vectors, backprop_pooling = pool(encoded, True)

    def backprop(d_vectors: List[Floats2d]) -> List[Doc]:
        backprop_pooling(d_vectors)
        return docs

    return vectors, backprop


def _make(model: Tok2Vec, plan: Plan) -> List[Floats2d]:
    found = predict_vectors(model, plan)
    # Copies, since Docs may keep them, as spaCy's `tok2vec` sets `doc.tensor`: a view
    # would keep all of a pass, which is page-locked memory with a GPU.
    return [rows.copy() for rows in found.tokens]


def recalls(model: Tok2Vec) -> bool:
    """Whether a model predicts by the vectors that it keeps, too. Then it is being
    trained, or was in this process, and what it predicts is most likely the development
    data, time after time.

    model (Tok2Vec): A model of `modernbert_tok2vec`.
    RETURNS (bool): Whether it keeps vectors, and has some.
    """
    kept: Optional[KeptVectors] = model.attrs.get(KEPT)
    return kept is not None and kept.n_bytes > 0


def _plan_each(encode: Model[List[Doc], EncodedDocs], docs: List[Doc]) -> List[Plan]:
    # One by one: the passes of several Docs would depend on which are together.
    return [plan_docs(encode, [doc]) for doc in docs]


def _recall(model: Tok2Vec, docs: List[Doc], plans: List[Plan]) -> List[Floats2d]:
    """Get vectors where they are kept: what was encoded before is not encoded again."""
    encode = model.layers[0]
    kept: KeptVectors = model.attrs[KEPT]

    def make(missing: List[int]) -> List[Floats]:
        plan = plan_docs(encode, [docs[i] for i in missing])
        found = predict_vectors(model, plan)
        # Copies, as in `_make`.
        return [model.ops.to_numpy(rows).copy() for rows in found.tokens]

    vectors = kept.recall(get_shim(encode).loaded.encoder, plans, make)
    return [model.ops.asarray2f(cast(Floats2d, rows)) for rows in vectors]


def predict_vectors(model: Tok2Vec, plan: Plan) -> DocVectors:
    """Make the passes of a plan. This needs no Docs, so that it can be done in another
    thread.

    model (Tok2Vec): A model of `modernbert_tok2vec`.
    plan (Plan): The plan of some Docs.
    RETURNS (DocVectors): The vectors of the tokens.
    """
    encode, pool = model.layers
    shim = get_shim(encode)
    encoder = shim.loaded.encoder

    def pool_pass(batch: PackedBatch, rows: TokenRows, start: int) -> Floats:
        if pools_means(pool):
            return encoder.encode_tokens(batch, rows)
        pooled, _ = pool_rows(pool, encoder.encode(batch), rows, False)
        return model.ops.to_numpy(pooled)

    return run_plan(model, plan, pool_pass)


def run_plan(model: Tok2Vec, plan: Plan, pool_pass: PoolPass) -> DocVectors:
    """Make the passes of a plan in some way.

    model (Tok2Vec): A model of `modernbert_tok2vec`.
    plan (Plan): The plan of some Docs.
    pool_pass (PoolPass): Makes one.
    RETURNS (DocVectors): The vectors of the tokens.
    """
    shim = get_shim(model.layers[0])
    vectors = pool_passes(plan, pool_pass, model.get_dim("nO"), shim.budget)
    return DocVectors([model.ops.asarray2f(cast(Floats2d, rows)) for rows in vectors])


def keep_vectors(model: Model, max_bytes: int) -> None:
    """Make a model keep the vectors of the Docs that its encoder reads in training, and
    from then on.

    model (Model): A model with one layer of `modernbert_tok2vec`.
    max_bytes (int): The most that is kept.
    RAISES (ValueError): If the model does not have exactly one encoder, or something
        that its vectors depend on is trained.
    """
    tok2vecs = find_tok2vecs(model)
    if len(tok2vecs) != 1:
        raise ValueError(Errors.NOTHING_TO_KEEP.format(n_encoders=len(tok2vecs)))
    pool = tok2vecs[0].layers[1]
    if grad_factor_of(pool):
        raise ValueError(Errors.KEPT_IS_TRAINED.format(value=grad_factor_of(pool)))
    if any(node.param_names for node in pool.walk()):
        raise ValueError(
            Errors.KEPT_POOLING_TRAINED.format(pooling=pool.layers[0].name)
        )
    tok2vecs[0].attrs[KEPT] = KeptVectors(max_bytes)


def find_tok2vec(model: Model) -> Optional[Model]:
    """RETURNS (Optional[Model]): The layer of `modernbert_tok2vec` in a model, if there
    is exactly one.
    """
    found = find_tok2vecs(model)
    return found[0] if len(found) == 1 else None


def find_tok2vecs(model: Model) -> List[Model]:
    """RETURNS (List[Model]): The layers of `modernbert_tok2vec` in a model. They are
    not known by their function, as `with_nvtx_range` puts another one in its place.
    """
    return [node for node in model.walk() if _MARK in node.attrs]


def init(
    model: Tok2Vec, X: Optional[List[Doc]] = None, Y: Optional[List[Floats2d]] = None
) -> None:
    """Initialize the layers with an empty Doc, whatever Docs are given.

    Thinc sends the sample that a model is initialized with through every layer, once
    for each chain it is in, only to see how wide the outputs are. spaCy's sample is
    ten whole documents; an empty one tells the same, and nothing is encoded.
    """
    init_chain(model, X=[Doc(Vocab())], Y=Y)


def show_one_word(init: Callable[..., Any]) -> Callable[..., Any]:
    """Have a model that contains our layers initialized without encoding anything, too,
    but by one token: some layers need one (an LSTM refuses to read none).

    init (Callable[..., Any]): The `init` of a model of Docs.
    RETURNS (Callable[..., Any]): What to put in its place.
    """
    return partial(_init_with_one_word, init)


def _init_with_one_word(
    init: Callable[..., Any],
    model: Model,
    X: Optional[List[Doc]] = None,
    Y: Optional[Any] = None,
) -> None:
    init(model, X=OneWord(X or []), Y=Y)
