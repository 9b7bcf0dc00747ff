from pathlib import Path

import numpy as np
import pytest

from .util import draw_ids, make_byte_tokenizer, make_oracle


@pytest.fixture(scope="session")
def oracle():
    return make_oracle()


@pytest.fixture
def folder(tmp_path, oracle) -> Path:
    """A checkpoint written by transformers, with a tokenizer."""
    oracle.save_pretrained(tmp_path / "checkpoint")
    make_byte_tokenizer().save(str(tmp_path / "checkpoint" / "tokenizer.json"))
    return tmp_path / "checkpoint"


@pytest.fixture
def ids():
    return draw_ids(np.random.default_rng(0), 100)
