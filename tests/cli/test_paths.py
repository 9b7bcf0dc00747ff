"""`~` in the paths of every command, which not every shell fills in."""

import shutil

import pytest

from ..commands import done, invoke
from ..util import make_checkpoint, make_text, require

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
def home(trained, tmp_path, monkeypatch):
    home = tmp_path / "home"
    make_checkpoint(home / "encoder")
    lines = [make_text(seed, 3) for seed in range(20)]
    (home / "texts.txt").write_text("\n".join(lines))
    (home / "sizes").mkdir()
    shutil.copy(home / "encoder" / "config.json", home / "sizes" / "own.json")
    (home / "run.cfg").write_text(PRETRAINING.format(home=home.as_posix()))
    shutil.copytree(trained, home / "nlp")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(home))
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
    assert list((home.parent / "elsewhere").iterdir()) == []
