"""Greedy decoding of spaCy's named entity recognizer, compiled with Numba.

The stock parser is the oracle: what is allowed is in `transitions.py`, the scores are
those of `spacy/ml/parser_model.pyx`, and the entities are those that the stock parser
would have found, set on a Doc as it would have set them. The two can differ only where
two scores are equal up to the last bits of a float, since their matrix products sum in
different orders. Where the stock parser is needed, `predict_entities` returns None.

How the scores are made. The state is three tokens: the current one, the first of the
open entity and the last before the current one. The latter two are padding when no
entity is open. Each is multiplied by weights of its own, the products and a bias are
added, and the largest of `nP` pieces is taken. The result is the scores, or is what an
upper layer makes scores of.

Most tokens are not in an entity. So scores without an open entity are computed for all
tokens at once, and what an open entity changes, where there is one.

Importing this module imports Numba, which the extra `fast` installs.
"""

from functools import partial
from typing import Any, List, NamedTuple, Optional, Sequence, Set, cast

import numpy as np
from spacy.attrs import ENT_IOB, ENT_KB_ID, ENT_TYPE
from spacy.errors import Errors as SpacyErrors
from spacy.ml import tb_framework
from spacy.ml._precomputable_affine import forward as affine_forward
from spacy.pipeline._parser_internals.ner import BiluoPushDown
from spacy.pipeline.transition_parser import Parser
from spacy.tokens import Doc
from thinc.api import Model, NumpyOps
from thinc.layers.chain import forward as chain_forward
from thinc.layers.linear import forward as linear_forward
from thinc.layers.list2array import forward as list2array_forward

from .errors import Errors
from .scoring import has_shapes
from .transitions import (
    BEGIN,
    IOB_BEGIN,
    IOB_INSIDE,
    IOB_MISSING,
    IOB_OUTSIDE,
    LAST,
    NO_LABEL,
    UNIT,
    Actions,
    Tokens,
    compiled,
    follow,
    is_allowed,
    read_actions,
    read_rules,
    read_tokens,
)
from .types import lay_ranges

# Tokens whose products are held at once. They should fit into the processor's cache.
CHUNK = 1024

# A score below that of any action that a recognizer has learned.
_LOWEST = np.float32(-1e30)
# Tokens that a state of the recognizer looks at.
N_FEATURES = 3


class Weights(NamedTuple):
    """What scores are made with, all float32.

    lower (np.ndarray): For the current token, the first of the open entity and the
        previous one. Shape `(3, nP, nO, nI)`.
    padding (np.ndarray): The product of a token that is not there. `(3, nP, nO)`.
    bias (np.ndarray): Shape `(nP, nO)`.
    upper (np.ndarray): Shape `(n_actions, nO)`, or `(0, 0)` if there is no such layer.
    upper_bias (np.ndarray): Shape `(n_actions,)`, or `(0,)`.
    """

    lower: np.ndarray
    padding: np.ndarray
    bias: np.ndarray
    upper: np.ndarray
    upper_bias: np.ndarray


class Chunk(NamedTuple):
    """Tokens that are decoded at once.

    start (int): Number of the first.
    scores (np.ndarray): Scores of the actions of `Actions.outside`, in that order, at
        each token, as if no entity were open. Shape `(n, n_outside)`, float32.
    """

    start: int
    scores: np.ndarray


class Spans(NamedTuple):
    """Entities, in order, as positions among all tokens. Shape `(n,)`, int64."""

    starts: np.ndarray
    ends: np.ndarray
    labels: np.ndarray


class DocEntities(NamedTuple):
    """The entities of one Doc, in order. All have the shape `(n,)`.

    starts, ends (np.ndarray): The tokens of each, `[start, end)`, int64.
    labels (np.ndarray): The hash of its label, uint64.
    """

    starts: np.ndarray
    ends: np.ndarray
    labels: np.ndarray


