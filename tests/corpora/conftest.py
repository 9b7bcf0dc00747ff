"""The real corpora, converted once for all tests; absent, their tests skip."""

from pathlib import Path

import pytest

from spacy_modernbert.corpora.convert import ConvertedCorpus
from spacy_modernbert.corpora.craft import convert_craft
from spacy_modernbert.corpora.litbank import convert_litbank

from .util import raw_corpus, write_craft


@pytest.fixture(scope="session")
def litbank() -> ConvertedCorpus:
    return convert_litbank(raw_corpus("litbank-entities.tar.xz"))


@pytest.fixture(scope="session")
def craft() -> ConvertedCorpus:
    return convert_craft(raw_corpus("craft.tar.xz"))


@pytest.fixture
def craft_source(tmp_path: Path) -> Path:
    """As its archive holds it, in small."""
    return write_craft(tmp_path)
