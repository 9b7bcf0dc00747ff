"""A whole experiment, for a moment."""

import json
import re
import shutil
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from spacy.util import dot_to_object
from thinc.api import Config

from benchmarks.machine import describe_machine
from experiments import run as RUN
from experiments.cells import EXPERIMENTS, FROZEN, REFERENCE, STOCK, Cell
from experiments.run import (
    Settings,
    check_machine,
    count_steps,
    digest,
    digest_recipe,
    is_done,
    make_random_encoder,
    make_train_command,
    read_record,
    run_cell,
)
from experiments.table import make_page, spread
from spacy_modernbert.corpora.roster import RosterSize, Stage, make_roster
from spacy_modernbert.encoder.checkpoint import load_config, open_tensors
from spacy_modernbert.encoder.config import FULL
from spacy_modernbert.encoder.processor import processor_name

from ..util import ROOT


@pytest.fixture
def settings(tmp_path, checkpoint):
    stage = Stage(n_words=600, min_words=40, max_words=80, words_per_name=20)
    make_roster(RosterSize(train=(stage,), held_out=stage)).write(
        tmp_path / "corpus" / "litbank"
    )
    return Settings(
        steps=3,
        encoder=checkpoint,
        corpora=tmp_path / "corpus",
        recipes=ROOT / "configs",
        work=tmp_path / "work",
        results=tmp_path / "results",
        threads=1,
    )


def write_record(settings, cell, **values):
    settings.results.mkdir(parents=True, exist_ok=True)
    path = settings.results / f"{cell.name}.json"
    path.write_text(json.dumps(values))


def write_done(settings, cell, processor="x", flags=(), **values):
    """A record that counts."""
    weights = settings.encoder / "model.safetensors"
    write_record(
        settings,
        cell,
        steps=settings.steps,
        encoder=str(settings.encoder) if cell.weights else None,
        encoder_digest=digest([weights]) if cell.weights == "pretrained" else None,
        recipe_digest=digest_recipe(settings.recipes / f"{cell.recipe}.cfg"),
        threads=2,
        machine={"processor": processor, "flags": flags},
        **values,
    )


