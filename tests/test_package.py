"""A trained pipeline as a package, and the wheel that it depends on."""

import json
import os
import re
import shutil
import zipfile
from configparser import ConfigParser

import spacy

from spacy_modernbert.about import __version__
from spacy_modernbert.cli.info import _LIBRARIES
from spacy_modernbert.errors import Missing

from .scripts import run_python, succeeded
from .util import ROOT, make_text, require, some_entities

require("setuptools")
require("wheel")

TEXTS = [make_text(seed) for seed in range(5)]
PIP = ["-m", "pip", "--disable-pip-version-check"]
OFFLINE = ["--no-deps", "--no-build-isolation", "--no-index"]

LOAD = """
import json, sys
import en_names
nlp = en_names.load()
docs = nlp.pipe(json.loads(sys.stdin.read()))
print(json.dumps([[(e.start, e.end, e.label_) for e in doc.ents] for doc in docs]))
"""


def read_config(text):
    config = ConfigParser(delimiters=["="], interpolation=None)
    config.optionxform = str
    config.read_string(text)
    return config


def test_wheel(tmp_path):
    """Without `top_level.txt`, `spacy package` does not find what a pipeline needs."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "spacy_modernbert", source / "spacy_modernbert")
    succeeded(run_python(*PIP, "wheel", source, *OFFLINE, "-w", tmp_path / "wheels"))
    (path,) = (tmp_path / "wheels").glob("*.whl")
    info = f"spacy_modernbert-{__version__}.dist-info"
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        assert wheel.read(f"{info}/top_level.txt").split() == [b"spacy_modernbert"]
        entry_points = read_config(wheel.read(f"{info}/entry_points.txt").decode())
    groups = read_setup()["options.entry_points"].items()
    wanted = "\n".join(f"[{group}]\n{lines}" for group, lines in groups)
    assert entry_points == read_config(wanted)
    assert "modernbert_ner" in entry_points["spacy_factories"]
    for module in ("components.py", "layers/shim.py", "encoder/backend.py", "py.typed"):
        assert f"spacy_modernbert/{module}" in names
    for part in ("report.html.jinja", "report.css", "report.js"):
        assert f"spacy_modernbert/evaluation/page/{part}" in names
    for size in ("tiny", "micro", "mini", "base", "large"):
        assert f"spacy_modernbert/encoder/sizes/{size}.json" in names
    assert not any(name.startswith("tests") for name in names)


def read_setup():
    return read_config((ROOT / "setup.cfg").read_text(encoding="utf8"))


def test_extras_that_are_spoken_of():
    """In errors, in `info`, on any page: there are such extras."""
    files = [ROOT / "README.md"]
    for folder in ("docs", "spacy_modernbert", "benchmarks", "assets"):
        files += [
            path
            for path in sorted((ROOT / folder).rglob("*"))
            if path.suffix in (".md", ".py")
        ]
    found = set(_LIBRARIES.values()) - {""}
    for path in files:
        text = path.read_text(encoding="utf8")
        # Of the package, or of a clone of it.
        named = re.findall(r"(?:spacy-modernbert|[\"' ]\.)\[([a-z0-9,-]+)\]", text)
        found.update(extra for names in named for extra in names.split(","))
    assert {"dev", "fast", "parquet", "mlx-cuda13"} <= found
    assert found <= set(read_setup()["options.extras_require"])


def test_the_readme_lists_the_extras():
    """All but those for whoever works on the project."""
    text = (ROOT / "README.md").read_text(encoding="utf8")
    (table,) = re.findall(r"^\| Extra \|.*\n\| ---.*\n((?:\|.*\n)+)", text, re.M)
    found = set(re.findall(r"^\| `([a-z0-9-]+)`", table, re.M))
    # Two stand beside the one that they are kinds of.
    found |= set(re.findall(r"`(mlx-[a-z0-9]+)`", table))
    wanted = set(read_setup()["options.extras_require"]) - {"dev", "benchmarks"}
    assert found == wanted


def test_the_torch_that_errors_ask_for():
    required = read_setup()["options"]["install_requires"].split()
    (torch,) = (each for each in required if re.match(r"torch\b", each))
    assert f'pip install "{torch}"' in Missing.TORCH


def test_packaged_pipeline(trained, tmp_path):
    from spacy.cli.package import package

    (tmp_path / "packages").mkdir()
    package(
        trained,
        tmp_path / "packages",
        name="names",
        version="1.0.0",
        create_sdist=False,
        create_wheel=False,
        silent=True,
    )
    folder = tmp_path / "packages" / "en_names-1.0.0"
    meta = json.loads((folder / "meta.json").read_text(encoding="utf8"))
    assert any(each.startswith("spacy-modernbert>=") for each in meta["requirements"])
    site = tmp_path / "site"
    succeeded(run_python(*PIP, "install", folder, *OFFLINE, "--target", site))
    env = {**os.environ, "PYTHONPATH": str(site)}
    stdin = json.dumps(TEXTS)
    found = succeeded(run_python("-c", LOAD, stdin=stdin, env=env, cwd=tmp_path))
    wanted = some_entities(spacy.load(trained).pipe(TEXTS))
    assert json.loads(found) == [[list(ent) for ent in ents] for ents in wanted]
