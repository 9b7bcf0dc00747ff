"""Raw texts from files: what an encoder learns its tokenizer and its weights from."""

from pathlib import Path
from typing import Callable, Dict, List

from .doc_files import read_docs
from .errors import Errors
from .text_files import JSONL, TextSource


def read_texts(path: Path) -> List[str]:
    """Read the texts of a file.

    path (Path): A `.jsonl` file with a "text" on each line, as `spacy pretrain` reads
        it, or `.ndjson`; a `.spacy` file, or a folder of them; or a `.txt` file, which
        is one text.
    RETURNS (List[str]): The texts, without empty ones. All line ends of a `.txt` file
        become line feeds.
    RAISES (ValueError): If there is no such file, or it is damaged or of an unknown
        kind.
    """
    if not path.exists():
        raise ValueError(Errors.NO_TEXTS.format(path=path))
    kind = ".spacy" if path.is_dir() else path.suffix.lower()
    if kind not in _READERS:
        known = ", ".join(_READERS)
        raise ValueError(Errors.UNKNOWN_TEXTS.format(path=path, known=known))
    texts = _READERS[kind](path)
    return [text for text in texts if text.strip()]


def _read_jsonl(path: Path) -> List[str]:
    source = TextSource(str(path), "text")
    return [source.text_of(record) for record in source.read()]


def _read_plain(path: Path) -> List[str]:
    try:
        # A byte order mark is no part of the text.
        return [path.read_text(encoding="utf-8-sig")]
    except UnicodeDecodeError as error:
        message = Errors.TEXTS_NOT_UTF8.format(path=path, error=error)
        raise ValueError(message) from error


_READERS: Dict[str, Callable[[Path], List[str]]] = {
    **dict.fromkeys(JSONL, _read_jsonl),
    ".spacy": lambda path: [doc.text for doc in read_docs(path)],
    ".txt": _read_plain,
}
