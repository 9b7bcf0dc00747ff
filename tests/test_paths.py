"""`~` in the paths of every command, which not every shell fills in."""

import shutil

import pytest

from experiments.__main__ import app as experiments
from spacy_modernbert.corpora.__main__ import app as corpora

from .commands import done, failed, invoke
from .corpora.util import write_craft
from .util import make_checkpoint, make_text, require

PRETRAINING = """
[pretraining]
encoder = "{home}/encoder"
train = "{home}/texts.txt"
dev = "{home}/texts.txt"
backend = "cpu"
warmup_steps = 1
eval_frequency = 1
evaluate_wordpieces = 100

[pretraining.phases]

[pretraining.phases.short]
length = 32
batch_wordpieces = 64
steps = 1
"""

# What each command is given, and the outputs that it is to make. That of `evaluate` has
# a test with its own.
COMMANDS = {
    "convert": (["~/encoder", "~/out", "--group-size=32"], ["out/config.json"]),
    "embed": (["~/texts.txt", "~/out.npy", "--model=~/encoder"], ["out.npy"]),
    "encoder": (
        ["own", "~/out", "--corpus=~/texts.txt", "--configs=~/sizes"],
        ["out/config.json"],
    ),
    "export-onnx": (["~/encoder", "~/out"], ["out/model.onnx"]),
    "info": (["~/nlp"], []),
    "lengths": (
        ["~/texts.txt", "--tokenizer=~/encoder", "--output=~/out.json"],
        ["out.json"],
    ),
    "pretrain": (
        ["~/run.cfg", "~/out", "--export=~/small"],
        ["out/log.jsonl", "small/config.json"],
    ),
}


@pytest.fixture
def home(home, trained, monkeypatch):
    make_checkpoint(home / "encoder")
    lines = [make_text(seed, 3) for seed in range(20)]
    (home / "texts.txt").write_text("\n".join(lines))
    (home / "sizes").mkdir()
    shutil.copy(home / "encoder" / "config.json", home / "sizes" / "own.json")
    (home / "run.cfg").write_text(PRETRAINING.format(home=home.as_posix()), "utf8")
    shutil.copytree(trained, home / "nlp")
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    return home


@pytest.mark.parametrize("name", COMMANDS)
def test_the_home_folder(name, home):
    if name == "export-onnx":
        require("onnx", reason="needs the extra onnx")
    arguments, outputs = COMMANDS[name]
    done(invoke(name, *arguments))
    for output in outputs:
        assert (home / output).is_file()
    # No folder of that name.
    assert list((home / "elsewhere").iterdir()) == []


def test_the_home_folder_of_corpora(home):
    write_craft(home / "source")
    done(invoke("craft", "~/craft", "--source=~/source", app=corpora))
    done(invoke("roster-tiny", "~/roster", app=corpora))
    for output in ("craft", "roster"):
        assert (home / output / "report.json").is_file()
    assert list((home / "elsewhere").iterdir()) == []
    # The others are as these.
    callbacks = [command.callback for command in corpora.registered_commands]
    assert all(hasattr(callback, "__wrapped__") for callback in callbacks)


def test_the_home_folder_of_experiments(home, monkeypatch):
    seen = []

    def run_cell(cell, settings):
        seen.append((settings.encoder, settings.results, settings.work))
        raise LookupError("stopped")

    monkeypatch.setattr("experiments.__main__.run_cell", run_cell)
    monkeypatch.setattr("experiments.__main__._check_corpus", lambda _: None)
    monkeypatch.setattr("experiments.__main__.is_done", lambda *_: False)
    folders = ["--encoder=~/encoder", "--results=~/results", "--work=~/work"]
    failed(invoke("run", "windows", *folders, app=experiments))
    assert seen == [(home / "encoder", home / "results", home / "work")]
