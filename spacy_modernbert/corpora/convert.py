"""The steps that all converters share, from raw documents to `.spacy` files."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterable, List, Mapping, Sequence, Tuple

import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from tqdm import tqdm

from ..atomic import replacing
from ..errors import Errors
from .raw import RawDocument
from .report import ConversionReport, SplitReport
from .selection import REASONS, select_entities

# Where a Doc keeps the name of its document: `doc.user_data["id"]`
ID_KEY = "id"
# What the files hold besides text and spaces. Nothing else is known.
DOCBIN_ATTRS = ("ENT_IOB", "ENT_TYPE")


@dataclass(frozen=True)
class ConvertedCorpus:
    """Documents for training, and how they came about.

    splits (Mapping[str, Tuple[Doc, ...]]): By the name of the split, a Doc for
        each document, with `doc.ents` set, every other token known to be outside
        and the document's name in `doc.user_data["id"]`.
    report (ConversionReport): The counts.
    """

    splits: Mapping[str, Tuple[Doc, ...]]
    report: ConversionReport

    def write(self, folder: Path) -> None:
        """Write a `.spacy` file for each split. A file appears whole or not at all,
        and the same documents give the same bytes.

        folder (Path): Where to; made if it does not exist.
        RAISES (OSError): If it cannot be written.
        """
        for split, docs in self.splits.items():
            docbin = DocBin(attrs=DOCBIN_ATTRS, store_user_data=True, docs=docs)
            with replacing(folder / f"{split}.spacy") as fresh:
                fresh.write_bytes(docbin.to_bytes())


def convert(
    name: str,
    labels: Sequence[str],
    splits: Mapping[str, Sequence[str]],
    read: Callable[[str], RawDocument],
) -> ConvertedCorpus:
    """Turn raw documents into Docs.

    name (str): The name of the corpus.
    labels (Sequence[str]): All labels, the preferred first (see
        `select_entities`).
    splits (Mapping[str, Sequence[str]]): The documents of each split, by name.
    read (Callable[[str], RawDocument]): Reads a document by its name.
    RETURNS (ConvertedCorpus): The Docs and the counts.
    RAISES (ValueError): If a document has a label that the corpus should not have.
    """
    nlp = spacy.blank("en")
    docs = {}
    reports = {}
    for split, names in splits.items():
        # No bar where nobody watches (`disable=None`).
        bar = tqdm(names, desc=f"{name} {split}", unit="doc", disable=None)
        docs[split], reports[split] = _convert_split(nlp, labels, map(read, bar))
    return ConvertedCorpus(docs, ConversionReport(name, reports))


def _convert_split(
    nlp: Language, labels: Sequence[str], documents: Iterable[RawDocument]
) -> Tuple[Tuple[Doc, ...], SplitReport]:
    docs: List[Doc] = []
    entities = dict.fromkeys(labels, 0)
    # A split without documents has a row for each reason, too.
    dropped = Counter(dict.fromkeys(REASONS, 0))
    annotations = expanded = enclosed = 0
    for raw in documents:
        _check_labels(raw, labels)
        # The tokenizer itself, not `nlp()`, which refuses texts beyond
        # `nlp.max_length`. That limit is for parsers that need memory.
        doc = nlp.tokenizer(raw.text)
        doc.user_data[ID_KEY] = raw.id
        selection = select_entities(doc, raw.annotations, labels)
        doc.set_ents(list(selection.entities), default="outside")
        docs.append(doc)
        annotations += len(raw.annotations)
        expanded += selection.expanded
        enclosed += selection.enclosed
        dropped.update(selection.dropped)
        for span in selection.entities:
            entities[span.label_] += 1
    report = SplitReport(
        documents=len(docs),
        tokens=sum(map(len, docs)),
        annotations=annotations,
        entities=entities,
        expanded=expanded,
        enclosed=enclosed,
        dropped=dict(dropped),
    )
    return tuple(docs), report


def _check_labels(raw: RawDocument, labels: Sequence[str]) -> None:
    unknown = sorted({a.label for a in raw.annotations} - set(labels))
    if unknown:
        raise ValueError(
            Errors.CORPUS_UNKNOWN_LABEL.format(
                document=raw.id, unknown=unknown, labels=list(labels)
            )
        )
