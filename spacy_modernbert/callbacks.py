"""Registered callbacks: what is set on a pipeline when it is made."""

from typing import Callable

from spacy.language import Language

from .checks import is_int
from .errors import Errors

MAX_LENGTH = "spacy-modernbert.max_length.v1"


def max_length_v1(max_length: int) -> Callable[[Language], Language]:
    """Create a callback for `[nlp.after_creation]` that lets a pipeline read texts of
    more than a million characters, spaCy's limit. A config has no other place for
    `nlp.max_length`, so neither `spacy train` nor a pipeline that is loaded would know
    of one. Registered as `spacy-modernbert.max_length.v1`.

    max_length (int): The most characters of a text.
    RETURNS (Callable[[Language], Language]): The callback.
    RAISES (ValueError): If the number is not positive.
    """
    if not is_int(max_length) or max_length < 1:
        raise ValueError(Errors.BAD_MAX_LENGTH.format(value=max_length))

    def set_max_length(nlp: Language) -> Language:
        nlp.max_length = max_length
        return nlp

    return set_max_length
