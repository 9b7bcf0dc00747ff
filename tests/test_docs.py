"""What the README and `docs/` show can be used as it stands there."""

import json
import re
import shutil
from configparser import ConfigParser
from textwrap import dedent

import numpy as np
import pytest
import spacy
from spacy.cli.init_config import fill_config
from spacy.tokens import DocBin
from spacy.training import Example
from spacy.util import load_config, load_model_from_config
from thinc.api import Config

from spacy_modernbert.pipelines import find_encoder_blocks
from spacy_modernbert.pretraining.settings import PretrainingSettings
from spacy_modernbert.types import PackedBatch

from .commands import done, invoke
from .pipelines import change_settings, load_exact, loaded_encoder
from .util import ROOT, require

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text(encoding="utf8") for page in PAGES)
# And those that lie beside what they are about.
ALL_PAGES = [
    *PAGES,
    ROOT / "CHANGELOG.md",
    *(
        page
        for room in ("assets", "benchmarks", "experiments", "spacy_modernbert")
        for page in sorted((ROOT / room).rglob("*.md"))
    ),
]


def blocks(language, text=TEXT):
    pattern = rf"^( *)```{language}\n(.*?)^\1```$"
    found = re.finditer(pattern, text, re.MULTILINE | re.DOTALL)
    return [dedent(match.group(2)) for match in found]


def anchors(page):
    """What a link can lead to within a page, by GitHub's rule."""
    text = re.sub(r"^( *)```.*?^\1```$", "", page, flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_index_of_the_api_is_whole():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf8")
    index = re.findall(r"\]\(#([^)]+)\)", page.split("\n## ")[0])
    missing = set(anchors(page)) - set(index)
    # Methods are found below their class, and the page has a heading, too.
    assert {each for each in missing if not each.startswith("embedder")} == {"api"}


@pytest.mark.parametrize(
    "page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf8"))
    for link in links:
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf8")), link


def test_every_page_is_in_the_index():
    index = (ROOT / "README.md").read_text(encoding="utf8")
    for page in PAGES[1:]:
        assert f"(docs/{page.name})" in index


# The reference shows much of it once more.
EXAMPLES = "\n".join(
    page.read_text(encoding="utf8") for page in PAGES if page.name != "api.md"
)


def find(language, what, text=EXAMPLES):
    (block,) = (block for block in blocks(language, text) if what in block)
    return block


@pytest.mark.parametrize(
    "page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT))
)
def test_python_can_be_compiled(page):
    for block in blocks("python", page.read_text(encoding="utf8")):
        compile(block, page.name, "exec")


@pytest.mark.parametrize("block", blocks("ini"))
def test_values_are_json(block):
    """What follows a value on its line, such as a comment, would be a part of it."""
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(block)
    values = [
        value for section in parser.sections() for value in parser[section].values()
    ]
    assert values
    for value in values:
        json.loads(value)


def test_where_the_settings_of_recipes_stand():
    text = (ROOT / "docs" / "backends.md").read_text(encoding="utf8")
    (table,) = re.findall(r"^\| recipe \|.*\n\| ---.*\n((?:\|.*\n)+)", text, re.M)
    told = {}
    for row in table.splitlines():
        recipes, path, _ = row.removeprefix("|").split("|")
        told.update(dict.fromkeys(re.findall("`(.+?)`", recipes), path.strip(" `")))
    found = {}
    for recipe in (ROOT / "configs").glob("*.cfg"):
        for block in find_encoder_blocks(load_config(recipe)):
            found[recipe.stem] = block.path
    assert told == found


def test_the_config_can_be_filled(tmp_path, checkpoint):
    path = tmp_path / "base.cfg"
    path.write_text(find("ini", "[training.batcher]"), encoding="utf8")
    fill_config(tmp_path / "filled.cfg", path)
    name = "components.modernbert_ner.model.tok2vec.name"
    config = load_config(tmp_path / "filled.cfg", overrides={name: str(checkpoint)})
    nlp = load_model_from_config(config)
    assert nlp.pipe_names == ["modernbert_ner"]
    # As the recipe has it for the same encoder.
    recipe = load_config(ROOT / "configs" / "base.cfg", interpolate=True)
    rates = [
        each["training"]["optimizer"]["learn_rate"]["initial_rate"]
        for each in (config, recipe)
    ]
    assert rates[0] == rates[1]


