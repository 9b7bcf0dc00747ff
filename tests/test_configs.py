"""The recipes in `configs/`, and the commands of `project.yml` that use them."""

import json
import math
import shlex
from pathlib import Path

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

from spacy_modernbert.batchers import WordpieceBatcher
from spacy_modernbert.corpora.__main__ import app
from spacy_modernbert.corpora.roster import RosterSize, Stage, make_roster
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.weights import expected_shapes
from spacy_modernbert.pretraining.settings import PretrainingSettings

from .util import ROOT

PRETRAINING = sorted((ROOT / "configs" / "pretraining").glob("*.cfg"))
RECIPES = sorted({*(ROOT / "configs").glob("*/*.cfg")} - {*PRETRAINING})
SIZES = sorted((ROOT / "configs" / "encoders").glob("*.json"))
PROJECT = srsly.read_yaml(ROOT / "project.yml")

recipes = pytest.mark.parametrize(
    "recipe", RECIPES, ids=[f"{path.parent.name}/{path.stem}" for path in RECIPES]
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A few short documents."""
    folder = tmp_path_factory.mktemp("corpus")
    stage = Stage(n_words=600, min_words=40, max_words=80, words_per_name=20)
    make_roster(RosterSize(train=(stage,), held_out=stage)).write(folder)
    return folder


@pytest.fixture
def paths(corpus, checkpoint):
    return {
        "paths.train": str(corpus / "train.spacy"),
        "paths.dev": str(corpus / "dev.spacy"),
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


def test_there_is_a_recipe_for_each_corpus():
    found = {path.parent.name for path in RECIPES}
    assert found == {"roster", "roster-long", "roster-tiny", "litbank", "craft"}


@recipes
def test_debug_config(recipe, paths, capsys):
    debug_config(recipe, overrides=paths)
    assert "Config is valid" in capsys.readouterr().out


@recipes
def test_fill_config(recipe, tmp_path):
    """A recipe says everything, as spaCy wants it: there is nothing to fill in."""
    _, filled = fill_config(tmp_path / "full.cfg", recipe, silent=True)
    filled.pop("pretraining")  # an empty block
    assert load_training_config(recipe) == filled


@recipes
def test_long_documents_are_kept(recipe, paths):
    config = load_training_config(recipe, overrides=paths, interpolate=True)
    batcher = registry.resolve(config["training"])["batcher"]
    assert isinstance(batcher, WordpieceBatcher)
    for reader in config["corpora"].values():
        assert (reader["max_length"], reader["limit"]) == (0, 0)
    spans = config["components"]["modernbert_ner"]["model"]["tok2vec"]["get_spans"]
    assert spans["window"] == PROJECT["vars"]["window"]
    assert spans["overlap"] == PROJECT["vars"]["overlap"]


@recipes
def test_the_project_trains(recipe, paths, tmp_path):
    """With the overrides of the project's own command, for a moment."""
    overrides = project_overrides(
        "fit", corpus=recipe.parent.name, config=recipe.stem, backend="cpu", window=64,
        overlap=16,
    )  # fmt: skip
    assert set(paths) <= set(overrides)
    moment = {"training.max_steps": 2, "training.eval_frequency": 2}
    train(recipe, tmp_path, overrides={**overrides, **paths, **moment})
    nlp = spacy.load(tmp_path / "model-best")
    tok2vec = nlp.config["components"]["modernbert_ner"]["model"]["tok2vec"]
    assert tok2vec["backend"] == "cpu"
    assert tok2vec["get_spans"]["window"] == 64
    assert {"COMPANY", "PERSON", "SHIP", "TOWN"} == set(
        nlp.pipe_labels["modernbert_ner"]
    )


# -- The sizes of encoders --------------------------------------------------------


@pytest.mark.parametrize("path", SIZES, ids=[path.stem for path in SIZES])
def test_sizes_are_configs_of_modernbert(path):
    data = json.loads(path.read_text(encoding="utf8"))
    config = ModernBertConfig.from_dict(data)
    assert ModernBertConfig.from_dict(config.to_dict()) == config
    theirs = HfConfig(**data)
    for name in ("hidden_size", "num_hidden_layers", "local_attention", "pad_token_id"):
        assert getattr(theirs, name) == getattr(config, name)
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
    path = ROOT / "configs" / "encoders" / f"{name}.json"
    config = ModernBertConfig.from_dict(json.loads(path.read_text(encoding="utf8")))
    n_weights = sum(map(math.prod, expected_shapes(config).values()))
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
    sizes = {size.stem: size for size in SIZES}
    size = json.loads(sizes[Path(settings.encoder).name].read_text())
    assert max(phase.length for phase in settings.phases) == 8192
    assert size["max_position_embeddings"] == 8192


# -- The project ------------------------------------------------------------------


def test_project():
    assert set(PROJECT["vars"]) >= {"corpus", "config", "encoder", "backend", "gpu_id"}
    names = [command["name"] for command in PROJECT["commands"]]
    assert set(PROJECT["workflows"]["train"]) <= set(names)
    for command in PROJECT["commands"]:
        assert command["help"] and command["script"]
        assert command.get("deps") or command["name"] == "corpus"
    default = PROJECT["vars"]
    assert (ROOT / "configs" / default["corpus"] / f"{default['config']}.cfg").is_file()
    assert (ROOT / "configs" / "encoders" / f"{default['encoder']}.json").is_file()


def test_every_corpus_has_a_command():
    commands = {
        (command.name or command.callback.__name__).replace("_", "-")
        for command in app.registered_commands
    }
    # Raw text has no entities to train a recognizer on.
    assert {path.parent.name for path in RECIPES} == commands - {"pretraining"}
