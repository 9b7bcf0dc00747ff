"""Texts for pipelines: of real corpora, and of a given length."""

import json
import re
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

import numpy as np
from tokenizers import Tokenizer

from spacy_modernbert.atomic import write_text
from spacy_modernbert.corpora.convert import ConvertedCorpus
from spacy_modernbert.corpora.craft import convert_craft
from spacy_modernbert.corpora.litbank import convert_litbank
from spacy_modernbert.corpora.roster import Stage, generate

_CONVERTERS: Dict[str, Callable[[Path], ConvertedCorpus]] = {
    "litbank": convert_litbank,
    "craft": convert_craft,
}


def read_corpus(name: str, folder: Path, n_documents: Optional[int]) -> List[str]:
    """Read the texts of a corpus.

    name (str): "litbank" or "craft".
    folder (Path): Where its archive lies, under a name that begins with that.
    n_documents (Optional[int]): How many to take, from the first one on; None for all.
    RETURNS (List[str]): The texts.
    RAISES (FileNotFoundError): If there is no archive.
    """
    corpus = _CONVERTERS[name](find_archive(name, folder))
    docs = [doc for split in corpus.splits.values() for doc in split]
    return [doc.text for doc in docs[:n_documents]]


def find_archive(name: str, folder: Path) -> Path:
    """Find the archive of a corpus.

    name (str): "litbank" or "craft".
    folder (Path): Where it lies, under a name that begins with that.
    RETURNS (Path): The archive.
    RAISES (FileNotFoundError): If there is none.
    """
    found = sorted(folder.glob(f"{name}*"))
    if not found:
        raise FileNotFoundError(
            f"No archive {name}* in {folder}. Fetch it with `python -m spacy project "
            "assets . --extra`, or name another folder with --corpora."
        )
    return found[0]


def generate_texts() -> List[str]:
    """RETURNS (List[str]): For a tokenizer to learn where there is no corpus."""
    stage = Stage(5000, min_words=500, max_words=1000, words_per_name=40)
    return [document.text for document in generate("any", [stage], seed=[0])]


def read_tokenizer(path: Path) -> Tokenizer:
    """RETURNS (Tokenizer): That of a `tokenizer.json`. It gives all wordpieces of a
    text, and no others, whatever the file says.
    """
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def make_text(tokenizer: Path, length: int, seed: int = 0) -> str:
    """Make a text of as many wordpieces as wanted.

    tokenizer (Path): A `tokenizer.json`.
    length (int): Wordpieces, `[CLS]` and `[SEP]` included.
    seed (int): For the choice of the words.
    RETURNS (str): Sentences of random words, each a single wordpiece.
    """
    model = read_tokenizer(tokenizer)
    words = sorted(
        word[1:] for word in model.get_vocab() if re.fullmatch("Ġ[a-z]{2,}", word)
    )
    rng = np.random.default_rng([seed, length])
    drawn = [words[i] for i in rng.integers(len(words), size=length)]
    for i in range(19, length, 20):
        drawn[i] += "."
    for i in range(199, length, 200):
        drawn[i] += "\n\n"
    # A full stop is a wordpiece, too: cut until it fits, and fill up.
    n_words = length
    while n_words and len(model.encode(_join(drawn[:n_words]))) > length:
        excess = len(model.encode(_join(drawn[:n_words]))) - length
        n_words -= max(1, excess // 2)
    text = _join(drawn[:n_words])
    while len(model.encode(text)) < length:
        text += f" {words[0]}"
    return text


def write_texts(path: Path, texts: Sequence[str]) -> Path:
    """RETURNS (Path): A file that the jobs of pipelines read."""
    write_text(path, json.dumps(list(texts)))
    return path


def _join(words: Sequence[str]) -> str:
    return " ".join(words)
