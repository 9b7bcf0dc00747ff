"""Which pooling "auto" means."""

import json

import pytest

from spacy_modernbert.encoder.checkpoint import load_config, save_checkpoint
from spacy_modernbert.encoder.sentences import (
    MODULES,
    read_sentence_pooling,
    resolve_pooling,
)
from spacy_modernbert.encoder.weights import init_tensors

from ..util import make_checkpoint, make_config, make_tokenizer, require

PREFIX = "sentence_transformers.models."


def add_modules(folder, *kinds, **pooling):
    """As sentence-transformers saves them."""
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": f"{i}_{kind}" if i else "",
            "type": PREFIX + kind,
        }
        for i, kind in enumerate(kinds)
    ]
    (folder / MODULES).write_text(json.dumps(modules))
    if pooling:
        place = folder / f"{kinds.index('Pooling')}_Pooling"
        place.mkdir(exist_ok=True)
        (place / "config.json").write_text(json.dumps(pooling))


@pytest.fixture
def folder(tmp_path):
    return make_checkpoint(tmp_path / "checkpoint")


@pytest.mark.parametrize("said", ["cls", "mean"])
def test_as_the_config_says(said):
    config = make_config(classifier_pooling=said)
    assert resolve_pooling("auto", config) == said
    for pooling in ("cls", "mean"):
        assert resolve_pooling(pooling, config) == pooling


def test_another_pooling_in_the_config():
    """Which sentence-transformers has nothing to do with."""
    with pytest.raises(ValueError, match="classifier_pooling = 'max'") as caught:
        resolve_pooling("auto", make_config(classifier_pooling="max"))
    assert "sentence-transformers" not in str(caught.value)


def test_nothing_said_is_what_transformers_makes_of_it():
    transformers = require("transformers")
    wanted = transformers.ModernBertConfig().classifier_pooling
    assert resolve_pooling("auto", make_config()) == wanted


@pytest.mark.parametrize(
    ("pooling", "wanted"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"word_embedding_dimension": 32}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "mean", "pooling_mode_max_tokens": True}, "mean"),
    ],
)
def test_sentence_transformers_wins(tmp_path, pooling, wanted):
    other = {"cls": "mean", "mean": "cls"}[wanted]
    folder = make_checkpoint(tmp_path / "checkpoint", classifier_pooling=other)
    assert resolve_pooling("auto", load_config(folder)) == other
    add_modules(folder, "Transformer", "Pooling", "Normalize", **pooling)
    assert resolve_pooling("auto", load_config(folder)) == wanted


@pytest.mark.parametrize(
    ("kinds", "pooling", "found"),
    [
        (["Transformer", "Pooling"], {"pooling_mode": "max"}, "max"),
        (
            ["Transformer", "Pooling"],
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            r"cls\+mean",
        ),
        (["Transformer", "Pooling"], {}, "1_Pooling/config.json, which is missing"),
        (["Transformer", "Pooling"], {"pooling_mode_mean_tokens": False}, "no pooling"),
        (["Transformer", "Pooling", "Dense"], {"pooling_mode": "cls"}, "module Dense"),
    ],
)
def test_what_is_not_supported(folder, kinds, pooling, found):
    """No hindrance to what needs no vectors of texts."""
    add_modules(folder, *kinds, **pooling)
    config = load_config(folder)
    with pytest.raises(ValueError, match=found):
        resolve_pooling("auto", config)
    assert resolve_pooling("mean", config) == "mean"


def test_unknown(folder):
    with pytest.raises(ValueError, match=r"'max'.*auto, cls, mean"):
        resolve_pooling("max", load_config(folder))


@pytest.mark.parametrize(
    "path", ["", ".", "..", "../other", "/etc", "a/b", r"\\host\share"]
)
def test_a_pooling_outside_the_checkpoint(folder, path):
    """It is not looked for."""
    add_modules(folder, "Transformer", "Pooling", pooling_mode="cls")
    other = folder.parent / "other"
    other.mkdir(exist_ok=True)
    (other / "config.json").write_text('{"pooling_mode": "cls"}')
    modules = json.loads((folder / MODULES).read_text())
    modules[1]["path"] = path
    (folder / MODULES).write_text(json.dumps(modules))
    with pytest.raises(ValueError, match="not a folder of the checkpoint"):
        resolve_pooling("auto", load_config(folder))


@pytest.mark.parametrize("data", ["[{", "\ud83d", "[" * 100_000, "1" * 5_000])
def test_no_json(folder, data):
    (folder / MODULES).write_bytes(data.encode("utf8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"modules\.json"):
        load_config(folder)


def test_no_such_files(folder):
    assert read_sentence_pooling(folder) == {}
    (folder / MODULES).write_text("{}")
    assert read_sentence_pooling(folder) == {}


def test_a_pooling_that_is_no_object(folder):
    add_modules(folder, "Transformer", "Pooling", pooling_mode="cls")
    (folder / "1_Pooling" / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="a pooling that is not an object"):
        resolve_pooling("auto", load_config(folder))


def test_it_is_saved_with_the_encoder(folder, tmp_path):
    """A pipeline takes the encoder along, and nothing else of its folder."""
    add_modules(folder, "Transformer", "Pooling", pooling_mode="mean")
    config = load_config(folder)
    save_checkpoint(
        tmp_path / "saved", config, init_tensors(config, 0), make_tokenizer().to_str()
    )
    assert load_config(tmp_path / "saved") == config
    assert resolve_pooling("auto", load_config(tmp_path / "saved")) == "mean"
    transformers = require("transformers")
    assert transformers.AutoModel.from_pretrained(tmp_path / "saved")
