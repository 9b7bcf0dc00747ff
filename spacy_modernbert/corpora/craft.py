"""CRAFT: 97 full articles of biology, annotated with the concepts of ontologies.

https://github.com/UCDenver-ccp/CRAFT, folders `articles` and `concept-annotation`.
The labels are the names of seven ontologies: chemicals (CHEBI), cells (CL), cellular
components (GO_CC), organisms (NCBITaxon), proteins and genes (PR), sequences (SO) and
anatomy (UBERON); of each the plain set, without the extension classes.
"""

from pathlib import Path, PurePosixPath
from typing import List, Mapping, Set

from .convert import ConvertedCorpus, convert
from .files import content, decode, load_files
from .knowtator import parse_knowtator
from .raw import Annotation, RawDocument
from .splits import SPLITS, check_splits

# In alphabetical order, which decides between annotations of the same span.
LABELS = ("CHEBI", "CL", "GO_CC", "NCBITaxon", "PR", "SO", "UBERON")
# The names of a split's documents (PubMed's numbers), one a line
IDS = "articles/ids/craft-ids-{split}.txt"
TEXT = "articles/txt/{name}.txt"
_ANNOTATIONS = "concept-annotation/{label}/{label}/knowtator/{name}.txt.knowtator.xml"


def convert_craft(source: Path) -> ConvertedCorpus:
    """Convert the concept annotations of CRAFT, in the official splits, which are
    part of the corpus (60, 7 and 30 articles; the 30 are those of the CRAFT shared
    task of 2019).

    source (Path): A checkout of the repository, or a tar archive of one.
    RETURNS (ConvertedCorpus): A Doc for each article, by its number at PubMed.
    RAISES (FileNotFoundError): If something is missing.
    RAISES (ValueError): If a file is not what it should be, or an article is not
        in exactly one split.
    """
    files = load_files(
        source,
        (
            *(IDS.format(split=split) for split in SPLITS),
            TEXT.format(name="*"),
            *(_ANNOTATIONS.format(label=label, name="*") for label in LABELS),
        ),
    )
    splits = {split: decode(files, IDS.format(split=split)).split() for split in SPLITS}
    check_splits("craft", splits, _names(files))
    return convert("craft", LABELS, splits, lambda name: _read(files, name))


def _read(files: Mapping[str, bytes], name: str) -> RawDocument:
    annotations: List[Annotation] = []
    for label in LABELS:
        path = _ANNOTATIONS.format(label=label, name=name)
        annotations += parse_knowtator(content(files, path), label, path)
    text = decode(files, TEXT.format(name=name))
    return RawDocument(name, text, tuple(annotations))


def _names(files: Mapping[str, bytes]) -> Set[str]:
    folder = PurePosixPath(TEXT).parent
    return {path.stem for path in map(PurePosixPath, files) if path.parent == folder}
