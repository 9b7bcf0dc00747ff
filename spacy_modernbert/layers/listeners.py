"""Listeners of a shared encoder, of spaCy's `tok2vec` and of spacy-transformers."""

from contextlib import contextmanager
from typing import Any, Iterator, List, Sequence

import numpy as np
from spacy.tokens import Doc
from thinc.api import Model


@contextmanager
def sure_to_answer(tok2vec: Model, docs: Sequence[Doc]) -> Iterator[None]:
    """Within this context, a component learns from a batch. If it turns out to have
    nothing to learn, a gradient of zeros is sent to an encoder that other components
    share. The last of its listeners hands on the gradients of all: what the others
    learned from the batch would be lost, as it is in spaCy.

    tok2vec (Model): The first layer of a parser model.
    docs (Sequence[Doc]): The Docs of the batch.
    """
    answered: List[bool] = []

    def noting(backprop: Any) -> Any:
        def answer(d_outputs: Any) -> Any:
            answered.append(True)
            return backprop(d_outputs)

        return answer

    awaited: List[Any] = [n for n in tok2vec.walk() if _is_awaited(n, docs)]
    own = [node._backprop for node in awaited]
    noted = list(map(noting, own))
    for node, backprop in zip(awaited, noted, strict=True):
        node._backprop = backprop
    try:
        yield
    finally:
        for node, before, backprop in zip(awaited, own, noted, strict=True):
            # spacy-transformers' listener lets go of it once it has answered.
            if node._backprop is backprop:
                node._backprop = before
    if awaited and not answered:
        hidden, backprop_tok2vec = tok2vec(docs, is_train=True)
        backprop_tok2vec(np.zeros_like(hidden))


def _is_awaited(node: Any, docs: Sequence[Doc]) -> bool:
    """RETURNS (bool): Whether a layer is a listener that has been given the vectors of
    these Docs, and is to give back their gradient.
    """
    return (
        hasattr(node, "receive")
        and node._backprop is not None
        and node._batch_id == node.get_batch_id(docs)
    )
