"""The recipes in `configs/`, and the commands of `project.yml` that use them."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import spacy
import srsly
from spacy.cli._util import parse_config_overrides
from spacy.cli.debug_config import debug_config
from spacy.cli.init_config import fill_config
from spacy.cli.train import train
from spacy.util import load_config as load_training_config
from spacy.util import registry
from transformers import ModernBertConfig as HfConfig
from weasel.cli.run import project_run
from weasel.util.config import load_project_config

from spacy_modernbert.batchers import WordpieceBatcher
from spacy_modernbert.corpora.__main__ import app
from spacy_modernbert.encoder.checkpoint import (
    load_config,
    open_tensors,
    save_checkpoint,
)
from spacy_modernbert.encoder.config import SIZES_FOLDER, ModernBertConfig
from spacy_modernbert.encoder.weights import (
    count_weights,
    init_tensors,
)
from spacy_modernbert.pipelines import find_encoder_blocks
from spacy_modernbert.pretraining.settings import PretrainingSettings

from .util import ROOT

PRETRAINING = sorted((ROOT / "configs" / "pretraining").glob("*.cfg"))
RECIPES = sorted((ROOT / "configs").glob("*.cfg"))
# What is measured against: these do not have our encoder.
BASELINES = {"cnn", "spacy-transformers"}
OURS = [path for path in RECIPES if path.stem not in BASELINES]
SIZE_FILES = sorted(SIZES_FOLDER.glob("*.json"))
PROJECT = srsly.read_yaml(ROOT / "project.yml")

all_recipes = pytest.mark.parametrize(
    "recipe", RECIPES, ids=[path.stem for path in RECIPES]
)
our_recipes = pytest.mark.parametrize("recipe", OURS, ids=[path.stem for path in OURS])


@pytest.fixture
def paths(roster, checkpoint):
    return {
        "paths.train": str(roster / "train.spacy"),
        "paths.dev": str(roster / "dev.spacy"),
        "paths.encoder": str(checkpoint),
    }


def project_overrides(command, **values):
    """What a command of the project changes in a recipe."""
    (script,) = next(
        each["script"] for each in PROJECT["commands"] if each["name"] == command
    )
    for name, value in {**PROJECT["vars"], **values}.items():
        script = script.replace(f"${{vars.{name}}}", str(value))
    words = shlex.split(script)
    assert words[:4] == ["python", "-m", "spacy", "train"]
    options = words[words.index("--paths.train") :]
    return parse_config_overrides(options, env_var=None)


# -- Recipes ----------------------------------------------------------------------


def known_paths(recipe, paths):
    """Those that it has: not all have an encoder."""
    known = load_training_config(recipe)["paths"]
    return {
        key: value
        for key, value in paths.items()
        if key.removeprefix("paths.") in known
    }


def read_recipe(recipe, paths):
    overrides = known_paths(recipe, paths)
    return load_training_config(recipe, overrides=overrides, interpolate=True)


def find_encoder(config):
    """The block of the encoder: in its own component, or one that others listen to."""
    (block,) = find_encoder_blocks(config)
    return block.settings


def test_recipes():
    found = {path.stem for path in RECIPES}
    assert found > BASELINES
    minis = {"mini", "mini-words", "mini-plain", "mini-frozen"}
    assert found > {*minis, "base", "large", "laptop", "shared"}
    assert {path.stem for path in OURS} > {"roster", "roster-long", "roster-tiny"}


def test_what_is_compared_differs_in_nothing_else():
    mini, plain, words = (
        load_training_config(ROOT / "configs" / f"{name}.cfg", interpolate=False)
        for name in ("mini", "mini-plain", "mini-words")
    )
    model = words["components"]["modernbert_ner"]["model"]
    model["tok2vec"] = model["tok2vec"]["*"]["encoder"]
    words["training"]["dropout"] = 0.0
    words["training"]["optimizer"]["learn_rate"]["initial_rate"] = 0.0015
    assert mini == words
    model = plain["components"]["modernbert_ner"]["model"]
    assert mini != plain
    model.update(hidden_width=128, maxout_pieces=3)
    model["tok2vec"]["standardize"] = True
    assert mini == plain


def test_what_is_trained_on_a_frozen_encoder_is_the_baseline():
    """Wider, for what comes from the encoder."""
    frozen, words, cnn = (
        load_training_config(ROOT / "configs" / f"{name}.cfg", interpolate=False)
        for name in ("mini-frozen", "mini-words", "cnn")
    )
    theirs = cnn["components"]["tok2vec"]["model"]
    theirs["embed"]["width"] = theirs["encode"]["width"]
    ours = frozen["components"]["modernbert_ner"]["model"]["tok2vec"]
    both = ours["embed"]["*"]["both"]["*"]
    assert both["word"] == theirs["embed"]
    assert ours["encode"] == {**theirs["encode"], "width": 128}
    assert ours["embed"]["*"]["mixed"]["layer"]["nO"] == 128
    rate = frozen["training"]["optimizer"]["learn_rate"]
    assert rate["initial_rate"] == cnn["training"]["optimizer"]["learn_rate"]
    # And all else is as in the recipe in which the encoder is trained along.
    model = words["components"]["modernbert_ner"]["model"]
    encoder = model["tok2vec"]["*"]["encoder"]
    encoder.update(grad_factor=0.0, layer_lr_decay=1.0)
    assert both["encoder"]["tok2vec"] == encoder
    model["tok2vec"] = ours
    rate["initial_rate"] = words["training"]["optimizer"]["learn_rate"]["initial_rate"]
    assert frozen == words


@all_recipes
def test_debug_config(recipe, paths, capsys):
    debug_config(recipe, overrides=known_paths(recipe, paths))
    assert "Config is valid" in capsys.readouterr().out


@all_recipes
def test_fill_config(recipe, tmp_path):
    """A recipe says everything, as spaCy wants it: there is nothing to fill in."""
    _, filled = fill_config(tmp_path / "full.cfg", recipe, silent=True)
    filled.pop("pretraining")  # an empty block
    assert load_training_config(recipe) == filled


@all_recipes
def test_optimizer(recipe):
    """Python's `nlp.resume_training` makes it of its block alone, in which variables
    of other blocks have no value.
    """
    config = load_training_config(recipe)
    registry.resolve({"optimizer": config["training"]["optimizer"]})
    schedule = config["training"]["optimizer"].get("learn_rate")
    if isinstance(schedule, dict):
        assert schedule["total_steps"] == config["training"]["max_steps"]


@all_recipes
def test_long_documents_are_kept(recipe, paths):
    config = read_recipe(recipe, paths)
    batcher = registry.resolve(config["training"])["batcher"]
    if recipe.stem == "cnn":
        assert config["training"]["batcher"]["discard_oversize"] is False
    else:
        assert isinstance(batcher, WordpieceBatcher)
    for reader in config["corpora"].values():
        assert (reader["max_length"], reader["limit"]) == (0, 0)


@our_recipes
def test_windows(recipe, paths):
    spans = find_encoder(read_recipe(recipe, paths))["get_spans"]
    assert spans["window"] == PROJECT["vars"]["window"]
    assert spans["overlap"] == PROJECT["vars"]["overlap"]


@our_recipes
def test_the_project_trains(recipe, paths, tmp_path):
    """With the overrides of the project's own command, for a moment."""
    overrides = project_overrides(
        "fit", config=recipe.stem, backend="cpu", window=64, overlap=16
    )
    assert set(paths) <= set(overrides)
    moment = {"training.max_steps": 2, "training.eval_frequency": 2}
    if recipe.stem == "laptop":  # the encoder of the test has fewer layers
        moment["components.modernbert_ner.model.tok2vec.frozen_layers"] = 1
    train(recipe, tmp_path, overrides={**overrides, **paths, **moment})
    nlp = spacy.load(tmp_path / "model-best")
    encoder = find_encoder(nlp.config.interpolate())
    assert encoder["backend"] == "cpu"
    assert encoder["get_spans"]["window"] == 64
    assert {"COMPANY", "PERSON", "SHIP", "TOWN"} == set(
        nlp.pipe_labels[nlp.pipe_names[-1]]
    )


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_baselines_train(name, paths, tmp_path):
    moment = {"training.max_steps": 2, "training.eval_frequency": 2}
    recipe = ROOT / "configs" / f"{name}.cfg"
    train(recipe, tmp_path, overrides={**known_paths(recipe, paths), **moment})
    assert (tmp_path / "model-best").is_dir()


