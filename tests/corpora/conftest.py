"""The real corpora, converted once for all tests; absent, their tests skip."""

from pathlib import Path

import pytest

from spacy_modernbert.corpora.convert import ConvertedCorpus
from spacy_modernbert.corpora.craft import convert_craft
from spacy_modernbert.corpora.litbank import convert_litbank

RAW_CORPORA = Path(__file__).parents[2] / ".." / "shared" / "corpora"


def raw_corpus(name: str) -> Path:
    path = RAW_CORPORA / name
    if not path.exists():
        pytest.skip(f"the corpus {name} is not at {RAW_CORPORA}")
    return path


@pytest.fixture(scope="session")
def litbank() -> ConvertedCorpus:
    return convert_litbank(raw_corpus("litbank-entities.tar.xz"))


@pytest.fixture(scope="session")
def craft() -> ConvertedCorpus:
    return convert_craft(raw_corpus("craft.tar.xz"))
