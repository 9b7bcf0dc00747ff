import os
import platform
from pathlib import Path
from typing import Iterator

import pytest
import spacy
import torch
from hypothesis import settings
from spacy.language import Language
from thinc.api import fix_random_seed

from spacy_modernbert import components
from spacy_modernbert.corpora.roster import RosterSize, Stage, make_roster
from spacy_modernbert.encoder import availability, backend
from spacy_modernbert.encoder.availability import BACKENDS

from .pipelines import train_ner
from .util import make_checkpoint, make_text, skip_unless_here, some_entities

# What a user has set is for pipelines, and no test needs a model hub.
os.environ.pop(backend.BACKEND_VARIABLE, None)
os.environ["HF_HUB_OFFLINE"] = "1"

# Triton interprets its kernels on the CPU then. It is read when they are defined, those
# that Triton brings along included: before anything imports it.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


# Machines that run tests are busy with other things: no example fails for its time.
settings.register_profile("at random", deadline=None)
# Where a failure is to be that of a change, examples are the same each time.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "at random")


@pytest.fixture(scope="session", autouse=True)
def float32_is_auto() -> Iterator[None]:
    """By torch on any processor, so that results can be compared closely."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "multiplies_bfloat16", lambda: False)
        patch.setattr(availability, "_is_quickest_by_openvino", lambda: False)
        yield


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A test finds the same alone, after others, and the next time."""
    fix_random_seed(0)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of the user, on any system: the folder of the test."""
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    return tmp_path


_MARKS = {"cuda": [pytest.mark.gpu], "mps": [pytest.mark.mps]}


@pytest.fixture(
    name="backend",
    params=[pytest.param(name, marks=_MARKS.get(name, [])) for name in BACKENDS[1:]],
)
def each_backend(request: pytest.FixtureRequest) -> str:
    """A backend that can run here."""
    name: str = request.param
    skip_unless_here(name)
    return name


@pytest.fixture(params=["compiled", "stock"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What Numba compiles, or spaCy's own, as where Numba is not installed."""
    name: str = request.param
    if name == "stock":
        monkeypatch.setattr(components, "import_compiled", lambda name: None)
    return name


@pytest.fixture
def on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which every library could be installed."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


@pytest.fixture
def only_torch_installed(monkeypatch: pytest.MonkeyPatch, on_linux: None) -> None:
    """A Linux machine with torch, and none of the other libraries."""
    monkeypatch.setattr(availability, "_is_installed", lambda module: module == "torch")


@pytest.fixture(scope="session")
def nlp() -> Language:
    """A pipeline of no components. Not to be changed."""
    return spacy.blank("en")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint. Not to be changed."""
    return make_checkpoint(tmp_path_factory.mktemp("encoders") / "tiny")


@pytest.fixture(scope="session")
def roster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of a few short documents. Not to be changed."""
    folder = tmp_path_factory.mktemp("corpora") / "roster"
    stage = Stage(n_words=600, min_words=40, max_words=80, words_per_name=20)
    make_roster(RosterSize(train=(stage,), held_out=stage)).write(folder)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A pipeline on disk that has learned some entities. Not to be changed."""
    nlp = train_ner(checkpoint)
    some_entities(nlp.pipe([make_text(0)]))
    folder = tmp_path_factory.mktemp("pipelines") / "trained"
    nlp.to_disk(folder)
    return folder