# -- The sizes of encoders --------------------------------------------------------


@pytest.mark.parametrize("path", SIZE_FILES, ids=[path.stem for path in SIZE_FILES])
def test_sizes_are_configs_of_modernbert(path):
    data = json.loads(path.read_text(encoding="utf8"))
    config = ModernBertConfig.from_dict(data)
    assert ModernBertConfig.from_dict(config.to_dict()) == config
    theirs = HfConfig(**data)
    for name in ("hidden_size", "num_hidden_layers", "local_attention", "pad_token_id"):
        assert getattr(theirs, name) == getattr(config, name)
    assert set(config.layer_types) == {"full_attention", "sliding_attention"}
    # As the published ones, but for the size: a document of 8,192 in one look.
    assert config.max_wordpieces == 8192
    assert config.global_rope_theta == 160_000 and config.local_rope_theta == 10_000
    assert (config.layer_types[0], *config.layer_types[-1:]) == (
        "full_attention",
        "full_attention" if config.num_hidden_layers % 3 == 1 else "sliding_attention",
    )


# The numbers of the paper (table 4): https://arxiv.org/abs/2412.13663
PUBLISHED = {
    "base": (22, 768, 12, 1152, 149_014_272),
    "large": (28, 1024, 16, 2624, 394_781_696),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name):
    path = SIZES_FOLDER / f"{name}.json"
    config = ModernBertConfig.from_dict(json.loads(path.read_text(encoding="utf8")))
    n_weights = count_weights(config)
    assert PUBLISHED[name] == (
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        config.intermediate_size,
        n_weights,
    )
    assert config.vocab_size == 50368
    assert config.local_attention == 128
    assert (config.cls_token_id, config.sep_token_id, config.pad_token_id) == (
        50281,
        50282,
        50283,
    )
    assert not (config.attention_bias or config.mlp_bias or config.norm_bias)


