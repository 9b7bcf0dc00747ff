"""The real corpora as they are fetched, and a CRAFT in small."""

from pathlib import Path

import pytest

from spacy_modernbert.corpora.craft import LABELS

from ..util import SHARED

RAW_CORPORA = SHARED / "corpora"

ARTICLE = "ES and somatic cells of mice express Pax6−/− .\n"
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
PIECES = '<span start="15" end="20" /><span start="0" end="2" />'


def raw_corpus(name: str) -> Path:
    """RETURNS (Path): The archive of a corpus. Where it is missing, the test skips."""
    path = RAW_CORPORA / name
    if not path.exists():
        pytest.skip(f"the corpus {name} is not at {RAW_CORPORA}")
    return path


def knowtator(*annotations: str) -> str:
    """RETURNS (str): A file of Knowtator with these annotations."""
    return f'{HEAD}<annotations textSource="1.txt">{"".join(annotations)}</annotations>'


def annotation(text: str, spans: str = "") -> str:
    """RETURNS (str): One annotation of a text in `ARTICLE`, where it is found first if
    no spans are given.
    """
    start = ARTICLE.find(text)
    spans = spans or f'<span start="{start}" end="{start + len(text)}" />'
    return (
        f'<annotation><mention id="m" />{spans}'
        f"<spannedText>{text}</spannedText></annotation>"
    )


def write_craft(folder: Path) -> Path:
    """RETURNS (Path): The folder, with a CRAFT of three articles in it."""
    ids = folder / "articles" / "ids"
    txt = folder / "articles" / "txt"
    for each in (ids, txt):
        each.mkdir(parents=True)
    (ids / "README.txt").write_text("about the ids")
    for split, name in zip(("train", "dev", "test"), "123", strict=True):
        (ids / f"craft-ids-{split}.txt").write_bytes(f"{name}\r\n".encode())
        (txt / f"{name}.txt").write_bytes(ARTICLE.encode())
        (txt / f"{name}.copyright").write_text("somebody's")
        for label in LABELS:
            content = knowtator()
            if label == "CL":
                content = knowtator(
                    annotation("ES ... cells", PIECES), annotation("somatic cells")
                )
            elif label in ("PR", "SO"):
                content = knowtator(annotation("Pax6"))
            plain = folder / "concept-annotation" / label / label / "knowtator"
            plain.mkdir(parents=True, exist_ok=True)
            (plain / f"{name}.txt.knowtator.xml").write_bytes(content.encode())
            extended = plain.parents[1] / f"{label}+extensions" / "knowtator"
            extended.mkdir(parents=True, exist_ok=True)
            (extended / f"{name}.txt.knowtator.xml").write_text("not ours")
    return folder
