import pytest
import spacy

from spacy_modernbert.documents.wordpieces import WordpieceTokenizer

from ..util import PUBLISHED
from .toys import NAMES, toy


@pytest.fixture(scope="session")
def published() -> WordpieceTokenizer:
    if not PUBLISHED.is_dir():
        pytest.skip("the published tokenizer is not in ../shared")
    return WordpieceTokenizer.from_file(PUBLISHED)


@pytest.fixture(scope="session", params=NAMES)
def tokenizer(request) -> WordpieceTokenizer:
    if request.param == "published":
        return request.getfixturevalue("published")
    return toy(request.param)


@pytest.fixture(scope="session")
def nlp():
    return spacy.blank("en")