def test_the_digest_of_a_recipe_is_that_of_its_settings(tmp_path):
    path = tmp_path / "recipe.cfg"

    def make(text):
        path.write_text(text)
        return digest_recipe(path)

    first = make("[paths]\ntrain = null\ndev = null\n\n[corpus]\npath = ${paths.dev}\n")
    # Comments and the order are of no account; a value and a variable are.
    assert first == make(
        "# Mine.\n[corpus]\npath = ${paths.dev}\n[paths]\ndev = null\ntrain = null\n"
    )
    changed = "[paths]\ntrain = null\ndev = 1\n\n[corpus]\npath = ${paths.dev}\n"
    assert first != make(changed)
    assert first != make(
        changed.replace("dev = 1", "dev = null").replace("{paths.dev", "{paths.train")
    )
    # Nor is how the path of an encoder is written.
    assert make('[paths]\nencoder = "./a"\n') == make('[paths]\nencoder = "a"\n')
    assert make('[paths]\nencoder = "./a"\n') != make('[paths]\nencoder = "b"\n')
    # Nor is how long texts may be.
    first = make("[nlp]\nafter_creation = null\n")
    block = '[nlp]\n\n[nlp.after_creation]\n@callbacks = "{}"\nmax_length = 2\n'
    assert first == make(block.format("spacy-modernbert.max_length.v1"))
    assert first != make(block.format("mine.v1"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs os.wait4")
def test_a_cell(settings):
    cell = Cell("mini", "random", window=128, corpus="litbank", seed=1)
    assert read_record(cell, settings.results) is None
    record = run_cell(cell, settings)
    assert record == read_record(cell, settings.results)
    assert record["steps"] == 3 and record["window"] == 128 and record["seed"] == 1
    assert record["train_seconds"] > 0 and record["train_peak_mb"] > 100
    assert record["train_wordpieces"] > 3
    assert 0 <= record["test"]["f"] <= 1
    assert "--variables.window 128" in record["train_command"]
    assert len(record["learning_curve"]) >= 3
    page = make_page(settings.results)
    assert "| mini | random |" not in page  # in no experiment with this window
    write_record(settings, replace(cell, window=8192), **{**record, "window": 8192})
    page = make_page(settings.results)
    assert "| mini | random | 8,192 | 1 |" in page
    assert "## Names" not in page  # nothing of it was run
    assert f"- threads: 1, {record['machine']['processor']}" in page


def test_the_gpu_of_the_peer(settings):
    """Ours take a GPU by themselves; spacy-transformers is told."""
    settings = replace(settings, gpu_id=0)
    commands = [
        make_train_command(cell, settings, 3, settings.work)
        for cell in (replace(STOCK, corpus="litbank"), Cell("cnn", None))
    ]
    assert commands[0][-2:] == ["--gpu-id", "0"]
    assert "--gpu-id" not in commands[1]


def test_weights_of_the_last_step(settings):
    """Said in the config's own words: JSON, and not Python."""
    command = make_train_command(
        replace(STOCK, average=False), settings, 3, settings.work
    )
    option = command.index("--training.optimizer.use_averages")
    assert json.loads(command[option + 1]) is False
    assert replace(STOCK, average=False).name != STOCK.name


def test_an_encoder_that_is_not_trained(settings):
    """By a setting that the recipe has."""
    cell = Cell("roster", trains_encoder=False, window=8192, corpus="roster")
    command = make_train_command(cell, settings, 3, settings.work)
    option = command.index("--components.modernbert_ner.model.tok2vec.grad_factor")
    assert command[option + 1] == "0.0"
    name = command[option].removeprefix("--")
    recipe = Config().from_disk(settings.recipes / "roster.cfg", interpolate=False)
    assert dot_to_object(recipe, name) == 1.0
    assert cell.name != replace(cell, trains_encoder=True).name


def test_random_weights(settings, tmp_path):
    for seed in (0, 1):
        make_random_encoder("random", settings.encoder, tmp_path / str(seed), seed)
    config = load_config(settings.encoder)
    assert load_config(tmp_path / "0") == config
    tables = [
        open_tensors(tmp_path / str(seed), config)["embeddings.tok_embeddings.weight"]
        for seed in (0, 1)
    ]
    assert not np.allclose(*tables)
    texts = [
        (folder / "tokenizer.json").read_bytes()
        for folder in (tmp_path / "0", settings.encoder)
    ]
    assert texts[0] == texts[1]


def test_random_weights_as_transformers_draws_them(settings, tmp_path):
    """All of them but queries and keys that match, in layers that see everything."""
    for weights in ("random", "drawn"):
        make_random_encoder(weights, settings.encoder, tmp_path / weights, 0)
    config = load_config(settings.encoder)
    matching, drawn = (
        open_tensors(tmp_path / weights, config) for weights in ("random", "drawn")
    )
    differing = {
        name for name in drawn if not np.array_equal(drawn[name], matching[name])
    }
    full = {
        f"layers.{i}.attn.Wqkv.weight"
        for i, layer_type in enumerate(config.layer_types)
        if i > 0 and layer_type == FULL
    }
    assert differing == full


def test_steps_in_the_same_time(settings):
    timed = Cell("cnn", None, budget="time", corpus="litbank", seed=2)
    assert count_steps(replace(timed, budget="steps"), settings, None) == 3
    with pytest.raises(LookupError, match="litbank-mini-pretrained-8192"):
        count_steps(timed, settings, None)
    reference = replace(REFERENCE, corpus="litbank", seed=2)
    write_done(settings, reference, train_seconds=60.0)
    with pytest.raises(LookupError, match="litbank-cnn-equal-steps-seed2 first"):
        count_steps(timed, settings, None)
    paced = replace(timed, budget="steps")
    write_done(settings, paced, train_seconds=15.0)
    assert count_steps(timed, settings, None) == 12


def write_times(settings, timed, reference, paced):
    """What a budget of time is measured by, in seconds."""
    others = replace(REFERENCE, corpus=timed.corpus, seed=timed.seed)
    write_done(settings, others, train_seconds=reference)
    write_done(settings, replace(timed, budget="steps"), train_seconds=paced)


def test_what_does_not_grow_with_the_steps_is_no_pace(settings):
    """A training that starts, evaluates and saves in 10 seconds, and takes one more for
    each step, has 50 steps in a minute."""
    settings = replace(settings, steps=20)
    timed = Cell("cnn", None, budget="time", corpus="litbank")
    write_times(settings, timed, reference=60.0, paced=30.0)
    assert count_steps(timed, settings, few_seconds=16.0) == 50
    # Where that is not known, as by the first records.
    assert count_steps(timed, settings, None) == 40
    write_done(replace(settings, steps=40), timed)
    assert is_done(timed, settings)
    write_done(replace(settings, steps=40), timed, few_steps_seconds=16.0)
    assert not is_done(timed, settings)
    write_done(replace(settings, steps=50), timed, few_steps_seconds=16.0)
    assert is_done(timed, settings)
    with pytest.raises(LookupError, match=r"20 took 30\.0, and .*Give more --steps"):
        count_steps(timed, settings, few_seconds=30.0)
    write_times(settings, timed, reference=15.0, paced=30.0)
    with pytest.raises(LookupError, match=r"reference took 15\.0\. Give more"):
        count_steps(timed, settings, few_seconds=16.0)


@pytest.mark.skipif(sys.platform == "win32", reason="needs os.wait4")
def test_a_cell_of_equal_time(settings, monkeypatch):
    """Its overhead is measured first, and is in the record."""
    timed = Cell("cnn", None, budget="time", corpus="litbank")
    settings = replace(settings, steps=20, threads=2)
    run, asked = RUN._run, []
    monkeypatch.setattr(RUN, "check_machine", lambda settings: None)

    def timed_run(command, threads):
        asked.append(command)
        is_few = "few-steps" in " ".join(command)
        return (16.0, 0.0) if is_few else run(command, threads)

    monkeypatch.setattr(RUN, "_run", timed_run)
    with pytest.raises(LookupError, match="litbank-mini-pretrained-8192"):
        run_cell(timed, settings)
    assert not asked
    write_times(settings, timed, reference=20.0, paced=30.0)
    record = run_cell(timed, settings)
    assert (record["few_steps_seconds"], record["steps"]) == (16.0, 10)
    assert is_done(timed, settings)
    few, full, _ = asked
    steps = full.index("--training.max_steps") + 1
    assert (few[steps], full[steps]) == ("6", "10")


def test_one_folder_for_each_machine(settings):
    """Or means would be of several."""
    check_machine(settings)
    cell = Cell("cnn", None, corpus="litbank")
    here = describe_machine()["flags"]
    write_done(settings, cell, processor=processor_name(), flags=here)
    with pytest.raises(LookupError, match=r"2 threads, and this is .*1 threads"):
        run_cell(replace(cell, seed=1), settings)
    if not torch.cuda.is_available():
        check_machine(replace(settings, threads=2))
    # Of the same name, and another processor.
    write_done(settings, cell, processor=processor_name(), flags=["avx9"])
    with pytest.raises(LookupError, match=r"records of .*avx9, 2 threads"):
        check_machine(replace(settings, threads=2))
    write_done(settings, cell, processor="y")
    with pytest.raises(LookupError, match=r"records of y, 2 threads.*--results"):
        check_machine(replace(settings, threads=2))


def test_what_is_done(settings):
    """A record counts for what running it now would make."""
    cell = Cell("mini", window=8192, corpus="litbank")
    assert not is_done(cell, settings)
    named = {
        "steps": 3,
        "encoder": str(settings.encoder),
        "recipe_digest": digest_recipe(settings.recipes / "mini.cfg"),
    }
    write_done(settings, cell)
    assert is_done(cell, settings)
    assert not is_done(cell, replace(settings, steps=4))
    copy = shutil.copytree(settings.encoder, settings.work)
    assert not is_done(cell, replace(settings, encoder=copy))
    for key in ("encoder_digest", "shape_digest", "corpus_digest"):
        write_record(settings, cell, **{**named, key: "of others"})
        assert not is_done(cell, settings)
    fresh = replace(cell, weights="random")
    write_record(settings, fresh, **named)
    assert is_done(fresh, settings)
    write_record(settings, fresh, **{**named, "recipe_digest": "of another"})
    assert not is_done(fresh, settings)
    bare = Cell("cnn", None, corpus="litbank")
    write_done(settings, bare)
    assert is_done(bare, replace(settings, encoder=settings.work / "absent"))


def test_an_encoder_that_is_not_there(settings):
    """Such as an id of the hub, whose weights would be those of no file."""
    write_done(settings, cell := Cell("mini", window=8192, corpus="litbank"))
    with pytest.raises(FileNotFoundError, match="absent"):
        is_done(cell, replace(settings, encoder=settings.work / "absent"))


@pytest.fixture
def values():
    """What a record of anything has."""
    return {
        "steps": 3,
        "encoder_digest": "0123456789abcdef",
        "train_seconds": 60.0,
        "train_peak_mb": 1000,
        "test": {"f": 0.5, "p": 0.5, "r": 0.5},
        "machine": {"processor": "x"},
        "threads": 2,
    }


def test_no_mean_of_two_encoders_or_recipes(settings, values):
    made = [
        (0, "aaaaaaaa", 3, "mine"),
        (1, "bbbbbbbb", 3, "mine"),
        (2, "aaaaaaaa", 3, "mine"),
        (3, "aaaaaaaa", 4, "mine"),
        (4, "bbbbbbbb", 3, "theirs"),
    ]
    for seed, encoder_digest, steps, recipe_digest in made:
        cell = replace(REFERENCE, corpus="litbank", seed=seed)
        of_seed = {
            "steps": steps,
            "encoder_digest": encoder_digest,
            "recipe_digest": recipe_digest,
        }
        write_record(settings, cell, **asdict(cell), **{**values, **of_seed})
    page, _, _ = make_page(settings.results).partition("### craft")
    table = page[page.index("### litbank") :].partition("\n## ")[0]
    lines = [
        f"| mini | pretrained ({start}) | 8,192 | {n_seeds} | 50.0"
        for start, n_seeds in (("aaaaaa", 2), ("aaaaaa", 1), ("bbbbbb", 1))
    ]
    assert [table.count(line) for line in lines] == [1, 1, 2]


@pytest.mark.parametrize("key", ["corpus_digest", "shape_digest"])
def test_no_mean_of_two_corpora_or_shapes(settings, values, key):
    """As far as records say of which they are."""
    fresh = replace(REFERENCE, weights="random", corpus="litbank")
    for seed, digests in enumerate(({key: "one"}, {key: "other"}, {key: "one"}, {})):
        cell = replace(fresh, seed=seed)
        write_record(settings, cell, **asdict(cell), **values, **digests)
    page = make_page(settings.results)
    table = page[page.index("### litbank") :].partition("\n## ")[0]
    seeds = [line.split("|")[4].strip() for line in table.splitlines()[4:]]
    assert seeds == ["3", "1"]


def test_the_page_has_all_seeds_and_corpora(settings, values):
    for corpus, seed in (("litbank", 7), ("mine", 8)):
        cell = replace(REFERENCE, corpus=corpus, seed=seed)
        write_record(settings, cell, **asdict(cell), **values)
    (settings.results / "NOTE.md").write_text("On two cores.\n")
    page = make_page(settings.results)
    # In each experiment that has it, for its own corpora and for any that was added.
    having = [each for each in EXPERIMENTS.values() if REFERENCE in each.cells]
    on_litbank = [each for each in having if "litbank" in each.corpora]
    line = "| mini | pretrained (012345) | 8,192 | 1 | 50.0 |"
    assert page.count(line) == len(on_litbank) + len(having) == 11
    assert page.index("### litbank") < page.index("### mine")
    assert page.startswith("# Experiments\n\nOn two cores.\n\nTest documents")


def test_the_corpora_of_a_table(settings, values):
    """Those that it was run on, but not where another one shares the cell."""
    for cell, corpus, f in (
        (FROZEN, "litbank", 0.1),
        (FROZEN, "roster", 0.2),
        (replace(REFERENCE, window=512), "roster", 0.3),
    ):
        cell = replace(cell, corpus=corpus)
        values["test"] = {"f": f, "p": f, "r": f}
        write_record(settings, cell, **asdict(cell), **values)
    _, *tables = make_page(settings.results).split("\n## ")
    found = {table.split("\n")[0]: re.findall(r"### (.*)", table) for table in tables}
    assert found == {
        EXPERIMENTS["windows"].title: ["roster"],
        EXPERIMENTS["frozen"].title: ["litbank"],
        EXPERIMENTS["lookup"].title: ["roster"],
    }


def test_twice_the_steps(settings):
    assert count_steps(Cell("mini", budget="double"), settings, None) == 6
    assert count_steps(Cell("mini", budget="two-thirds"), settings, None) == 2


def test_spread():
    assert spread([1.0]) == "1.0"
    assert spread([1.0, 3.0]) == "2.0 ± 1.4"