def predict_entities(pipe: Parser, docs: Sequence[Doc]) -> Optional[List[DocEntities]]:
    """Decode Docs as `EntityRecognizer.predict` does, without changing them.

    pipe (Parser): The recognizer.
    docs (Sequence[Doc]): The Docs.
    RETURNS (Optional[List[DocEntities]]): Their entities; None if the stock parser has
        to decode these Docs. Nothing is encoded then.
    RAISES (ValueError): If there are other vectors than those of the tokens.
    """
    if not is_covered(pipe) or not any(len(doc) for doc in docs):
        return None
    actions, labels = read_actions(pipe.moves)
    tokens = read_tokens(docs, labels, actions)
    if tokens is None:
        return None
    # Before encoding, which takes long: they belong to the actions.
    weights = read_weights(pipe.model)
    hidden = hidden_vectors(pipe.model.layers[0], docs)
    check_rows(pipe, hidden, tokens)
    spans = decode(hidden, weights, tokens, actions)
    return split_spans(spans, docs, labels)


def check_rows(pipe: Parser, hidden: np.ndarray, tokens: Tokens) -> None:
    """Check that each token has a vector, before compiled code reads one for each.

    pipe (Parser): The recognizer.
    hidden (np.ndarray): One row for each vector.
    tokens (Tokens): The tokens.
    RAISES (ValueError): If there are more vectors than tokens, or fewer.
    """
    if len(hidden) != len(tokens.iob):
        raise ValueError(
            Errors.OTHER_TOKENS.format(
                component=pipe.name, n_rows=len(hidden), n_tokens=len(tokens.iob)
            )
        )


def are_entities(scores: Sequence[Any]) -> bool:
    """RETURNS (bool): Whether this is what `predict_entities` found, and not states."""
    return len(scores) > 0 and isinstance(scores[0], DocEntities)


def set_entities(doc: Doc, entities: DocEntities) -> None:
    """Set entities as `BiluoPushDown.set_annotations` does. A token in no entity keeps
    its annotation or, if that was missing, is now outside. An entity takes over the
    knowledge base id of its first token.

    doc (Doc): The Doc.
    entities (DocEntities): Its entities.
    RAISES (ValueError): If the vocab of the Doc does not know a label (E084).
    """
    if not len(doc):
        return
    starts, ends, labels = entities
    for label in set(labels.tolist()):
        # The Doc may have a vocab that has never seen the label.
        if label not in doc.vocab.strings:
            raise ValueError(SpacyErrors.E084.format(label=label))
    lengths = ends - starts
    inside = lay_ranges(starts, lengths)
    attributes = [ENT_IOB, ENT_TYPE, ENT_KB_ID]
    table = doc.to_array(attributes)
    iob, types, kb_ids = table.T
    iob[iob == IOB_MISSING] = IOB_OUTSIDE
    iob[inside] = IOB_INSIDE
    iob[starts] = IOB_BEGIN
    types[inside] = np.repeat(labels, lengths)
    kb_ids[inside] = np.repeat(kb_ids[starts], lengths)
    # As `Doc.set_ents` treats entities that were there before: an inside token with no
    # beginning, or with another label than the token before, begins an entity.
    strays = (iob[:-1] == IOB_OUTSIDE) | (types[:-1] != types[1:])
    iob[1:][strays & (iob[1:] == IOB_INSIDE)] = IOB_BEGIN
    doc.from_array(attributes, cast(Any, table))


