"""Docs from files."""

import warnings
from pathlib import Path
from typing import List, Optional

from spacy.tokens import Doc, DocBin
from spacy.training.corpus import FILE_TYPE, walk_corpus
from spacy.vocab import Vocab

from .errors import Errors


def find_doc_files(path: Path) -> List[Path]:
    """Find the files that documents are in, where spaCy's `Corpus` does.

    path (Path): A file, or a folder with `.spacy` files in it or in folders in it.
    RETURNS (List[Path]): The file itself, whatever its name; or those of the folder, in
        the order in which spaCy reads them.
    RAISES (ValueError): If it is a folder without such files.
    """
    if not path.is_dir():
        return [path]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are none: see below
        paths: List[Path] = walk_corpus(path, FILE_TYPE)
    if not paths:
        raise ValueError(Errors.NO_DOC_FILES.format(path=path))
    return paths


def read_docs(path: Path, vocab: Optional[Vocab] = None) -> List[Doc]:
    """Read the documents of a `.spacy` file, whatever its name, or of a folder of such
    files.

    path (Path): The file or the folder: see `find_doc_files`.
    vocab (Optional[Vocab]): The vocabulary of the documents; None for a new one.
    RETURNS (List[Doc]): The documents.
    RAISES (ValueError): If a file is damaged, or there is none in the folder.
    """
    # A vocabulary without any word is falsy.
    vocab = Vocab() if vocab is None else vocab
    return [doc for each in find_doc_files(path) for doc in _read_file(each, vocab)]


def _read_file(path: Path, vocab: Vocab) -> List[Doc]:
    data = path.read_bytes()
    try:
        return list(DocBin().from_bytes(data).get_docs(vocab))
    except MemoryError:
        raise
    except Exception as error:  # of any type, as spaCy checks little of a file
        why = str(error).rstrip(".") or type(error).__name__
        raise ValueError(Errors.BAD_DOCBIN.format(path=path, error=why)) from error
