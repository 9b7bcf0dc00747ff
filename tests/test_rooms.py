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


def test_tests_share_by_modules_of_their_own():
    """Nothing is imported from a module of tests or of fixtures: it runs by itself."""
    paths = sorted((ROOT / "tests").rglob("*.py"))
    assert len(paths) > 100
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8")))
        if isinstance(node, ast.ImportFrom)
        for name in (node.module or "", *(alias.name for alias in node.names))
        if name.split(".")[-1].startswith(("test_", "conftest"))
    ]
    assert not found


def test_it_sees_imports():
    """Of every form."""
    found = set(imports(PACKAGE / "layers" / "plan.py"))
    assert {"documents", "spacy"} <= found
    assert "torch" in set(imports(PACKAGE / "encoder" / "backend.py"))
