"""A training step of spaCy's named entity recognizer, compiled with Numba.

To learn from a batch, spaCy goes through the texts of all Docs in Python some ten times
over, moves a parser state along the correct entities, and multiplies small matrices
after each token. That takes longer than some encoders do, and all of it is done on the
host while a GPU waits. Here the same is done over flat arrays, and matrices are
multiplied once for a whole batch.

spaCy's update is the oracle: the gradients and the loss are those that
`spacy/pipeline/transition_parser.pyx` would have found, up to rounding, and as many
random numbers are drawn. Where spaCy's own update is needed, `update` returns False.

How a recognizer learns. Long Docs are cut into stretches. Along each, the recognizer
follows its own predictions. At each token, an action is right if it adds no mistake,
and the loss is that of taking no right action. What is right is known from the entities
of the reference; for some tokens, it may be unknown.

Importing this module imports Numba, which the extra `fast` installs.
"""

import random
from dataclasses import dataclass
from functools import partial
from typing import (
    Any,
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    cast,
)

import numpy as np
from spacy.attrs import ENT_IOB, ENT_TYPE, IS_SPACE, ORTH
from spacy.errors import Errors as SpacyErrors
from spacy.pipeline.transition_parser import Parser
from spacy.strings import get_string_id
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Model, Optimizer, set_dropout_rate

from .decoder import check_rows, is_covered
from .transitions import (
    BEGIN,
    IN,
    IOB_MISSING,
    IOB_OUTSIDE,
    KINDS,
    LAST,
    NO_LABEL,
    OUT,
    UNIT,
    Actions,
    Rules,
    Tokens,
    compiled,
    follow,
    is_allowed,
    knows_label,
    read_actions,
    read_rules,
    read_tokens,
)
from .types import Floats, lay_ranges

# The kind of a token for which the right action is unknown. Numba compiles it in.
MISSING = -1


class Gold(NamedTuple):
    """What is right at each token, in the terms of actions. Shape `(total,)`, int64.

    kinds (np.ndarray): The kind of its action, or MISSING.
    labels (np.ndarray): Its label, counted from 1; NO_LABEL if it has none.
    """

    kinds: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Reference:
    """What the reference of an example says of the tokens that are learned from.

    gold (Gold): What is right at each.
    says (Callable[[int, int], bool]): Whether it says anything about `x[start:end]`.
    says_anything (bool): Whether it says anything at all, about any of the tokens.
    """

    gold: Gold
    says: Callable[[int, int], bool]
    says_anything: bool


class Starts(NamedTuple):
    """The states from which the recognizer sets out. Shape `(n,)`, int64.

    tokens (np.ndarray): The current token, by its position among all.
    labels (np.ndarray): The label of the open entity; NO_LABEL if none is open.
    firsts (np.ndarray): The first token of that, where one is open.
    """

    tokens: np.ndarray
    labels: np.ndarray
    firsts: np.ndarray


class Sums(NamedTuple):
    """The terms that are added up to scores, or their gradient. float32.

    products (np.ndarray): What each token adds as the current one, as the first of the
        open entity, and as the one before. The first row is for a token that is not
        there. Shape `(1 + total, 3, n_actions, nP)`.
    bias (np.ndarray): What is always added. Of `nP` sums, the largest is the score.
        Shape `(n_actions, nP)`.
    """

    products: np.ndarray
    bias: np.ndarray


