import pytest
import spacy
from spacy.tokens import DocBin
from spacy.training import Corpus
from spacy.util import load_model_from_config, registry
from thinc.api import Config

from spacy_modernbert.callbacks import MAX_LENGTH, max_length_v1

from .util import ROOT

CONFIGS = ROOT / "configs"

TEXT = "a " * 500_001  # a character more than spaCy's limit, and one to spare

CONFIG = """
[nlp]
lang = "en"

[nlp.after_creation]
@callbacks = "spacy-modernbert.max_length.v1"
max_length = 2000000
"""


@pytest.fixture
def nlp():
    return load_model_from_config(Config().from_str(CONFIG), auto_fill=True)


def test_it_is_registered():
    assert registry.callbacks.get(MAX_LENGTH) is max_length_v1


def test_long_texts_are_read(nlp, tmp_path):
    """In training, and by the pipeline that is saved."""
    with pytest.raises(ValueError, match="E088"):
        spacy.blank("en")(TEXT)
    DocBin(docs=[nlp(TEXT)]).to_disk(tmp_path / "train.spacy")
    (example,) = Corpus(tmp_path / "train.spacy")(nlp)
    assert len(example.x) == 500_001
    nlp.to_disk(tmp_path / "saved")
    assert len(spacy.load(tmp_path / "saved")(TEXT)) == 500_001


# The documents of the roster corpora are short enough, and always the same.
@pytest.mark.parametrize(
    "path",
    sorted(set(CONFIGS.glob("*.cfg")) - set(CONFIGS.glob("roster*.cfg"))),
    ids=lambda path: path.stem,
)
def test_recipes_for_long_documents(path):
    config = Config().from_disk(path, interpolate=False)
    make = registry.resolve({"it": config["nlp"]["after_creation"]})["it"]
    assert make(spacy.blank("en")).max_length > 10**8


@pytest.mark.parametrize("value", [0, -1, True, 1e6, "many", None])
def test_wrong(value):
    with pytest.raises(ValueError, match="number of characters") as error:
        max_length_v1(value)
    assert repr(value) in str(error.value)
