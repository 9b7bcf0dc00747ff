import shutil
import sys
from dataclasses import replace

import pytest
import spacy
from spacy.util import is_package

from spacy_modernbert.cli.export_onnx import open_checkpoint
from spacy_modernbert.pipelines import (
    find_encoder_blocks,
    find_pipeline,
    read_pipeline_config,
)


@pytest.fixture
def package(trained, tmp_path, monkeypatch):
    """RETURNS (Path): The data of a pipeline that is installed as `en_letters`."""
    module = tmp_path / "site" / "en_letters"
    data = module / "en_letters-0.0.1"
    shutil.copytree(trained, data)
    (module / "__init__.py").write_text("")
    info = tmp_path / "site" / "en_letters-0.0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: en-letters\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    # Put back what it was: nothing.
    monkeypatch.setitem(sys.modules, "en_letters", None)
    del sys.modules["en_letters"]
    return data


def test_a_folder(trained):
    assert find_pipeline(str(trained)) == trained


def test_a_package(package):
    assert find_pipeline("en_letters") == package
    checkpoint = package / "modernbert_ner" / "encoder"
    with open_checkpoint("en_letters", None, None) as found:
        assert found == checkpoint


def test_the_name_of_a_package_is_not_that_of_its_module(package):
    """Under either, it is not looked for on the hub."""
    assert is_package("en-letters")
    assert find_pipeline("en-letters") == package


def test_the_code_of_a_package(package):
    """Its config may name what is registered there."""
    module = package.parent / "__init__.py"
    module.write_text("import spacy\nspacy.registry.misc('en_letters')(print)\n")
    assert find_pipeline("en_letters") == package
    assert spacy.registry.misc.get("en_letters") is print
    del sys.modules["en_letters"]
    module.write_text("1 / 0")
    with pytest.raises(ValueError, match=r"'en_letters' cannot be .*: division by"):
        find_pipeline("en_letters")


@pytest.mark.parametrize("kind", ["package", "namespace", "module", "nothing"])
def test_a_package_of_something_else(package, kind):
    """It is not imported, whatever it is."""
    shutil.rmtree(package)
    module = package.parent / "__init__.py"
    module.write_text("1 / 0")
    if kind == "module":
        shutil.move(module, package.parents[1] / "en_letters.py")
        (package.parents[1] / "data").mkdir()
        (package.parents[1] / "data" / "config.cfg").touch()
    if kind == "namespace":
        module.unlink()
    if kind in ("module", "nothing"):
        shutil.rmtree(package.parent)
    assert is_package("en-letters")
    assert find_pipeline("en-letters") is find_pipeline("en_letters") is None


def test_the_name_of_what_is_in_a_package(monkeypatch):
    monkeypatch.setattr("spacy_modernbert.pipelines.is_package", lambda name: True)
    for name in ("spacy.cli", "__main__", "en letters", "a/b"):
        assert find_pipeline(name) is None


def test_neither(tmp_path):
    assert find_pipeline(str(tmp_path)) is None
    assert find_pipeline("en_nothing_of_this_name") is None
    assert find_pipeline("~nobody-here/model-best") is None


def test_blocks(trained):
    nlp = spacy.load(trained)
    (block,) = find_encoder_blocks(nlp.config)
    assert block.component == "modernbert_ner"
    assert block.path == "components.modernbert_ner.model.tok2vec"
    assert block.settings["backend"] == "cpu"
    assert find_encoder_blocks(spacy.blank("en").config) == []


def test_the_config(trained, tmp_path):
    config = read_pipeline_config(trained)
    (block,) = find_encoder_blocks(config)
    assert block.spans["window"] == 8192 and block.spans["overlap"] == 512
    # Others count in tokens.
    strided = {"@span_getters": "spacy-transformers.strided_spans.v1", "window": 128}
    other = replace(block, settings={**block.settings, "get_spans": strided})
    assert other.spans == {}
    # As somebody may have put it, or left it.
    for others in (5, None, [], "x"):
        assert replace(block, settings={"get_spans": others}).spans == {}
    config["components"].update(ner=5, tagger=None)
    assert find_encoder_blocks(config) == [block]
    (tmp_path / "config.cfg").write_text("[[[")
    with pytest.raises(ValueError, match=r"config of the pipeline, .*config\.cfg"):
        read_pipeline_config(tmp_path)