def update(
    pipe: Parser,
    examples: Sequence[Example],
    drop: float,
    sgd: Optional[Optimizer],
    losses: Dict[str, float],
) -> bool:
    """Learn from a batch of examples as `Parser.update` does.

    pipe (Parser): The recognizer.
    examples (Sequence[Example]): The examples.
    drop (float): The dropout rate.
    sgd (Optional[Optimizer]): The optimizer; None for `finish_update` to be called
        later.
    losses (Dict[str, float]): Losses by component, which this one's is added to.
    RETURNS (bool): Whether that was done; False if spaCy has to do it. Nothing has
        changed then.
    RAISES (ValueError): If what is right cannot be reached by any actions, or there are
        other vectors than those of the tokens.
    """
    docs = [example.x for example in examples]
    if not is_learned_here(pipe) or not any(map(len, docs)):
        return False
    actions, labels = read_actions(pipe.moves)
    tokens = read_tokens(docs, labels, actions)
    references = read_references(pipe, examples, labels, actions)
    if tokens is None or references is None:
        return False
    losses.setdefault(pipe.name, 0.0)
    tok2vec, lower, _ = pipe.model.layers
    if not any(reference.says_anything for reference in references):
        return True
    set_dropout_rate(pipe.model, drop)
    n_moves = draw_length(pipe.cfg["update_with_oracle_cut_size"])
    gold = Gold(
        *map(np.concatenate, zip(*(ref.gold for ref in references), strict=True))
    )
    starts = find_starts(references, tokens, gold, actions, n_moves)
    if not len(starts.tokens):
        return True
    hidden, backprop_tok2vec = tok2vec(docs, is_train=True)
    check_rows(pipe, hidden, tokens)
    sums = Sums(lower.predict(hidden), lower.get_param("b"))
    gradient = Sums(np.zeros_like(sums.products), np.zeros_like(sums.bias))
    losses[pipe.name] += _learn(starts, n_moves, sums, tokens, gold, actions, gradient)
    backprop_tok2vec(backprop_lower(lower, hidden, gradient))
    if sgd not in (None, False):
        pipe.finish_update(sgd)
    return True


def is_learned_here(pipe: Parser) -> bool:
    """RETURNS (bool): Whether a recognizer as it is now can learn here: one that can be
    decoded here (`decoder.is_covered`), and has no upper layer, several pieces to an
    action, no action that was added after training and has not been seen since, no
    spans that are known to be wrong, and no other tasks to learn.
    """
    return (
        is_covered(pipe)
        and not pipe.model.attrs["unseen_classes"]
        and not pipe.model.attrs["has_upper"]
        and pipe.model.layers[1].get_dim("nP") > 1
        and pipe.moves.neg_key is None
        and not pipe._multitasks
        # An old notation for negative examples, which spaCy rejects with a message.
        and not any(label.startswith("!") for label in pipe.labels)
    )