def is_covered(pipe: Parser) -> bool:
    """RETURNS (bool): Whether a recognizer as it is now can be decoded here: greedily,
    with the model of `spacy.TransitionBasedParser.v2` on the CPU, and three tokens to a
    state.
    """
    model = pipe.model
    if (
        pipe.cfg["beam_width"] != 1
        or type(pipe.moves) is not BiluoPushDown
        or not isinstance(model, Model)
        or model._func is not tb_framework.forward
        or not isinstance(model.ops, NumpyOps)
    ):
        return False
    _, lower, upper = model.layers
    if lower._func is not affine_forward or not has_shapes(lower):
        return False
    scorer = lower
    if model.attrs["has_upper"]:
        if upper._func is not linear_forward or not has_shapes(upper):
            return False
        if upper.get_dim("nI") != lower.get_dim("nO"):
            return False
        scorer = upper
    return (
        lower.get_dim("nF") == N_FEATURES
        and scorer.get_dim("nO") == pipe.moves.n_moves > 0
        and _lose_ties(model.attrs["unseen_classes"], pipe.moves)
    )


def _lose_ties(unseen: Set[int], moves: BiluoPushDown) -> bool:
    """unseen (Set[int]): Actions that were added after training, and not seen since.
    moves (BiluoPushDown): All actions.
    RETURNS (bool): Whether none of them is taken where another one has the same score.
    """
    if not unseen:
        return True
    actions, _ = read_actions(moves)
    # With such a label, entities of more than a token only go on where the Doc says so.
    unbegun = {
        actions.labels[action] for action in unseen if actions.kinds[action] == BEGIN
    }
    return all(
        action in unseen
        or (actions.kinds[action] == UNIT and actions.labels[action] in unbegun)
        for action in range(min(unseen), moves.n_moves)
    )


def read_weights(model: Model) -> Weights:
    """RETURNS (Weights): The weights of a parser model. The pieces of a unit are put
    apart, so that the largest of them is found for many units at once. Actions that
    were added after training, and not seen since, get lower scores than all others.
    spaCy gives them the lowest score of any, with which `_lose_ties` says that they are
    not taken either.
    """
    _, lower, upper = model.layers
    unseen = sorted(model.attrs["unseen_classes"])
    bias = _param(lower, "b").T.copy()
    if model.attrs["has_upper"]:
        top, top_bias = _param(upper, "W"), _param(upper, "b").copy()
        top_bias[unseen] = _LOWEST
    else:
        top, top_bias = np.zeros((0, 0), "f"), np.zeros(0, "f")
        bias[:, unseen] = _LOWEST
    return Weights(
        np.ascontiguousarray(_param(lower, "W").transpose(0, 2, 1, 3)),
        np.ascontiguousarray(_param(lower, "pad")[0].transpose(0, 2, 1)),
        bias,
        top,
        top_bias,
    )


def hidden_vectors(tok2vec: Model, docs: Sequence[Doc]) -> np.ndarray:
    """Run the part of a parser model that looks at tokens. Its last layer is a product
    of matrices, for which NumPy's BLAS is faster than Thinc's.

    tok2vec (Model): The first layer of a parser model.
    docs (Sequence[Doc]): The Docs.
    RETURNS (np.ndarray): One row for each token of all Docs. `(total, width)`.
    """
    functions = [layer._func for layer in tok2vec.layers[-2:]]
    if tok2vec._func is not chain_forward or functions != [
        list2array_forward,
        linear_forward,
    ]:
        return np.ascontiguousarray(tok2vec.predict(docs), dtype=np.float32)
    vectors: Any = docs
    for layer in tok2vec.layers[:-2]:
        vectors = layer.predict(vectors)
    weights = _param(tok2vec.layers[-1], "W").T
    total = sum(len(rows) for rows in vectors)
    hidden = np.empty((total, weights.shape[1]), dtype=np.float32)
    start = 0
    for rows in vectors:
        end = start + len(rows)
        # The rows of an empty Doc may have no width.
        if end > start:
            np.matmul(rows, weights, out=hidden[start:end])
        start = end
    hidden += _param(tok2vec.layers[-1], "b")
    return hidden


