"""Which rooms of the package know of which others, and of which libraries."""

import ast
from pathlib import Path

import pytest

import spacy_modernbert

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


def imports(path):
    """The libraries, and the modules and rooms of the package, that a file imports."""
    up = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.level == up:
            names = [node.module] if node.module else [a.name for a in node.names]
            yield from (name.split(".")[0] for name in names)


@pytest.mark.parametrize("room", WITHOUT)
def test_rooms(room):
    paths = sorted((PACKAGE / room).rglob("*.py"))
    assert len(paths) > 3
    found = {path.name: WITHOUT[room] & set(imports(path)) for path in paths}
    assert not any(found.values()), found


@pytest.mark.parametrize("name", ["components.py", "span_getters.py"])
def test_what_spacy_imports_for_the_factories(name):
    """With every `spacy.blank()`: nothing heavy."""
    assert not {*FRAMEWORKS, "spacy_transformers"} & set(imports(PACKAGE / name))


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
    """Of every form."""
    found = set(imports(PACKAGE / "layers" / "plan.py"))
    assert {"documents", "spacy"} <= found
    assert "torch" in set(imports(PACKAGE / "encoder" / "backend.py"))
