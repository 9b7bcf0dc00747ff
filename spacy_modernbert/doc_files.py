"""Docs from files."""

import zlib
from pathlib import Path
from typing import List, Optional

from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab

from .errors import Errors


def read_docs(path: Path, vocab: Optional[Vocab] = None) -> List[Doc]:
    """Read the documents of a `.spacy` file, whatever its name.

    path (Path): The file.
    vocab (Optional[Vocab]): The vocabulary of the documents; None for a new one.
    RETURNS (List[Doc]): The documents.
    RAISES (ValueError): If it is damaged.
    """
    # A vocabulary without any word is falsy.
    vocab = Vocab() if vocab is None else vocab
    try:
        return list(DocBin().from_disk(path).get_docs(vocab))
    except (zlib.error, ValueError, KeyError, TypeError) as error:
        why = str(error).rstrip(".")
        raise ValueError(Errors.BAD_DOCBIN.format(path=path, error=why)) from error