@pytest.mark.parametrize("path", PRETRAINING, ids=[each.stem for each in PRETRAINING])
def test_pretraining(path):
    settings = PretrainingSettings.from_config(load_training_config(path))
    assert max(phase.length for phase in settings.phases) == 8192
    # The project starts a fresh encoder of the recipe's size there.
    (script,) = next(
        each["script"]
        for each in PROJECT["commands"]
        if Path(settings.encoder).as_posix() in each.get("outputs", ())
    )
    size = shlex.split(script)[5]
    assert path.stem.removesuffix("-cpu") == size
    assert size in {each.stem for each in SIZE_FILES}


# -- The project ------------------------------------------------------------------


def test_project():
    assert set(PROJECT["vars"]) >= {"corpus", "config", "encoder", "backend", "gpu_id"}
    names = [command["name"] for command in PROJECT["commands"]]
    for steps in PROJECT["workflows"].values():
        assert set(steps) <= set(names)
    for command in PROJECT["commands"]:
        assert command["help"] and command["script"]
        assert command.get("deps") or command["name"] in ("corpus", "corpora")
    default = PROJECT["vars"]
    assert (ROOT / "configs" / f"{default['config']}.cfg").is_file()
    assert (ROOT / default["encoder"] / "model.safetensors").is_file()
    assert default["pretraining"] in {path.stem for path in PRETRAINING}


@pytest.mark.parametrize(
    "given, name",
    [
        ({}, "roster-8192"),
        ({"vars.corpus": "mine", "vars.window": 128}, "mine-128"),
        ({"vars.corpus": "mine", "vars.run": "words"}, "words"),
    ],
)
def test_what_a_training_is_called(given, name):
    project = load_project_config(ROOT, overrides=given)
    scripts = {each["name"]: " ".join(each["script"]) for each in project["commands"]}
    assert f"--output training/{name} " in scripts["fit"]
    assert f" training/{name}/model-best " in scripts["evaluate"]
    assert f"--report metrics/{name}.html" in scripts["evaluate"]


def test_an_encoder_that_changed_is_taken_again(checkpoint, tmp_path):
    """As one that was pretrained further in its place."""
    shutil.copy(ROOT / "project.yml", tmp_path)
    (tmp_path / "corpus" / "roster").mkdir(parents=True)
    (tmp_path / "corpus" / "roster" / "train.spacy").touch()
    shutil.copytree(checkpoint, tmp_path / "mine")
    config = load_config(checkpoint)
    text = (checkpoint / "tokenizer.json").read_text(encoding="utf8")
    taken = []
    for seed in (0, 1):
        tensors = init_tensors(config, seed)
        save_checkpoint(tmp_path / "mine", config, tensors, text)
        project_run(tmp_path, "encoder", overrides={"vars.encoder": "mine"})
        copied = open_tensors(tmp_path / "encoders" / "roster" / "mine", config)
        name = "embeddings.tok_embeddings.weight"
        np.testing.assert_array_equal(copied[name], tensors[name])
        taken.append(copied[name])
    assert not np.array_equal(*taken)


def test_every_corpus_has_a_command():
    commands = {
        (command.name or command.callback.__name__).replace("_", "-")
        for command in app.registered_commands
    }
    # Raw text has no entities to train a recognizer on.
    described = "roster, roster-long, roster-tiny, litbank or craft"
    assert set(re.split(", | or ", described)) == commands - {"pretraining"}
    assert described in (ROOT / "project.yml").read_text(encoding="utf8")