def draw_length(cut_size: int) -> int:
    """Draw how many tokens stretches have in a batch, as spaCy does.

    cut_size (int): The setting `update_with_oracle_cut_size`.
    RETURNS (int): How many; 0 if Docs are not cut.
    """
    if cut_size < 1:
        return 0
    # Where spaCy draws 0, it fails.
    return max(1, int(random.uniform(cut_size // 2, cut_size * 2)))


# -- What is right ------------------------------------------------------------------


def read_references(
    pipe: Parser, examples: Sequence[Example], labels: Sequence[int], actions: Actions
) -> Optional[List[Reference]]:
    """Read what is right.

    pipe (Parser): The recognizer.
    examples (Sequence[Example]): The examples.
    labels (Sequence[int]): Hashes of the labels.
    actions (Actions): The actions.
    RETURNS (Optional[List[Reference]]): One for each example; None if there is a label
        that the recognizer does not know, and would have to be enlarged by.
    """
    numbers = {NO_LABEL: NO_LABEL}
    for number, label in enumerate(labels, 1):
        if knows_label(actions, number):
            numbers[label] = number
    references = []
    for example in examples:
        reference = example.y.to_array([ENT_IOB, ENT_TYPE])
        if not numbers.keys() >= set(np.unique(reference[:, 1]).tolist()):
            return None
        words, words_of_reference = (d.to_array(ORTH) for d in (example.x, example.y))
        if np.array_equal(words, words_of_reference):
            gold = read_entities(example.y, numbers)
            says = partial(_says, reference[:, 0] != IOB_MISSING)
        else:
            gold = read_tags(example.get_aligned_ner(), numbers)
            says = partial(pipe.moves.has_gold, example)
        n_tokens = len(example.x)
        says_anything = n_tokens > 0 and says(0, n_tokens)
        references.append(Reference(gold, says, says_anything))
    return references


def read_entities(doc: Doc, numbers: Dict[int, int]) -> Gold:
    """Read the entities of a reference that has the very tokens that are learned from,
    as `Example.get_aligned_ner` does.

    doc (Doc): The reference.
    numbers (Dict[int, int]): The number of each label, by its hash.
    RETURNS (Gold): What is right at each token.
    """
    iob, spaces = doc.to_array([ENT_IOB, IS_SPACE]).T
    kinds = np.full(len(doc), MISSING)
    labels = np.full(len(doc), NO_LABEL)
    # Unless nothing is known of the whole Doc, white space is not in entities.
    kinds[(iob == IOB_OUTSIDE) | ((spaces != 0) & iob.any())] = OUT
    found = [(ent.start, ent.end, numbers[ent.label]) for ent in doc.ents]
    starts, ends, ent_labels = np.array(found, dtype=np.int64).reshape(-1, 3).T
    inside = lay_ranges(starts, ends - starts)
    kinds[inside] = IN
    kinds[starts] = BEGIN
    kinds[ends - 1] = LAST
    kinds[starts[ends - starts == 1]] = UNIT
    labels[inside] = np.repeat(ent_labels, ends - starts)
    return Gold(kinds, labels)


def read_tags(tags: Sequence[Optional[str]], numbers: Dict[int, int]) -> Gold:
    """Read the tags that `Example.get_aligned_ner` makes of a reference.

    tags (Sequence[Optional[str]]): As "B-LABEL". "-" and None if nothing is known.
    numbers (Dict[int, int]): The number of each label, by its hash.
    RETURNS (Gold): What is right at each token.
    """
    split = [(tag or "-").partition("-") for tag in tags]
    kinds = [KINDS.get(kind, MISSING) for kind, _, _ in split]
    labels = [numbers[get_string_id(label)] for _, _, label in split]
    return Gold(np.array(kinds, dtype=np.int64), np.array(labels, dtype=np.int64))


def _says(is_said: np.ndarray, start: int, end: int) -> bool:
    # spaCy takes an empty stretch to mean the whole Doc.
    stretch = is_said[start:end]
    return bool((stretch if len(stretch) else is_said).any())


# -- Where to set out ---------------------------------------------------------------


def find_starts(
    references: Sequence[Reference],
    tokens: Tokens,
    gold: Gold,
    actions: Actions,
    n_moves: int,
) -> Starts:
    """Find where the recognizer sets out: at the beginning of each Doc or, if that is
    long, of each stretch of it, as if all actions before had been right. It does not
    set out where a reference says nothing.

    references (Sequence[Reference]): One for each Doc.
    tokens (Tokens): The tokens of all Docs.
    gold (Gold): What is right at each.
    actions (Actions): The actions.
    n_moves (int): Tokens of a stretch; 0 if Docs are not cut.
    RETURNS (Starts): The states.
    RAISES (ValueError): If what is right cannot be reached by any actions.
    """
    found: List[Tuple[int, int, int]] = []
    begin = 0
    for reference in references:
        n_tokens = len(reference.gold.kinds)
        end = begin + n_tokens
        if reference.says_anything and not 0 < n_moves <= n_tokens:
            found.append((begin, NO_LABEL, begin))
        elif reference.says_anything:
            states = _walk_right(begin, end, n_moves, tokens, gold, actions)
            if not len(states):
                raise ValueError(SpacyErrors.E024)
            for token, label, first in states.tolist():
                start, stop = token - begin, token - begin + n_moves
                # spaCy leaves out the last token here.
                if reference.says(start, stop if stop < n_tokens else -1):
                    found.append((token, label, first))
        begin = end
    return Starts(*np.array(found, dtype=np.int64).reshape(-1, 3).T)


# -- Gradients ----------------------------------------------------------------------


def backprop_lower(lower: Model, hidden: Floats, gradient: Sums) -> Any:
    """Add to the gradient of the layer that scores are made by.

    lower (Model): The layer.
    hidden (Floats): One row for each token. Shape `(total, nI)`.
    gradient (Sums): The gradient of what is summed.
    RETURNS (Floats2d): The gradient of `hidden`.
    """
    gemm: Any = lower.ops.gemm
    weights: Any = lower.get_param("W")
    padding: Any = gradient.products[0]
    products = gradient.products[1:].reshape(len(hidden), -1)
    seen = hidden
    if not np.isfinite(hidden).all():
        # As in spaCy, tokens that nothing was learned from do not count. In a product
        # over all tokens they would: 0 times infinity is NaN.
        seen = np.where(products.any(axis=1, keepdims=True), hidden, 0.0)
    d_weights = gemm(products, seen, trans1=True).reshape(weights.shape)
    # What spaCy adds for a token that is not there: it looks the token up at -1, and
    # so finds the last one.
    d_weights += padding[..., None] * hidden[-1]
    lower.inc_grad("W", d_weights)
    lower.inc_grad("b", cast(Any, gradient.bias))
    lower.inc_grad("pad", padding[None])
    return gemm(products, weights.reshape(products.shape[1], -1))


# -- Compiled -----------------------------------------------------------------------


@compiled
def _is_sunk(gold: Gold, open_label: int, first: int) -> bool:
    """RETURNS (bool): Whether the open entity is wrong, whatever comes."""
    kind = gold.kinds[first]
    return (kind != BEGIN and kind != UNIT) or gold.labels[first] != open_label


@compiled
def _is_wrong(
    kind: int, label: int, token: int, rules: Rules, first: int, ends: bool, gold: Gold
) -> bool:
    """Whether an action adds a mistake: loses an entity, or begins a wrong one.

    kind, label (int): The action.
    token (int): The current token.
    rules (Rules): What is allowed at it.
    first (int): The first token of the open entity.
    ends (bool): Whether the token is the last of its Doc.
    gold (Gold): What is right.
    RETURNS (bool): Whether that is so.
    """
    right = gold.kinds[token]
    if right == MISSING:
        return False
    if kind == OUT:
        return right in (BEGIN, UNIT)
    if kind in (BEGIN, UNIT):
        return right != kind or label != gold.labels[token]
    if kind == LAST:
        return right == IN and not _is_sunk(gold, rules.open_label, first)
    if right in (BEGIN, IN):
        return False
    next_right = OUT if ends else gold.kinds[token + 1]
    if right == UNIT:
        return next_right != OUT
    if next_right != OUT and next_right != MISSING:
        return True
    return right == LAST and not _is_sunk(gold, rules.open_label, first)


@compiled
def _walk_right(
    begin: int, end: int, every: int, tokens: Tokens, gold: Gold, actions: Actions
) -> np.ndarray:
    """Walk through a Doc by right actions: at each token, the first that is right.

    begin, end (int): The Doc, among all tokens.
    every (int): After how many tokens a state is kept.
    tokens (Tokens): All tokens.
    gold (Gold): What is right.
    actions (Actions): The actions.
    RETURNS (np.ndarray): Of each state: the token, the label and the first token of the
        open entity. Shape `(n, 3)`, int64. No rows if some token has no right action.
    """
    states = np.empty(((end - begin + every - 1) // every, 3), dtype=np.int64)
    open_label, first = NO_LABEL, begin
    for token in range(begin, end):
        if (token - begin) % every == 0:
            states[(token - begin) // every] = token, open_label, first
        rules = read_rules(tokens, token, open_label)
        found = False
        for action in range(actions.kinds.shape[0]):
            kind, label = actions.kinds[action], actions.labels[action]
            if is_allowed(kind, label, rules) and not _is_wrong(
                kind, label, token, rules, first, tokens.ends[token], gold
            ):
                open_label, first = follow(kind, label, token, open_label, first)
                found = True
                break
        if not found:
            return states[:0]
    return states


@compiled
def _learn(
    starts: Starts,
    n_moves: int,
    sums: Sums,
    tokens: Tokens,
    gold: Gold,
    actions: Actions,
    gradient: Sums,
) -> float:
    """Walk as the recognizer would, and learn from each step.

    starts (Starts): Where it sets out.
    n_moves (int): It takes one step more than this; 0 if it goes on until the Doc ends.
    sums (Sums): What scores are the sums of.
    tokens (Tokens): All tokens.
    gold (Gold): What is right.
    actions (Actions): The actions.
    gradient (Sums): Of `sums`. It is added to.
    RETURNS (float): The loss: the sum of the squares of the gradient of all scores.
    """
    n_actions = sums.bias.shape[0]
    loss = 0.0
    scores = np.empty(n_actions, dtype=np.float32)
    d_scores = np.empty(n_actions, dtype=np.float32)
    pieces = np.empty(n_actions, dtype=np.int64)
    allowed = np.empty(n_actions, dtype=np.bool_)
    wrong = np.empty(n_actions, dtype=np.bool_)
    for i in range(starts.tokens.shape[0]):
        token, open_label, first = starts.tokens[i], starts.labels[i], starts.firsts[i]
        for _ in range(n_moves + 1 if n_moves else tokens.ends.shape[0]):
            # The rows of the three tokens; that of one that is not there is 0.
            is_open = open_label != NO_LABEL
            rows = (token + 1, first + 1 if is_open else 0, token if is_open else 0)
            _score(rows, sums, scores, pieces)
            rules = read_rules(tokens, token, open_label)
            for action in range(n_actions):
                kind, label = actions.kinds[action], actions.labels[action]
                allowed[action] = is_allowed(kind, label, rules)
                wrong[action] = _is_wrong(
                    kind, label, token, rules, first, tokens.ends[token], gold
                )
            loss += _differentiate(scores, allowed, wrong, d_scores)
            for action in range(n_actions):
                piece = pieces[action]
                gradient.bias[action, piece] += d_scores[action]
                for feature in range(3):
                    gradient.products[rows[feature], feature, action, piece] += (
                        d_scores[action]
                    )
            best = _best(scores, allowed)
            # spaCy gives up, too.
            if best == -1 or tokens.ends[token]:
                break
            kind, label = actions.kinds[best], actions.labels[best]
            open_label, first = follow(kind, label, token, open_label, first)
            token += 1
    return loss


@compiled
def _score(
    rows: Tuple[int, int, int], sums: Sums, scores: np.ndarray, pieces: np.ndarray
) -> None:
    """Score all actions.

    rows (Tuple[int, int, int]): The rows of the three tokens in `sums.products`.
    sums (Sums): What scores are the sums of.
    scores (np.ndarray): Where to write the scores. Shape `(n_actions,)`, float32.
    pieces (np.ndarray): Where to write which piece each is. Shape `(n_actions,)`.
    """
    current, first, previous = rows
    for action in range(sums.bias.shape[0]):
        for piece in range(sums.bias.shape[1]):
            value = sums.products[current, 0, action, piece]
            value = value + sums.products[first, 1, action, piece]
            value = value + sums.products[previous, 2, action, piece]
            value = value + sums.bias[action, piece]
            if piece == 0 or value > scores[action]:
                scores[action] = value
                pieces[action] = piece


@compiled
def _best(scores: np.ndarray, allowed: np.ndarray) -> int:
    """RETURNS (int): The action with the highest score of those that are allowed, the
    first of several; -1 if there is none.
    """
    best = -1
    for action in range(scores.shape[0]):
        if allowed[action] and (best == -1 or scores[action] > scores[best]):
            best = action
    return best


@compiled
def _differentiate(
    scores: np.ndarray, allowed: np.ndarray, wrong: np.ndarray, d_scores: np.ndarray
) -> float:
    """Compute the gradient of the loss of one step with respect to the scores. The loss
    is the negative logarithm of the probability of all right actions together, by a
    softmax over all actions. If no allowed action is right, all of them count as right.

    scores (np.ndarray): Shape `(n_actions,)`, float32.
    allowed, wrong (np.ndarray): Which actions are. Shape `(n_actions,)`, bool. `wrong`
        means nothing for an action that is not allowed.
    d_scores (np.ndarray): Where to write the gradient. Shape `(n_actions,)`, float32.
    RETURNS (float): The sum of its squares.
    """
    n_actions = scores.shape[0]
    right = allowed & ~wrong
    if not right.any():
        right = allowed
    best = _best(scores, right)
    if best == -1:
        d_scores[:] = 0
        return 0.0
    highest = scores.max()
    total = total_right = 1e-10
    for action in range(n_actions):
        total += np.exp(np.float64(scores[action] - highest))
        if right[action]:
            total_right += np.exp(np.float64(scores[action] - scores[best]))
    loss = 0.0
    for action in range(n_actions):
        value = np.exp(np.float64(scores[action] - highest)) / total
        if right[action]:
            value -= np.exp(np.float64(scores[action] - scores[best])) / total_right
        d_scores[action] = value
        loss += value * value
    return loss
