import pytest

from spacy_modernbert.documents.wordpieces import WordpieceTokenizer

from .toys import NAMES, toy


@pytest.fixture(scope="session")
def published() -> WordpieceTokenizer:
    return toy("published")


@pytest.fixture(scope="session", params=NAMES)
def tokenizer(request) -> WordpieceTokenizer:
    return toy(request.param)
