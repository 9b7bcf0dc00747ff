"""The transition system of spaCy's named entity recognizer, over flat arrays.

spaCy walks over the tokens with a parser state and asks it, for each token and each
action, whether the action is allowed; that takes longer than some encoders do. This
module answers the same question for code that Numba compiles, by the rules of
`spacy/pipeline/_parser_internals/ner.pyx`. A state is the open entity, if there is one,
and the token that it has come to.

Importing this module imports Numba, which the extra `fast` installs.
"""

import hashlib
from pathlib import Path
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

import numba
import numpy as np
from spacy.attrs import ENT_IOB, ENT_TYPE, IS_SPACE, SENT_START
from spacy.pipeline._parser_internals.ner import BiluoPushDown
from spacy.strings import get_string_id
from spacy.tokens import Doc

# Kinds of action, and of `Token.ent_iob`. Numba compiles them in as constants.
BEGIN, IN, LAST, UNIT, OUT = range(5)
KINDS = {"B": BEGIN, "I": IN, "L": LAST, "U": UNIT, "O": OUT}
IOB_MISSING, IOB_INSIDE, IOB_OUTSIDE, IOB_BEGIN = range(4)
# The label of actions and tokens that have none. Other labels are counted from 1.
NO_LABEL = 0
# Which labels an action is allowed with.
NONE, PRESET, ANY = range(3)


def _digest_rules() -> str:
    """RETURNS (str): A digest of this file, which changes with the rules in it."""
    try:
        return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    except OSError:  # within an archive, where Numba keeps nothing
        return ""


_RULES = _digest_rules()


class Actions(NamedTuple):
    """The actions of a transition system. An action's number is that of its score.

    kinds (np.ndarray): Kind of each action. Shape `(n_actions,)`, int64.
    labels (np.ndarray): Its label, counted from 1. Shape `(n_actions,)`, int64.
    outside (np.ndarray): The actions that may be allowed when no entity is open, in
        order: of equal scores the first one wins. int64.
    inside (np.ndarray): Likewise, when one is open. int64.
    """

    kinds: np.ndarray
    labels: np.ndarray
    outside: np.ndarray
    inside: np.ndarray


class Tokens(NamedTuple):
    """The tokens of all Docs, end to end. All have the shape `(total,)`.

    iob (np.ndarray): `Token.ent_iob` before decoding. int8.
    labels (np.ndarray): The label of `Token.ent_type` before decoding. int64.
    starts (np.ndarray): Whether a sentence is known to start. bool.
    spaces (np.ndarray): Whether the token is whitespace. bool.
    ends (np.ndarray): Whether the token is the last of its Doc. bool.
    """

    iob: np.ndarray
    labels: np.ndarray
    starts: np.ndarray
    spaces: np.ndarray
    ends: np.ndarray


class Rules(NamedTuple):
    """What is allowed at a token.

    open_label (int): The label of the open entity; NO_LABEL if none is open.
    preset (int): The label that the token had before decoding.
    may_block (bool): Whether it may stay outside because the Doc already says so.
    may_begin, may_unit (int): With which labels an entity may begin, or begin and end.
    may_out (bool): Whether it may be outside.
    may_go_on (bool): Whether the open entity may go on.
    last_label (int): The label whose action may end it; NO_LABEL if it may not end.
    """

    open_label: int
    preset: int
    may_block: bool
    may_begin: int
    may_unit: int
    may_out: bool
    may_go_on: bool
    last_label: int


def read_actions(moves: BiluoPushDown) -> Tuple[Actions, List[int]]:
    """RETURNS (Tuple[Actions, List[int]]): The actions, and the hashes of the labels:
    that of label `i` at `i - 1`.
    """
    names = [moves.get_class_name(i) for i in range(moves.n_moves)]
    split = [name.partition("-") for name in names]
    numbers = {"": NO_LABEL}
    for _, _, label in split:
        numbers.setdefault(label, len(numbers))
    kinds = np.array([KINDS[kind] for kind, _, _ in split], dtype=np.int64)
    labels = np.array([numbers[label] for _, _, label in split], dtype=np.int64)
    # A unit without label stands for a token that is not to be in an entity.
    blocking = (kinds == UNIT) & (labels == NO_LABEL)
    named = labels != NO_LABEL
    outside = (named & ((kinds == BEGIN) | (kinds == UNIT))) | (kinds == OUT) | blocking
    inside = (named & ((kinds == IN) | (kinds == LAST))) | blocking
    actions = Actions(kinds, labels, np.flatnonzero(outside), np.flatnonzero(inside))
    return actions, [get_string_id(label) for label in numbers if label]


def knows_label(actions: Actions, number: int) -> bool:
    """RETURNS (bool): Whether the label of this number has all of its actions."""
    return set(actions.kinds[actions.labels == number]) == {BEGIN, IN, LAST, UNIT}


