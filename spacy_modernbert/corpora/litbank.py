"""LitBank: 100 works of English fiction, about 2,000 words of each.

https://github.com/dbamman/litbank, folder `entities/brat`. The labels are the six
categories of ACE 2005 that LitBank annotates, for names ("Tom Sawyer") and for
common nouns ("the boy") alike; pronouns are not annotated. Entities nest ("[James
Stevenson , Esq. of [South Park]]"): the outermost is kept. The text is LitBank's, with
spaces between its tokens, and stays so.
"""

from pathlib import Path, PurePosixPath
from typing import Mapping, Sequence, Set

from .brat import parse_brat
from .convert import ConvertedCorpus, convert
from .files import decode, load_files
from .raw import RawDocument
from .splits import LITBANK, check_splits

LABELS = ("PER", "FAC", "GPE", "LOC", "VEH", "ORG")
# `{}` is the name of a document
_ANNOTATIONS = "entities/brat/{}_brat.ann"
TEXT = "entities/brat/{}_brat.txt"


def convert_litbank(
    source: Path, splits: Mapping[str, Sequence[str]] = LITBANK
) -> ConvertedCorpus:
    """Convert the entities of LitBank.

    source (Path): A checkout of the repository, or a tar archive of one.
    splits (Mapping[str, Sequence[str]]): The works of each split, by name.
    RETURNS (ConvertedCorpus): A Doc for each work, by the name of its files, such
        as `105_persuasion`.
    RAISES (FileNotFoundError): If something is missing.
    RAISES (ValueError): If a file is not what it should be, or a work is not in
        exactly one split.
    """
    files = load_files(source, (_ANNOTATIONS.format("*"), TEXT.format("*")))
    check_splits("litbank", splits, _names(files))

    def read(name: str) -> RawDocument:
        path = _ANNOTATIONS.format(name)
        annotations = parse_brat(decode(files, path), path)
        return RawDocument(name, decode(files, TEXT.format(name)), tuple(annotations))

    return convert("litbank", LABELS, splits, read)


def _names(files: Mapping[str, bytes]) -> Set[str]:
    stems = (PurePosixPath(path).stem for path in files)
    return {stem[: -len("_brat")] for stem in stems}