def decode(
    hidden: np.ndarray, weights: Weights, tokens: Tokens, actions: Actions
) -> Spans:
    """Take the best action that is allowed, token by token.

    hidden (np.ndarray): One row for each token. Shape `(total, nI)`, float32.
    weights (Weights): The weights.
    tokens (Tokens): The tokens.
    actions (Actions): The actions.
    RETURNS (Spans): The entities.
    """
    total = len(hidden)
    spans = Spans(*(np.empty(total, dtype=np.int64) for _ in Spans._fields))
    walk = np.zeros(3, dtype=np.int64)
    count = 0
    for start in range(0, total, CHUNK):
        rows = hidden[start : start + CHUNK]
        chunk = Chunk(start, outside_scores(rows, weights, actions.outside))
        count = _decode(chunk, hidden, weights, tokens, actions, walk, spans, count)
    return Spans(*(column[:count] for column in spans))


def outside_scores(
    hidden: np.ndarray, weights: Weights, actions: np.ndarray
) -> np.ndarray:
    """Score tokens as if no entity were open. Only the given actions are computed: with
    many labels, that spares half of all actions.

    hidden (np.ndarray): One row for each token. Shape `(n, nI)`, float32.
    weights (Weights): The weights.
    actions (np.ndarray): The actions to score. int64.
    RETURNS (np.ndarray): Shape `(n, len(actions))`, float32.
    """
    has_upper = len(weights.upper) > 0
    # Without an upper layer, the units are the scores.
    units = np.arange(weights.bias.shape[1]) if has_upper else actions
    # `take` and not an index, whose result would be laid out by columns.
    lower = weights.lower[0].take(units, axis=1).reshape(-1, hidden.shape[1])
    always = weights.padding[1] + weights.padding[2] + weights.bias
    always = always.take(units, axis=1)
    products = hidden @ lower.T
    best = _largest_pieces(products.reshape(len(hidden), *always.shape), always)
    if not has_upper:
        return best
    return best @ weights.upper[actions].T + weights.upper_bias[actions]


def split_spans(
    spans: Spans, docs: Sequence[Doc], labels: Sequence[int]
) -> List[DocEntities]:
    """Tell the entities of one Doc from those of the next.

    spans (Spans): The entities of all Docs.
    docs (Sequence[Doc]): The Docs.
    labels (Sequence[int]): Hashes of the labels.
    RETURNS (List[DocEntities]): Those of each Doc.
    """
    hashes = np.array([0, *labels], dtype=np.uint64)[spans.labels]
    bounds = np.cumsum([0, *(len(doc) for doc in docs)])
    cuts = np.searchsorted(spans.starts, bounds).tolist()
    return [
        DocEntities(
            spans.starts[first:last] - start,
            spans.ends[first:last] - start,
            hashes[first:last],
        )
        for start, first, last in zip(bounds.tolist(), cuts, cuts[1:], strict=False)
    ]


def _param(layer: Model, name: str) -> np.ndarray:
    return np.ascontiguousarray(layer.get_param(name), dtype=np.float32)


# -- Compiled ---------------------------------------------------------------------


@compiled
def _largest_pieces(products: np.ndarray, always: np.ndarray) -> np.ndarray:
    """Add what all tokens have in common, and take the largest piece of each unit.

    products (np.ndarray): Shape `(n, nP, units)`, float32.
    always (np.ndarray): What to add. Shape `(nP, units)`, float32.
    RETURNS (np.ndarray): Shape `(n, units)`, float32.
    """
    n, n_pieces, n_units = products.shape
    best = np.empty((n, n_units), dtype=np.float32)
    for i in range(n):
        for piece in range(n_pieces):
            for unit in range(n_units):
                value = products[i, piece, unit] + always[piece, unit]
                if piece == 0 or value > best[i, unit]:
                    best[i, unit] = value
    return best


# The sum may be done in any order, as a BLAS does it, and so several terms at once.
@partial(compiled, fastmath={"reassoc", "contract"})
def _dot(left: np.ndarray, right: np.ndarray) -> float:
    """RETURNS (float): The inner product of two vectors."""
    total = np.float32(0.0)
    for i in range(left.shape[0]):
        total += left[i] * right[i]
    return total


