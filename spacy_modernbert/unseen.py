"""Actions of a recognizer that have not been seen since they were added: which they are
is saved with it.
"""

from contextlib import contextmanager
from typing import Iterator, List

from spacy.pipeline.transition_parser import Parser

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
    that a recognizer has loaded.
    """
    unseen: List[int] = pipe.cfg.pop(_UNSEEN, [])
    return unseen
