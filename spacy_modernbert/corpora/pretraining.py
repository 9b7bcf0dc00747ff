"""Raw text to pretrain an encoder on: the novels that LitBank takes its passages from,
and the training articles of CRAFT.

What an encoder was pretrained on, it may not be tested on. So the articles of CRAFT's
dev and test sets are left out, and so are the passages that LitBank's dev and test sets
annotate: each is cut out of its novel.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Dict, List, Mapping, Tuple

from ..atomic import replacing
from ..errors import Errors
from . import craft, litbank
from .files import decode, load_files
from .splits import LITBANK

_NOVEL = "original/{}.txt"

# One in this many works is held out, to see how well masked wordpieces are predicted.
_HELD_OUT_NOVELS = 25
_HELD_OUT_ARTICLES = 20

_NOT_A_LETTER = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class RawText:
    """A text without annotations.

    id (str): The name of the work in its corpus.
    text (str): The text.
    """

    id: str
    text: str


@dataclass(frozen=True)
class RawCorpus:
    """Texts to pretrain on.

    train (Tuple[RawText, ...]): What to learn from.
    dev (Tuple[RawText, ...]): Whole works that are held out.
    cuts (Mapping[str, int]): For each passage that is tested on, by the name of its
        novel, out of how many works it was cut.

    Invariant: no work is in both `train` and `dev`.
    """

    train: Tuple[RawText, ...]
    dev: Tuple[RawText, ...]
    cuts: Mapping[str, int]

    def write(self, output: Path) -> None:
        """Write `train.jsonl` and `dev.jsonl`, a text a line, as `spacy pretrain` reads
        them. Each is written beside its place and then renamed.

        output (Path): The folder.
        """
        for name, texts in (("train", self.train), ("dev", self.dev)):
            path = output / f"{name}.jsonl"
            with replacing(path) as fresh, open(fresh, "w", encoding="utf8") as file:
                for each in texts:
                    line = {"text": each.text, "meta": {"id": each.id}}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")


def gather_raw_texts(novels: Path, passages: Path, articles: Path) -> RawCorpus:
    """Gather the texts.

    novels (Path): A checkout of LitBank's repository, or a tar archive of one, for its
        folder `original`.
    passages (Path): Likewise, for its folder `entities/brat`. May be the same.
    articles (Path): A checkout of CRAFT's repository, or a tar archive of one.
    RETURNS (RawCorpus): The texts.
    RAISES (FileNotFoundError): If something is missing.
    RAISES (ValueError): If a passage is not found in its novel.
    """
    works, cuts = _read_novels(novels, passages)
    papers = _read_articles(articles)
    train: List[RawText] = []
    dev: List[RawText] = []
    for texts, every in ((works, _HELD_OUT_NOVELS), (papers, _HELD_OUT_ARTICLES)):
        for i, each in enumerate(texts):
            (dev if i % every == every - 1 else train).append(each)
    return RawCorpus(tuple(train), tuple(dev), cuts)


def cut_out(text: str, passage: str, name: str) -> str:
    """Cut a passage out of a text. Only letters and digits are compared: an annotated
    passage is spaced and quoted in its own way.

    text (str): The text.
    passage (str): The passage.
    name (str): What a message calls them.
    RETURNS (str): The text without it.
    RAISES (ValueError): If it is not there.
    """
    # Where each letter of the text stands.
    places = [match.start() for match in re.finditer(r"[^\W_]", text)]
    wanted = _letters(passage)
    first = _letters(text).find(wanted)
    if not wanted or first < 0:
        raise ValueError(Errors.CORPUS_PASSAGE_NOT_FOUND.format(document=name))
    start, end = places[first], places[first + len(wanted) - 1] + 1
    return text[:start] + text[end:]


def _read_novels(novels: Path, passages: Path) -> Tuple[List[RawText], Dict[str, int]]:
    texts = load_files(novels, (_NOVEL.format("*"),))
    held_out = {
        source: (passage, _letters(passage))
        for source, passage in _read_held_out(passages).items()
    }
    works = []
    cuts = dict.fromkeys(held_out, 0)
    for name in _names(texts):
        text = decode(texts, _NOVEL.format(name))
        letters = _letters(text)
        for source, (passage, wanted) in held_out.items():
            # The novel may have another name here than in LitBank.
            if source == name or wanted in letters:
                text = cut_out(text, passage, source)
                cuts[source] += 1
        works.append(RawText(name, text))
    return works, cuts


def _read_held_out(passages: Path) -> Dict[str, str]:
    """RETURNS (Dict[str, str]): The passages that LitBank's dev and test sets annotate,
    by the names of their novels.
    """
    names = sorted({*LITBANK["dev"], *LITBANK["test"]})
    files = load_files(passages, tuple(litbank.TEXT.format(name) for name in names))
    return {name: decode(files, litbank.TEXT.format(name)) for name in names}


def _read_articles(articles: Path) -> List[RawText]:
    ids = craft.IDS.format(split="train")
    files = load_files(articles, (ids, craft.TEXT.format(name="*")))
    names = sorted(decode(files, ids).split())
    return [
        RawText(name, decode(files, craft.TEXT.format(name=name))) for name in names
    ]


def _letters(text: str) -> str:
    return _NOT_A_LETTER.sub("", text)


def _names(files: Mapping[str, bytes]) -> List[str]:
    return sorted(PurePosixPath(path).stem for path in files)
