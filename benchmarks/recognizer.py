"""A recognizer with random weights, which finds about as much as a trained one."""

from typing import Any, Callable, Sequence

import numpy as np
from spacy.language import Language
from spacy.pipeline import EntityRecognizer

# So many of the tokens are in an entity.
IN_ENTITIES = 0.15

_DEVIATION = 0.1
_HIGHEST_BIAS = 30.0
_HALVINGS = 12


def draw_weights(ner: EntityRecognizer, rng: np.random.Generator) -> None:
    """Set all weights of a recognizer, but for those of an encoder in a shim.

    ner (EntityRecognizer): The recognizer, initialized: ours or spaCy's own.
    rng (np.random.Generator): Draws them.
    """
    for node in ner.model.walk():
        for name in node.param_names:
            values: Any = node.get_param(name)
            values[...] = rng.normal(size=values.shape, scale=_DEVIATION)


def share_in_entities(nlp: Language, texts: Sequence[str]) -> float:
    """RETURNS (float): Which share of the tokens is in an entity."""
    docs = list(nlp.pipe(texts))
    return sum(len(ent) for doc in docs for ent in doc.ents) / sum(map(len, docs))


def calibrate(ner: EntityRecognizer, find_share: Callable[[], float]) -> float:
    """Set the bias of "O" to where the wanted share of the tokens is in an entity.

    ner (EntityRecognizer): The recognizer.
    find_share (Callable[[], float]): Finds which share is, as the bias stands.
    RETURNS (float): The share.
    """
    names = [ner.moves.get_class_name(i) for i in range(ner.moves.n_moves)]
    out = names.index("O")
    scorer = ner.model.layers[2 if ner.model.attrs["has_upper"] else 1]
    bias: Any = scorer.get_param("b")
    low, high = 0.0, _HIGHEST_BIAS
    share = 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        bias[out] = middle
        share = find_share()
        low, high = (middle, high) if share > IN_ENTITIES else (low, middle)
    return share
