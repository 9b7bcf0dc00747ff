"""`python -m spacy modernbert pretrain`."""

import json
import shutil

import numpy as np
import pytest

from spacy_modernbert.cli.locks import locked
from spacy_modernbert.encoder.checkpoint import load_config, save_checkpoint
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.tensor_files import read_entries
from spacy_modernbert.encoder.weights import init_tensors

from ..commands import done, failed, invoke, words
from ..encoder.util import SMALL, make_byte_tokenizer
from ..util import read_jsonl

CONFIG = """
[pretraining]
encoder = "{folder}/encoder"
train = "{folder}/train.jsonl"
dev = "{folder}/train.jsonl"
backend = "cpu"
warmup_steps = 1
eval_frequency = 2
evaluate_wordpieces = 100

[pretraining.phases]

[pretraining.phases.short]
length = 32
batch_wordpieces = 64
steps = 4
"""


@pytest.fixture
def folder(tmp_path):
    config = ModernBertConfig.from_dict({"model_type": "modernbert", **SMALL})
    tensors = init_tensors(config, seed=0)
    save_checkpoint(
        tmp_path / "encoder", config, tensors, make_byte_tokenizer().to_str()
    )
    lines = [json.dumps({"text": f"Text {i} of a few words."}) for i in range(20)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    (tmp_path / "run.cfg").write_text(CONFIG.format(folder=tmp_path), "utf8")
    return tmp_path


def run(folder, *options):
    return invoke("pretrain", folder / "run.cfg", folder / "out", *options)


def test_a_run(folder):
    assert "frequency alone" in done(run(folder, "--export", folder / "small"))
    assert load_config(folder / "out" / "encoder") == load_config(folder / "small")
    dtypes = read_entries(folder / "small" / "model.safetensors").values()
    assert {entry.dtype for entry in dtypes} == {"F16"}
    log = read_jsonl(folder / "out" / "log.jsonl")
    assert [record["step"] for record in log] == [2, 4, 4, 4]
    assert all(np.isfinite(record["dev_loss"]) for record in log[:2])
    assert log[2]["probe"]["unigram"]["n_masked"] > 0
    assert log[3]["export"] == str((folder / "small").resolve())


def test_it_goes_on(folder):
    done(run(folder, "--pretraining.phases.short.steps", "2"))
    assert "Resuming after step 2 of 4" in done(run(folder))
    log = read_jsonl(folder / "out" / "log.jsonl")
    assert [record["step"] for record in log if "loss" in record] == [2, 4]


def test_it_goes_on_with_other_settings(folder):
    def take(steps, rate):
        options = ("--pretraining.phases.short.steps", steps)
        return done(run(folder, *options, "--pretraining.learn_rate", rate))

    take(2, 0.001)
    found = take(4, 0.002)
    assert "From here on, learn_rate is 0.002 and was 0.001." in found
    assert "mask_rate" not in found
    # What was said last is what counts.
    assert "learn_rate" not in take(6, 0.002)
    (folder / "out" / "config.cfg").write_text("[training")
    assert "From here on" not in take(8, 0.001)


def test_it_goes_on_with_other_texts(folder):
    done(run(folder, "--pretraining.phases.short.steps", "2"))
    texts = folder / "train.jsonl"
    texts.write_text(texts.read_text() + "\n" + json.dumps({"text": "One more."}))
    more = f"{texts} has other texts than before"
    assert f"From here on, {more}." in done(run(folder))
    texts.write_text(texts.read_text() + "\n" + json.dumps({"text": "And more."}))
    assert f"with other settings: {more}" in failed(run(folder))


def test_the_same_by_other_paths(folder):
    """As from another folder, or on another machine."""
    done(run(folder))
    (folder / "moved").mkdir()
    for name in ("encoder", "train.jsonl"):
        shutil.move(folder / name, folder / "moved" / name)
    options = ["--pretraining.encoder", folder / "moved" / "encoder"]
    for name in ("train", "dev"):
        options += [f"--pretraining.{name}", folder / "moved" / "train.jsonl"]
    found = done(run(folder, *options, "--export", folder / "export"))
    assert "nothing is trained" in found and "From here on" not in found


def test_other_held_out_texts(folder):
    """They are told of, and keep nobody from what was learned without them."""
    dev = ("--pretraining.dev", folder / "dev.jsonl")
    (folder / "dev.jsonl").write_text(json.dumps({"text": "A text of some words."}))
    done(run(folder, *dev))
    message = "The held-out texts are others than before."
    assert message not in done(run(folder, *dev))
    (folder / "dev.jsonl").write_text(json.dumps({"text": "Another text of words."}))
    found = done(run(folder, *dev, "--export", folder / "export"))
    assert message in found
    load_config(folder / "export")


def test_a_section_that_is_there_twice(folder):
    config = folder / "run.cfg"
    short = "[pretraining.phases.short]\nsteps = 1\n"
    config.write_text(f"{config.read_text('utf8')}\n{short}", "utf8")
    found = failed(run(folder))
    assert "run.cfg cannot be read" in found
    assert "pretraining.phases.short" in found


def test_other_settings_come_too_late(folder):
    done(run(folder))
    before = (folder / "out" / "encoder" / "model.safetensors").read_bytes()
    options = ("--export", folder / "export", "--pretraining.learn_rate")
    found = failed(run(folder, *options, 0.003))
    assert "took all of its 4 steps with other settings: learn_rate is 0.003" in found
    assert not (folder / "export").exists()
    assert (folder / "out" / "encoder" / "model.safetensors").read_bytes() == before
    # What does not change the weights may differ, as on another machine.
    assert "nothing is trained" in done(
        run(
            folder, "--pretraining.precision", "float32", "--pretraining.backend", "cpu"
        )
    )


@pytest.mark.parametrize(
    "name, text",
    [
        ("config.cfg", '[nlp]\nlang = "en"\n'),
        ("config.cfg", "mine"),
        ("log.jsonl", '{"step": 200, "losses": {"ner": 2.5}}\n'),
    ],
)
def test_files_of_others_are_not_replaced(folder, name, text):
    """As those of `spacy train`, of which the output folder may be."""
    (folder / "out").mkdir()
    (folder / "out" / name).write_text(text)
    assert f"{name} exists and was not written by" in failed(run(folder))
    assert (folder / "out" / name).read_text() == text
    assert [path.name for path in (folder / "out").iterdir()] == [name]


def test_an_encoder_is_not_replaced_by_a_new_run(folder):
    """Where the state of the run that it comes from is gone, as it is large."""
    done(run(folder))
    (folder / "out" / "state.safetensors").unlink()
    files = [path for path in (folder / "out").rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    found = failed(run(folder))
    assert "There is an encoder in" in found and "no state.safetensors" in found
    assert {path: path.read_bytes() for path in files} == before


def test_what_was_not_written_is_written_when_it_goes_on(folder):
    """A run may be killed between the state and the checkpoint."""
    done(run(folder))
    shutil.rmtree(folder / "out" / "encoder")
    assert "All 4 steps were taken before" in done(run(folder))
    load_config(folder / "out" / "encoder")


def test_two_at_once(folder):
    done(run(folder, "--pretraining.phases.short.steps", "2"))
    with locked(folder / "out" / ".lock", folder / "out"):
        assert "Another process is writing" in failed(run(folder))
    done(run(folder))


def test_one_that_another_has_overtaken(folder, monkeypatch):
    """The other one saved a state, and ended, while this one read its texts."""
    from spacy_modernbert.pretraining.run import Pretraining

    done(run(folder, "--pretraining.phases.short.steps", "2"))
    make = Pretraining.__init__

    def be_overtaken(self, settings, output):
        make(self, settings, output)
        monkeypatch.undo()
        done(run(folder))

    monkeypatch.setattr(Pretraining, "__init__", be_overtaken)
    assert "Another process continued the run" in failed(run(folder))
    log = read_jsonl(folder / "out" / "log.jsonl")
    assert [record["step"] for record in log] == [2, 4, 4]


@pytest.mark.parametrize("name", ["config.cfg", "../out/config.cfg"])
def test_the_config_is_not_overwritten(folder, name):
    (folder / "out").mkdir()
    told = "# mine" + CONFIG.format(folder=folder)
    (folder / "out" / "config.cfg").write_text(told)
    found = failed(invoke("pretrain", folder / "out" / name, folder / "out"))
    assert "outside the output folder" in found
    assert (folder / "out" / "config.cfg").read_text() == told


def test_a_new_head_is_told_of(folder):
    message = "has no MLM head: a new one is initialized"
    assert message in done(run(folder))
    shutil.move(folder / "out" / "encoder", folder / "learned")
    shutil.rmtree(folder / "out")
    further = run(folder, "--pretraining.encoder", folder / "learned")
    assert message not in done(further)


def test_ctrl_c(folder, monkeypatch):
    from spacy_modernbert.pretraining.run import Pretraining

    def interrupt(self):
        raise KeyboardInterrupt

    # Before anything is saved, there is nothing to resume.
    with monkeypatch.context() as patched:
        patched.setattr(Pretraining, "evaluate", interrupt)
        result = run(folder)
    assert result.exit_code == 130
    assert "resume" not in result.output
    assert "the same command starts anew" in words(result)
    done(run(folder, "--pretraining.phases.short.steps", "2"))
    monkeypatch.setattr(Pretraining, "evaluate", interrupt)
    result = run(folder)
    assert result.exit_code == 130
    assert "Run the same command to resume" in result.output


@pytest.mark.parametrize("place", ["export", "out/encoder"])
def test_folders_are_looked_at_before_any_work(folder, monkeypatch, place):
    from spacy_modernbert.pretraining.run import Pretraining

    monkeypatch.setattr(Pretraining, "steps", lambda _: pytest.fail("in vain"))
    (folder / place).mkdir(parents=True)
    (folder / place / "thesis.txt").write_text("mine")
    found = failed(run(folder, "--export", folder / "export"))
    assert "holds other files (thesis.txt)" in found


def test_an_export_of_another_run_is_not_replaced(folder):
    shutil.copytree(folder / "encoder", folder / "export")
    before = (folder / "export" / "model.safetensors").read_bytes()
    found = failed(run(folder, "--export", folder / "export"))
    assert "There is a checkpoint in" in found
    assert (folder / "export" / "model.safetensors").read_bytes() == before
    done(run(folder))
    # Nor when the run goes on, or is done.
    found = failed(run(folder, "--export", folder / "export"))
    assert "There is a checkpoint in" in found
    assert (folder / "export" / "model.safetensors").read_bytes() == before


def test_an_export_of_the_run_is_replaced(folder):
    """By one of a later step, too, and wherever the folders have been moved."""
    export = ("--export", folder / "export")
    for steps in (2, 2, 4):
        done(run(folder, "--pretraining.phases.short.steps", steps, *export))
    exported = (folder / "export" / "model.safetensors").read_bytes()
    (folder / "export").rename(folder / "moved")
    done(run(folder, "--export", folder / "moved"))
    # What another run has put in its place since is not of this one.
    other = ("--pretraining.seed", "1", "--export", folder / "other")
    done(invoke("pretrain", folder / "run.cfg", folder / "out2", *other))
    shutil.rmtree(folder / "moved")
    (folder / "other").rename(folder / "moved")
    assert "does not say" in failed(run(folder, "--export", folder / "moved"))
    assert (folder / "moved" / "model.safetensors").read_bytes() != exported


def test_the_folder_of_the_run_is_no_place_to_export_to(folder):
    found = failed(run(folder, "--export", folder / "out"))
    assert "cannot be the output folder of the run" in found
    assert not list((folder / "out").iterdir())


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("out/encoder", "keeps its checkpoint in float32"),
        ("encoder", "which the run starts from"),
        ("out/../encoder", "which the run starts from"),
    ],
)
def test_places_where_the_run_has_a_checkpoint_are_none_to_export_to(
    folder, place, message
):
    before = (folder / "encoder" / "model.safetensors").read_bytes()
    assert message in failed(run(folder, "--export", folder / place))
    assert (folder / "encoder" / "model.safetensors").read_bytes() == before
    assert not list((folder / "out").iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pretraining.train", "absent.jsonl"], "no file absent.jsonl"),
        (["--pretraining.mask_rate", "2"], "mask_rate"),
        (["--pretraining.mask_ratio", "0.3"], "mask_ratio"),
        (["--pretraining.encoder", "./absent"], "absent"),
        (["--pretraining.backend", "onnx"], "runs on cuda, mps or cpu"),
        (["--pretraining.train", '["a.jsonl"]'], "is ['a.jsonl']. It should be text"),
        (["--learn_rate", "1"], "There is no option --learn_rate"),
    ],
)
def test_mistakes(folder, options, message):
    assert message in failed(run(folder, *options))
    assert not (folder / "out").exists()


def test_too_little_memory_of_the_host(folder, monkeypatch):
    from spacy_modernbert.pretraining.run import Pretraining

    def save(self):
        raise MemoryError("Unable to allocate 2 GiB")

    monkeypatch.setattr(Pretraining, "save", save)
    assert "Unable to allocate 2 GiB" in failed(run(folder))


def test_no_config(tmp_path):
    result = invoke("pretrain", tmp_path / "absent.cfg", tmp_path / "out")
    assert "no config file" in failed(result)
