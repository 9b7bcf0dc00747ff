"""`doc.vector` from the encoder: a component's own run of it, without a second one.

A vector is made where the encoder's output is at hand, in the middle of a model whose
output is one of another kind. Whoever wants it opens `collect_doc_vectors` around the
run, and sets it afterwards.

On the Doc it is `doc._.modernbert_vector`, which is kept with the Doc's user data:
through `nlp.pipe(n_process=2)`, `doc.to_bytes()` and `DocBin(store_user_data=True)`.
`doc.vector`, `doc.similarity` and the like read it through hooks. spaCy does not carry
hooks along, and warns of it (W109); `use_doc_vector` puts them in place again.
"""

from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Dict, Iterator, Optional, Sequence

import numpy as np
import numpy.typing as npt
from spacy.tokens import Doc

from ..documents.doc_pooling import plan_doc_pooling
from ..encoder.sentences import resolve_pooling
from ..errors import Errors
from .plan import Plan
from .shim import LoadedEncoder

Floats = npt.NDArray[np.float32]

EXTENSION = "modernbert_vector"

_collected: ContextVar[Optional[Dict[int, Floats]]] = ContextVar(
    "spacy_modernbert_doc_vectors", default=None
)


@contextmanager
def collect_doc_vectors() -> Iterator[Dict[int, Floats]]:
    """Within, encoders leave the vectors of the Docs that they predict for.

    YIELDS (Dict[int, Floats]): `(width,)` for each Doc, by its `id()`. Filled while
        the context is open; the Docs must live as long.
    """
    vectors: Dict[int, Floats] = {}
    token = _collected.set(vectors)
    try:
        yield vectors
    finally:
        _collected.reset(token)


def note_doc_vectors(
    docs: Sequence[Doc], plan: Plan, vectors: Floats, loaded: LoadedEncoder
) -> None:
    """Leave the vectors of Docs with whoever collects them, if anybody does.

    docs (Sequence[Doc]): The Docs.
    plan (Plan): How the encoder went through them.
    vectors (Floats): `(plan.total, width)` its output.
    loaded (LoadedEncoder): The encoder; its config says how vectors are pooled.
    RAISES (ValueError): If its checkpoint asks for a pooling that is not supported.
    """
    collected = _collected.get()
    if collected is None:
        return
    pooling = plan_doc_pooling(
        plan.windows,
        plan.window_lengths,
        len(loaded.tokenizer.prefix_ids),
        resolve_pooling("auto", loaded.encoder.config),
    )
    doc_vectors = np.zeros((len(docs), vectors.shape[1]), np.float32)
    pooling.add(vectors, 0, doc_vectors)
    collected.update(zip(map(id, docs), doc_vectors, strict=True))


def set_doc_vector(doc: Doc, vector: Floats) -> None:
    """Give a Doc its vector.

    doc (Doc): The Doc.
    vector (Floats): `(width,)`.
    """
    _register()
    doc._.set(EXTENSION, vector)
    use_doc_vector(doc)


def use_doc_vector(doc: Doc) -> Doc:
    """Let `doc.vector`, `doc.vector_norm`, `doc.has_vector` and `doc.similarity` go by
    `doc._.modernbert_vector`.

    doc (Doc): A Doc that has been given one, here or in another process.
    RETURNS (Doc): The same.
    RAISES (ValueError): If it has none.
    """
    _register()
    if doc._.get(EXTENSION) is None:
        raise ValueError(Errors.DOC_WITHOUT_VECTOR)
    doc.user_hooks.update(
        vector=_get_vector,
        vector_norm=_get_norm,
        has_vector=_has_vector,
        similarity=_get_similarity,
    )
    return doc


def _register() -> None:
    if not Doc.has_extension(EXTENSION):
        Doc.set_extension(EXTENSION, default=None)


def _get_vector(doc: Doc) -> Floats:
    return doc._.get(EXTENSION)


def _get_norm(doc: Doc) -> float:
    return float(np.linalg.norm(_get_vector(doc)))


def _has_vector(doc: Doc) -> bool:
    return bool(_get_vector(doc).any())


def _get_similarity(doc: Doc, other: Any) -> float:
    """The cosine; 0 where there is no vector. spaCy's own would warn that there are no
    word vectors."""
    norms = _get_norm(doc) * float(other.vector_norm)
    return float(np.dot(_get_vector(doc), other.vector)) / norms if norms else 0.0
