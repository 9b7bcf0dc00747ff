"""Actions of a recognizer that have not been seen since they were added: which they are
is saved with it.
"""

from contextlib import contextmanager
from typing import Iterator, List

from spacy.pipeline.transition_parser import Parser

from .checks import is_int
from .errors import Errors

# A setting of saved recognizers.
_UNSEEN = "unseen_actions"


@contextmanager
def unseen_in_cfg(pipe: Parser) -> Iterator[None]:
    """Within this context, the settings of a recognizer, which are saved with it, name
    the actions that were added after training and have not been seen since. They have
    scores of zero, which count as lower than all others until then. Thinc does not save
    which they are, so that spaCy's `ner` takes them for trained ones when it is loaded.

    pipe (Parser): The recognizer.
    """
    unseen = sorted(pipe.model.attrs.get("unseen_classes", ()))
    if unseen:
        pipe.cfg[_UNSEEN] = unseen
    try:
        yield
    finally:
        pipe.cfg.pop(_UNSEEN, None)


def take_unseen(pipe: Parser) -> List[int]:
    """RETURNS (List[int]): The actions that have not been seen, out of the settings
    that a recognizer has loaded. See `check_unseen`.
    """
    unseen: List[int] = pipe.cfg.pop(_UNSEEN, [])
    return unseen


def check_unseen(pipe: Parser, unseen: List[int]) -> None:
    """Check the actions that have not been seen, which may be anything in a file.

    pipe (Parser): The recognizer, with its actions.
    unseen (List[int]): By number.
    RAISES (ValueError): If they are no actions of the recognizer.
    """
    n_moves = pipe.moves.n_moves
    if not isinstance(unseen, list) or not all(
        is_int(action) and 0 <= action < n_moves for action in unseen
    ):
        raise ValueError(
            Errors.BAD_UNSEEN.format(
                component=pipe.name, key=_UNSEEN, value=unseen, n_actions=n_moves
            )
        )
