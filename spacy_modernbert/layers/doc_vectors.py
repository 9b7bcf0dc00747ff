"""`doc.vector` from the encoder, which a component has to run anyway.

On the Doc it is `doc._.modernbert_vector`, which is kept with the Doc's user data:
through `nlp.pipe(n_process=2)`, `doc.to_bytes()` and `DocBin(store_user_data=True)`.
`doc.vector`, `doc.similarity` and the like read it through hooks. spaCy does not carry
hooks along, and warns of it (W109); `use_doc_vector` puts them in place again.
"""

import warnings
from dataclasses import replace
from typing import Any, Callable, Dict, List, cast

import numpy as np
from spacy.errors import Warnings as SpacyWarnings
from spacy.tokens import Doc
from thinc.api import Model

from ..documents.doc_pooling import plan_doc_pooling
from ..encoder.pooling import pool_means
from ..encoder.sentences import resolve_pooling
from ..errors import Errors
from ..types import Floats, PackedBatch, TokenRows
from .encode import get_shim, plan_docs
from .plan import Plan
from .pool import pool_rows, pools_means
from .tok2vec import DocVectors, EncodedDocList, Tok2Vec, find_tok2vec, run_plan

EXTENSION = "modernbert_vector"


def encode_with_doc_vectors(model: Model, docs: List[Doc]) -> EncodedDocList:
    """Encode Docs, unless they have been encoded with their vectors already.

    model (Model): A model with one `modernbert_tok2vec` in it.
    docs (List[Doc]): The Docs.
    RETURNS (EncodedDocList): The same Docs. Each has a vector.
    RAISES (ValueError): If the encoder's checkpoint asks for a pooling that is not
        supported.
    """
    if isinstance(docs, EncodedDocList) and len(docs.vectors.docs) == len(docs):
        return docs
    tok2vec = find_tok2vec(model)
    assert tok2vec is not None  # the component was made with one
    plan = plan_docs(tok2vec.layers[0], docs)
    return EncodedDocList(docs, predict_with_doc_vectors(tok2vec, plan))


def predict_with_doc_vectors(model: Tok2Vec, plan: Plan) -> DocVectors:
    """Make the passes of a plan, and pool each of them for tokens and for whole Docs.

    model (Tok2Vec): A model of `modernbert_tok2vec`.
    plan (Plan): The plan of some Docs.
    RETURNS (DocVectors): The vectors of the tokens and of the Docs. A Doc without
        wordpieces has zeros.
    RAISES (ValueError): As `encode_with_doc_vectors`.
    """
    encode, pool = model.layers
    loaded = get_shim(encode).loaded
    encoder = loaded.encoder
    pooling = plan_doc_pooling(
        plan.windows,
        plan.window_lengths,
        len(loaded.tokenizer.prefix_ids),
        resolve_pooling("auto", encoder.config),
    )
    doc_vectors = np.zeros((pooling.n_docs, encoder.config.hidden_size), np.float32)

    def pool_pass(batch: PackedBatch, rows: TokenRows, start: int) -> Floats:
        part = pooling.within(batch, start)
        if pools_means(pool):
            means = encoder.encode_tokens(batch, TokenRows.concat([rows, part.rows]))
            vectors, means = np.split(means, [rows.lengths.size])
        else:
            output = encoder.encode(batch)
            vectors = model.ops.to_numpy(pool_rows(pool, output, rows, False)[0])
            means = pool_means(output, part.rows)
        part.add(means, doc_vectors)
        return vectors

    vectors = run_plan(model, plan, pool_pass)
    # Copies: with a view, a Doc that is kept would keep the vectors of all others.
    return replace(vectors, docs=[row.copy() for row in doc_vectors])


def set_doc_vector(doc: Doc, vector: Floats) -> None:
    """Give a Doc its vector.

    doc (Doc): The Doc.
    vector (Floats): `(width,)`.
    """
    doc._.set(EXTENSION, vector)
    use_doc_vector(doc)


def use_doc_vector(doc: Doc) -> Doc:
    """Let `doc.vector`, `doc.vector_norm`, `doc.has_vector` and `doc.similarity` go by
    `doc._.modernbert_vector`.

    doc (Doc): A Doc that has been given one, here or in another process.
    RETURNS (Doc): The same.
    RAISES (ValueError): If it has none.
    """
    if doc._.get(EXTENSION) is None:
        raise ValueError(Errors.DOC_WITHOUT_VECTOR)
    # Not in place: a Doc that `Span.as_doc` made shares this dict with the whole Doc.
    doc.user_hooks = {**doc.user_hooks, **_HOOKS}
    return doc


def _unhook(doc: Doc) -> Doc:
    """Remove our hooks from a Doc that has no vector of ours: it was taken away, or
    `Span.as_doc` made the Doc, which then has the hooks of the whole.
    """
    doc.user_hooks = {
        name: hook
        for name, hook in doc.user_hooks.items()
        if hook is not _HOOKS.get(name)
    }
    return doc


def _get_vector(doc: Doc) -> Floats:
    vector = doc._.get(EXTENSION)
    return cast(Floats, _unhook(doc).vector if vector is None else vector)


def _get_norm(doc: Doc) -> float:
    vector = doc._.get(EXTENSION)
    if vector is None:
        return float(_unhook(doc).vector_norm)
    return float(np.linalg.norm(vector))


def _has_vector(doc: Doc) -> bool:
    vector = doc._.get(EXTENSION)
    return _unhook(doc).has_vector if vector is None else bool(vector.any())


def _get_similarity(doc: Doc, other: Any) -> float:
    """The cosine; 0 where there is no vector. spaCy's own method would warn that there
    are no word vectors; this one warns if `other` has no vector, such as a Span."""
    vector = _get_vector(doc)
    if not other.vector.size:
        warnings.warn(SpacyWarnings.W008.format(obj="Doc"), stacklevel=2)
        return 0.0
    norms = _get_norm(doc) * float(other.vector_norm)
    if not norms:
        return 0.0
    if other.vector.shape != vector.shape:
        raise ValueError(
            Errors.OTHER_VECTORS.format(
                width=len(vector), kind=type(other).__name__, other=len(other.vector)
            )
        )
    return float(np.dot(vector, other.vector)) / norms


_HOOKS: Dict[str, Callable[..., Any]] = {
    "vector": _get_vector,
    "vector_norm": _get_norm,
    "has_vector": _has_vector,
    "similarity": _get_similarity,
}

# Here, for Docs that are unpickled in a process without a pipeline: their hooks need
# it, and are imported from here.
if not Doc.has_extension(EXTENSION):
    Doc.set_extension(EXTENSION, default=None)