@compiled
def _inside_unit(
    current: np.ndarray,
    first: np.ndarray,
    previous: np.ndarray,
    weights: Weights,
    unit: int,
) -> float:
    """One unit of the state at a token, with an entity open.

    current (np.ndarray): The token. Shape `(nI,)`.
    first (np.ndarray): The first token of the entity. Shape `(nI,)`.
    previous (np.ndarray): The token before. Shape `(nI,)`.
    weights (Weights): The weights.
    unit (int): Which unit.
    RETURNS (float): Its value.
    """
    best = np.float32(0.0)
    for piece in range(weights.bias.shape[0]):
        value = _dot(weights.lower[0, piece, unit], current)
        value = value + _dot(weights.lower[1, piece, unit], first)
        value = value + _dot(weights.lower[2, piece, unit], previous)
        value = value + weights.bias[piece, unit]
        if piece == 0 or value > best:
            best = value
    return best


@compiled
def _decode(
    chunk: Chunk,
    hidden: np.ndarray,
    weights: Weights,
    tokens: Tokens,
    actions: Actions,
    walk: np.ndarray,
    spans: Spans,
    count: int,
) -> int:
    """Decode a chunk.

    chunk (Chunk): The chunk.
    hidden (np.ndarray): All tokens. Shape `(total, nI)`.
    weights (Weights): The weights.
    tokens (Tokens): All tokens.
    actions (Actions): The actions.
    walk (np.ndarray): Where the last chunk ended: label of the open entity, NO_LABEL
        if none is open; its first token; whether the rest of the Doc is given up.
        Changed. Shape `(3,)`, int64.
    spans (Spans): Where entities are written to.
    count (int): Entities found in the chunks before.
    RETURNS (int): Entities found until now.
    """
    has_upper = weights.upper.shape[0] > 0
    units = np.empty(weights.bias.shape[1], dtype=np.float32)
    open_label, open_start, given_up = walk
    for i in range(chunk.scores.shape[0]):
        token = chunk.start + i
        is_last = tokens.ends[token]
        if given_up:
            given_up = 0 if is_last else 1
            continue
        rules = read_rules(tokens, token, open_label)
        best = -1
        best_score = np.float32(0.0)

        if open_label == NO_LABEL:
            for column in range(actions.outside.shape[0]):
                action = actions.outside[column]
                if is_allowed(actions.kinds[action], actions.labels[action], rules):
                    score = chunk.scores[i, column]
                    if best == -1 or score > best_score:
                        best = action
                        best_score = score
        else:
            current = hidden[token]
            first = hidden[open_start]
            previous = hidden[token - 1]
            if has_upper:
                for unit in range(units.shape[0]):
                    units[unit] = _inside_unit(current, first, previous, weights, unit)
            for action in actions.inside:
                if is_allowed(actions.kinds[action], actions.labels[action], rules):
                    if has_upper:
                        score = _dot(weights.upper[action], units)
                        score = score + weights.upper_bias[action]
                    else:
                        score = _inside_unit(current, first, previous, weights, action)
                    if best == -1 or score > best_score:
                        best = action
                        best_score = score

        if best == -1:
            # The stock parser gives up, too: the Doc keeps what was found so far.
            open_label = NO_LABEL
            given_up = 1
        else:
            kind = actions.kinds[best]
            label = actions.labels[best]
            if kind == LAST or (kind == UNIT and label != NO_LABEL):
                spans.starts[count] = open_start if kind == LAST else token
                spans.ends[count] = token + 1
                spans.labels[count] = open_label if kind == LAST else label
                count += 1
            open_label, open_start = follow(kind, label, token, open_label, open_start)
        if is_last:
            open_label = NO_LABEL
            given_up = 0
    walk[0] = open_label
    walk[1] = open_start
    walk[2] = given_up
    return count
