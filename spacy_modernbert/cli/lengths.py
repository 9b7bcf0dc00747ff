"""`python -m spacy modernbert lengths`: how long documents are, and what fits."""

import json
import os
import statistics
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import typer
from wasabi import msg

from ..atomic import check_outputs, write_text
from ..console import shown_command
from ..doc_files import find_doc_files, read_docs
from ..documents.wordpieces import WordpieceTokenizer
from ..encoder.checkpoint import TOKENIZER
from ..encoder.hub import resolve_tokenizer
from ..errors import Errors
from ..raw_texts import read_texts

WINDOWS = (512, 2048, 8192)

# Texts that are tokenized at a time.
_TEXTS = 64


def lengths(
    files: List[Path] = typer.Argument(  # noqa: B008
        ...,
        help=".spacy, .jsonl or .txt files with documents, or folders of .spacy files",
        show_default=False,
    ),
    tokenizer: str = typer.Option(
        "answerdotai/ModernBERT-base",
        help="The encoder: a folder, a tokenizer.json, or a Hugging Face hub id",
    ),
    windows: List[int] = typer.Option(  # noqa: B008
        list(WINDOWS), "--window", min=3, help="Wordpieces of a window; repeatable"
    ),
    output: Optional[Path] = typer.Option(  # noqa: B008
        None, "--output", "-o", help="JSON file to write the numbers to"
    ),
) -> None:
    """Show how many wordpieces documents have, and how many of the documents fit whole
    into a window of the encoder.
    """
    try:
        own = Path(os.path.expanduser(tokenizer))
        read = [each for path in files for each in find_doc_files(path)]
        check_outputs([output], [*read, own, own / TOKENIZER])
        found = measure(files, tokenizer, windows)
        if output is not None:
            write_text(output, json.dumps(found, indent=1) + "\n")
    except (OSError, ValueError) as error:
        msg.fail(str(error), exits=1)
    _print(found)
    if output is not None:
        msg.good(f"Wrote {output}")


def measure(
    files: Sequence[Path], tokenizer: str, windows: Sequence[int]
) -> Dict[str, Any]:
    """Measure documents.

    files (Sequence[Path]): Where they are: see `read_texts`.
    tokenizer (str): A folder, a `tokenizer.json`, or a hub id.
    windows (Sequence[int]): The wordpieces of windows, special ones counted.
    RETURNS (Dict[str, Any]): JSON-serializable: the lengths in wordpieces, special ones
        not counted, and in spaCy's tokens, if all files have those; and how many
        documents fit into each window.
    RAISES (ValueError): If a file cannot be read, or there are no documents.
    """
    texts, n_tokens = _read(files)
    if not texts:
        names = ", ".join(map(str, files))
        raise ValueError(Errors.NO_TEXT.format(path=names))
    found = WordpieceTokenizer.from_file(resolve_tokenizer(tokenizer))
    n_pieces = [
        len(ids)
        for start in range(0, len(texts), _TEXTS)
        for ids in found.ids(texts[start : start + _TEXTS])
    ]
    words = ["python", "-m", "spacy", "modernbert", "lengths", *map(str, files)]
    words += ["--tokenizer", tokenizer]
    for window in windows:
        words += ["--window", str(window)]
    return {
        "command": shown_command(words),
        "documents": len(texts),
        "tokens": _describe(n_tokens) if n_tokens else None,
        "wordpieces": _describe(n_pieces),
        "fit": {
            str(window): sum(n + found.n_special <= window for n in n_pieces)
            for window in windows
        },
    }


def _describe(lengths: Sequence[int]) -> Dict[str, float]:
    """RETURNS (Dict[str, float]): Of all documents together, the shortest, the one in
    the middle and the longest.
    """
    return {
        "total": sum(lengths),
        "least": min(lengths),
        "median": statistics.median(lengths),
        "most": max(lengths),
    }


def _read(files: Sequence[Path]) -> Tuple[List[str], List[int]]:
    """RETURNS (Tuple[List[str], List[int]]): The texts, and the tokens of each; no
    numbers of tokens if a file has just texts.
    """
    texts: List[str] = []
    n_tokens: List[int] = []
    for path in files:
        if path.is_dir() or (path.suffix == ".spacy" and path.is_file()):
            docs = [doc for doc in read_docs(path) if doc.text.strip()]
            texts += [doc.text for doc in docs]
            n_tokens += map(len, docs)
        else:
            texts += read_texts(path)
    return texts, n_tokens if len(n_tokens) == len(texts) else []


def _print(found: Dict[str, Any]) -> None:
    n_documents = found["documents"]
    msg.text(f"{n_documents:,} documents")
    rows = [
        (unit, *(f"{length:,.0f}" for length in found[unit].values()))
        for unit in ("tokens", "wordpieces")
        if found[unit]
    ]
    header = ("", "all", "shortest", "median", "longest")
    msg.table(rows, header=header, divider=True, aligns=("l", *"rrrr"))
    for window, n_fit in found["fit"].items():
        share = 100 * n_fit / n_documents
        msg.text(f"a window of {int(window):,} holds {n_fit:,} whole ({share:.0f} %)")