def read_tokens(
    docs: Sequence[Doc], labels: Sequence[int], actions: Actions
) -> Optional[Tokens]:
    """Read what the rules ask of tokens.

    docs (Sequence[Doc]): The Docs; not all of them empty.
    labels (Sequence[int]): Hashes of the labels.
    actions (Actions): The actions.
    RETURNS (Optional[Tokens]): The tokens of all Docs; None if one has a label that
        the recognizer does not know, and would have to be enlarged by.
    """
    attributes = [ENT_IOB, ENT_TYPE, SENT_START, IS_SPACE]
    table = np.concatenate([doc.to_array(attributes) for doc in docs])
    preset = np.zeros(len(table), dtype=np.int64)
    for label in np.unique(table[:, 1][table[:, 1] != 0]).tolist():
        number = labels.index(label) + 1 if label in labels else NO_LABEL
        if not knows_label(actions, number):
            return None
        preset[table[:, 1] == label] = number
    lengths = np.array([len(doc) for doc in docs])
    ends = np.zeros(len(table), dtype=bool)
    ends[np.cumsum(lengths)[lengths > 0] - 1] = True
    iob, _, starts, spaces = table.T
    return Tokens(iob.astype(np.int8), preset, starts == 1, spaces != 0, ends)


def compiled(function: Callable, **options: Any) -> Callable:
    """RETURNS (Callable): The function, compiled when it is first called. The result
    is kept on disk, unless there is no folder for it.
    """
    try:
        found = numba.njit(nogil=True, cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(nogil=True, **options)(function)
    # Numba recompiles a function if its own file has changed, but not if the files of
    # functions that it calls have, which are in this one (`limitations` in
    # https://numba.readthedocs.io/en/stable/developer/caching.html). So the cache also
    # depends on a digest of this file.
    cache = getattr(found, "_cache", None)  # with NUMBA_DISABLE_JIT, there is none
    if cache is not None:
        cache._cache_file._source_stamp = (cache._cache_file._source_stamp, _RULES)
    return found


@compiled
def read_rules(tokens: Tokens, token: int, open_label: int) -> Rules:
    """Say what is allowed. An entity that was there before is kept, even if it is
    whitespace or goes beyond a sentence, and no other may overlap it.

    tokens (Tokens): All tokens.
    token (int): The current one.
    open_label (int): The label of the open entity; NO_LABEL if none is open.
    RETURNS (Rules): The rules.
    """
    is_last = tokens.ends[token]
    iob = tokens.iob[token]
    preset = tokens.labels[token]
    next_iob = IOB_MISSING if is_last else tokens.iob[token + 1]
    next_starts = False if is_last else tokens.starts[token + 1]
    may_block = iob == IOB_BEGIN and preset == NO_LABEL
    may_begin = may_unit = NONE
    may_out = may_go_on = False
    last_label = NO_LABEL
    if open_label == NO_LABEL:
        if is_last or iob == IOB_INSIDE:
            may_begin = NONE
        elif iob == IOB_BEGIN:
            may_begin = PRESET if next_iob == IOB_INSIDE else NONE
        elif next_iob == IOB_BEGIN or next_starts or tokens.spaces[token]:
            may_begin = NONE
        else:
            may_begin = ANY
        if next_iob == IOB_INSIDE:
            may_unit = NONE
        elif iob == IOB_BEGIN:
            may_unit = PRESET
        else:
            may_unit = NONE if tokens.spaces[token] else ANY
        may_out = iob != IOB_BEGIN and iob != IOB_INSIDE
    else:
        may_go_on = (
            not is_last
            and iob != IOB_BEGIN
            and next_iob != IOB_BEGIN
            and (
                next_iob == IOB_INSIDE and preset == open_label
                if iob == IOB_INSIDE
                else not next_starts
            )
        )
        # Where an entity that was there before ends, this one ends with it, by an
        # action with the label of the former.
        if iob == IOB_INSIDE and next_iob != IOB_INSIDE:
            last_label = preset
        else:
            last_label = NO_LABEL if next_iob == IOB_INSIDE else open_label
    return Rules(
        open_label,
        preset,
        may_block,
        may_begin,
        may_unit,
        may_out,
        may_go_on,
        last_label,
    )


@compiled
def is_allowed(kind: int, label: int, rules: Rules) -> bool:
    """RETURNS (bool): Whether rules allow an action of some kind and label."""
    if label == NO_LABEL:
        return rules.may_out if kind == OUT else kind == UNIT and rules.may_block
    if kind in (BEGIN, UNIT):
        may = rules.may_begin if kind == BEGIN else rules.may_unit
        return may == ANY or (may == PRESET and label == rules.preset)
    if kind == IN:
        return rules.may_go_on and label == rules.open_label
    return label == rules.last_label


@compiled
def follow(
    kind: int, label: int, token: int, open_label: int, first: int
) -> Tuple[int, int]:
    """Take an action.

    kind (int): Its kind.
    label (int): Its label.
    token (int): The current token.
    open_label (int): The label of the open entity; NO_LABEL if none is open.
    first (int): The first token of the open entity.
    RETURNS (Tuple[int, int]): The label and the first token of the entity that is open
        afterwards.
    """
    if kind == BEGIN:
        return label, token
    if kind in (LAST, UNIT):
        return NO_LABEL, first
    return open_label, first
