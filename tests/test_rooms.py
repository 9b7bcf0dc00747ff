"""Which rooms of the package know of which others, and of which libraries."""

import ast
from pathlib import Path

import pytest

import spacy_modernbert

from .scripts import run_script
from .util import ROOT

PACKAGE = Path(spacy_modernbert.__file__).parent
FRAMEWORKS = {"torch", "mlx", "onnxruntime", "openvino", "transformers"}
# What each room does without, functions that import for themselves included.
WITHOUT = {
    "documents": {*FRAMEWORKS, "thinc", "encoder", "layers"},
    "corpora": {*FRAMEWORKS, "thinc", "encoder", "layers"},
    "evaluation": {*FRAMEWORKS, "thinc", "encoder", "layers"},
    "encoder": {"spacy", "thinc", "documents", "layers"},
    "layers": {"torch", "mlx", "onnxruntime", "openvino"},
    "pretraining": {"spacy", "thinc", "layers"},
}
# The folders of encoder/, and the libraries that each is for.
BACKENDS = {
    "torch": {"torch"},
    "mlx": {"mlx"},
    "onnx": {"onnx", "onnxruntime"},
    "openvino": {"openvino"},
}


def package_of(path):
    return ".".join([PACKAGE.name, *path.relative_to(PACKAGE).parent.parts])


def imported(code, package):
    """All that code in a package imports, by its full name."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")
            base = above[: len(above) - node.level + 1] if node.level else []
            module = [node.module] if node.module else []
            yield from (".".join([*base, *module, a.name]) for a in node.names)


def imports_of(code, package):
    """The libraries, and the modules and rooms of our package, that it imports."""
    for name in imported(code, package):
        first, *rest = name.split(".")
        yield rest[0] if first == PACKAGE.name and rest else first


def imports(path):
    return imports_of(path.read_text(encoding="utf8"), package_of(path))


def parts_of_encoder(code, package):
    """The modules and folders of encoder/ that it imports."""
    room = f"{PACKAGE.name}.encoder."
    for name in imported(code, package):
        if name.startswith(room):
            yield name.removeprefix(room).partition(".")[0]


@pytest.mark.parametrize("room", WITHOUT)
def test_rooms(room):
    paths = sorted((PACKAGE / room).rglob("*.py"))
    assert len(paths) > 3
    for path in paths:
        assert not WITHOUT[room] & set(imports(path)), path


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends(backend):
    """They know nothing of each other, nor of each other's libraries."""
    others = set(BACKENDS) - {backend}
    libraries = set().union(*map(BACKENDS.get, others))
    paths = sorted((PACKAGE / "encoder" / backend).glob("*.py"))
    assert len(paths) > 3
    for path in paths:
        assert not libraries & set(imports(path)), path
        code = path.read_text(encoding="utf8")
        assert not others & set(parts_of_encoder(code, package_of(path))), path


def test_what_backends_share():
    """It knows none of them. The switch does."""
    for path in (PACKAGE / "encoder").glob("*.py"):
        found = parts_of_encoder(path.read_text(encoding="utf8"), package_of(path))
        wanted = set(BACKENDS) if path.name == "backend.py" else set()
        assert set(BACKENDS) & set(found) == wanted, path


@pytest.mark.parametrize("name", ["components.py", "span_getters.py"])
def test_what_spacy_imports_for_the_factories(name):
    """With every `spacy.blank()`: nothing heavy."""
    assert not {*FRAMEWORKS, "spacy_transformers"} & set(imports(PACKAGE / name))


def test_evaluation_knows_no_encoder():
    """Nor does what it imports."""
    script = """
import sys
sys.modules["torch"] = None
import spacy_modernbert.evaluation.scorer, spacy_modernbert.evaluation.report
import spacy_modernbert.evaluation.curve, spacy_modernbert.loggers
rooms = {"spacy_modernbert.layers", "spacy_modernbert.encoder"}
found = {"transformers", "numba", *rooms} & set(sys.modules)
assert not found, found
"""
    run_script(script)


def test_converting_corpora_needs_no_encoder():
    script = """
import sys
import spacy_modernbert.corpora.__main__
rooms = {"spacy_modernbert.layers", "spacy_modernbert.encoder", "spacy_modernbert.cli"}
found = rooms & set(sys.modules)
assert not found, found
"""
    run_script(script)


def imports_of_tests(code):
    """The modules of tests or of fixtures that a file imports, or imports from."""
    for node in ast.walk(ast.parse(code)):
        names = []
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
        for name in names:
            if name.split(".")[-1].startswith(("test_", "conftest")):
                yield name


def test_tests_share_by_modules_of_their_own():
    """Nothing is imported from a module of tests or of fixtures: it runs by itself."""
    paths = sorted((ROOT / "tests").rglob("*.py"))
    assert len(paths) > 100
    found = {
        str(path.relative_to(ROOT)): list(
            imports_of_tests(path.read_text(encoding="utf8"))
        )
        for path in paths
    }
    assert not any(found.values()), found


@pytest.mark.parametrize(
    "code",
    [
        "from .test_x import y",
        "from ..conftest import y",
        "from . import test_x",
        "from .. import conftest as fixtures",
        "import tests.conftest",
        "def test():\n    import tests.encoder.test_x",
    ],
)
def test_it_sees_imports_of_tests(code):
    assert len(list(imports_of_tests(code))) == 1


def test_it_sees_imports():
    found = set(imports(PACKAGE / "layers" / "plan.py"))
    assert {"documents", "spacy"} <= found
    assert "torch" in set(imports(PACKAGE / "encoder" / "backend.py"))


@pytest.mark.parametrize(
    "code",
    [
        "from ..encoder.hub import resolve",
        "from ..encoder import hub",
        "from .. import encoder",
        "from spacy_modernbert.encoder.hub import resolve",
        "from spacy_modernbert.encoder import hub",
        "from spacy_modernbert import encoder",
        "import spacy_modernbert.encoder",
        "import spacy_modernbert.encoder.hub as hub",
        "def forward():\n    from ..encoder import hub",
    ],
)
def test_it_sees_imports_of_every_form(code):
    assert list(imports_of(code, "spacy_modernbert.cli")) == ["encoder"]


@pytest.mark.parametrize(
    "code",
    [
        "from ..mlx.model import norm",
        "from ..mlx import model",
        "from .. import mlx",
        "from ...encoder.mlx import model",
        "from spacy_modernbert.encoder.mlx import model",
        "import spacy_modernbert.encoder.mlx",
    ],
)
def test_it_sees_parts_of_every_form(code):
    assert list(parts_of_encoder(code, "spacy_modernbert.encoder.torch")) == ["mlx"]


def test_it_sees_no_neighbours():
    """Which are no rooms, whatever they are called."""
    code = "from .encoder import x\nfrom . import torch"
    assert set(imports_of(code, "spacy_modernbert.cli")) == {"cli"}