def test_the_config_of_an_encoder_that_is_not_trained(tmp_path):
    """In the place of the one that is."""
    text = find("ini", "[training.batcher]")
    instead = find("ini", "spacy-modernbert.KeptVectors.v1")
    start = text.index("[components.modernbert_ner.model.tok2vec]")
    end = text.index("[training]")
    config = Config().from_str(text[:start] + instead + text[end:])
    config.to_disk(tmp_path / "kept.cfg")
    fill_config(tmp_path / "filled.cfg", tmp_path / "kept.cfg")
    nlp = load_model_from_config(load_config(tmp_path / "filled.cfg"))
    tok2vec = nlp.config["components"]["modernbert_ner"]["model"]["tok2vec"]
    assert tok2vec["tok2vec"]["grad_factor"] == 0


def test_the_settings_of_pretraining(tmp_path):
    config = Config().from_str(find("ini", "[pretraining]"))
    settings = PretrainingSettings.from_config(config)
    assert [phase.length for phase in settings.phases] == [1024, 8192]


def test_data_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The first ends within a word.
    data = [("Tom Sawyer is there.", [(0, 9, "PER")]), ("Nobody is.", [])]
    exec(find("python", "my_data"), {"my_data": data})
    docs = (
        DocBin().from_disk("corpus/mine/train.spacy").get_docs(spacy.blank("en").vocab)
    )
    first, second = docs
    assert [(ent.text, ent.label_) for ent in first.ents] == [("Tom Sawyer", "PER")]
    assert not second.ents


def test_in_a_pipeline(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make = find("python", "import spacy\nfrom thinc").replace(
        "answerdotai/ModernBERT-base", str(checkpoint).replace("\\", "/")
    )
    nlp = spacy.blank("en")
    annotation = {"entities": [(0, 3, "PER")]}
    example = Example.from_dict(nlp.make_doc("Tom is there."), annotation)
    names = {"examples": [example], "texts": ["Tom is there."]}
    exec(make, names)
    exec(find("python", "nlp.initialize"), names)
    assert names["nlp"].pipe_names == ["modernbert_ner"]


@pytest.fixture
def my_pipeline(trained, tmp_path, monkeypatch):
    """The folder in which the one lies that pages speak of."""
    shutil.copytree(trained, tmp_path / "my_pipeline")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("what", ["tok2vec.backend", '{"tok2vec": {"backend"'])
def test_another_backend(my_pipeline, what):
    change_settings(my_pipeline / "my_pipeline", backend="tpu")
    names = {"spacy": spacy}
    exec(find("python", what), names)
    assert loaded_encoder(names["nlp"]).device == "cpu"


def test_vectors_of_texts(checkpoint):
    code = find("python", "load_embedder").replace(
        "answerdotai/ModernBERT-base", checkpoint.as_posix()
    )
    names = {}
    exec(code, names)
    assert names["vectors"].shape == (2, 32) and names["vectors"].dtype == "float32"


def test_vectors_of_docs(my_pipeline, capsys):
    exec(find("python", "set_doc_vector"), {"spacy": spacy})
    assert 0 < abs(float(capsys.readouterr().out)) < 1


def test_the_trained_pipeline(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "training" / "mine" / "model-best")
    names = {"spacy": spacy}
    exec(find("python", "model-best"), names)
    assert names["nlp"].pipe_names == ["modernbert_ner"]


def test_a_cleaner():
    """What it does, test_transformer.py shows."""
    names = {"nlp": spacy.blank("en")}
    exec(find("python", "doc_cleaner"), names)
    assert names["nlp"].pipe_names == ["doc_cleaner"]


def test_onnx_without_this_package(my_pipeline):
    ort = require("onnxruntime", reason="needs the extra onnx")
    require("onnx", reason="needs the extra onnx")
    done(invoke(*find("bash", "export-onnx").split()[4:]))
    first, second = np.array([1, 7, 8, 2]), np.array([1, 9, 2])
    names = {"np": np, "first_ids": first, "second_ids": second}
    exec(find("python", "InferenceSession"), {**names, "onnxruntime": ort}, names)
    encoder = loaded_encoder(load_exact(my_pipeline / "my_pipeline", "cpu"))
    wanted = encoder.encode(PackedBatch.of([first, second]))
    np.testing.assert_allclose(names["hidden"], wanted, atol=1e-4)


def test_what_a_corpus_is(tmp_path, monkeypatch, capsys):
    page = ROOT / "spacy_modernbert" / "corpora" / "README.md"
    (tmp_path / "corpus" / "litbank").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    doc = spacy.blank("en")("Anna Berg went to Oslo.")
    doc.user_data["id"] = "one"
    doc.ents = [doc.char_span(0, 9, "PER")]
    DocBin(docs=[doc], store_user_data=True).to_disk("corpus/litbank/test.spacy")
    exec(find("python", "DocBin", page.read_text(encoding="utf8")), {})
    assert capsys.readouterr().out == "one 6 (Anna Berg,)\n"
