"""The logger in real training runs: in a terminal, in a log file, cut short."""

import io

import pytest
import spacy
from spacy.cli.train import train as spacy_train
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from spacy.util import load_config, registry

from spacy_modernbert.evaluation.curve import LOG_NAME, read_curve
from spacy_modernbert.loggers import (
    Speed,
    format_postfix,
    format_row,
    make_columns,
    progress_logger_v1,
    read_memory,
)

from .util import ROOT, read_jsonl

NAME = "spacy-modernbert.ProgressLogger.v1"
RECIPE = ROOT / "configs" / "roster-tiny.cfg"
STEPS = {"training.max_steps": 4, "training.eval_frequency": 2}
ENTRY = {
    "epoch": 1,
    "step": 200,
    "losses": {"ner": 1234.5, "tagger": 1.0},
    "scores": {"ents_f": 0.5, "tag_acc": None},
    "score": 0.5,
    "wordpieces_per_second": 9876.5,
    "seconds_left": 3725.0,
    "memory": 1_500_000_000,
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def overrides(roster, checkpoint):
    return {
        "paths.train": str(roster / "train.spacy"),
        "paths.dev": str(roster / "dev.spacy"),
        "paths.encoder": str(checkpoint),
        "components.modernbert_ner.model.tok2vec.backend": "cpu",
        **STEPS,
    }


@pytest.fixture
def nlp(overrides):
    return init_nlp(load_config(RECIPE, overrides=overrides, interpolate=False))


def test_it_is_registered():
    assert registry.loggers.get(NAME) is progress_logger_v1
    with pytest.raises(ValueError, match="must be a path or null"):
        progress_logger_v1(3)


def test_spacy_train(overrides, tmp_path, capsys):
    """With the output in a file."""
    spacy_train(RECIPE, tmp_path, overrides=overrides)
    said = capsys.readouterr()
    # Plain lines, and no bar.
    assert "\r" not in said.out + said.err and "%|" not in said.err
    lines = said.out.splitlines()
    (header,) = [line for line in lines if "PIECES/S" in line]
    columns = len(header.split()) - 1  # "LOSS MODERNBERT_NER" is one of two words
    rows = [line.split() for line in lines if line.strip()[:1].isdigit()]
    assert [row[1] for row in rows] == ["0", "2", "4"]
    # Before a second step is made, nothing is known of speed and time left; on some
    # systems, nothing ever is of memory.
    unknown = read_memory() is None
    assert rows[0].count("-") == 2 + unknown and rows[-1].count("-") == unknown
    assert all(len(row) == columns + ("GB" in row) for row in rows)

    log = read_jsonl(tmp_path / LOG_NAME)
    assert [entry["step"] for entry in log] == [0, 2, 4]
    assert (tmp_path / "model-best").is_dir()
    seen = [entry["wordpieces"] for entry in log]
    assert 0 < seen[0] < seen[1] < seen[2]
    # No fewer than tokens: every token has wordpieces of its own.
    assert all(entry["wordpieces"] >= entry["words"] for entry in log)
    assert log[-1]["wordpieces_per_second"] > 0 and log[-1]["seconds_left"] == 0
    assert set(log[-1]["losses"]) == {"modernbert_ner"}
    assert 0 <= log[-1]["scores"]["ents_f"] == log[-1]["score"] <= 1
    # What weighs nothing is shown as well, but not what has no weight.
    assert list(log[-1]["scores"]) == ["ents_f", "ents_p", "ents_r"]
    assert "ENTS_P" in header and "PER_TYPE" not in header


def test_in_a_terminal(nlp):
    out, err = Terminal(), Terminal()
    train(nlp, stdout=out, stderr=err)
    bar = err.getvalue()
    assert "4/4" in bar and "step" in bar
    assert "loss" in bar and "ents_f" in bar and "wordpieces/s" in bar
    # The rows go elsewhere, and the bar is gone in the end.
    assert "4/4" not in out.getvalue()
    assert out.getvalue().count(" GB") == 3 * (read_memory() is not None)
    assert not bar.split("\r")[-1].strip()


def test_in_a_notebook(nlp):
    """Its standard error is no terminal, and without ipywidgets the bar is text."""

    class OutStream(io.StringIO):
        __module__ = "ipykernel.iostream"

    out, err, log = OutStream(), OutStream(), io.StringIO()
    train(nlp, stdout=out, stderr=err)
    assert "4/4" in err.getvalue()
    train(nlp, stdout=out, stderr=log)
    assert log.getvalue() == ""


def test_steps_by_a_variable(overrides):
    """spaCy keeps the config of a pipeline with its variables in it."""
    steps = {"variables.steps": 4, "training.max_steps": "${variables.steps}"}
    nlp = init_nlp(load_config(RECIPE, overrides={**overrides, **steps}))
    assert nlp.config["training"]["max_steps"] == "${variables.steps}"
    out, err = Terminal(), Terminal()
    train(nlp, stdout=out, stderr=err)
    assert "4/4" in err.getvalue()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_cut_short(nlp, tmp_path, error):
    """By Ctrl-C or by an error, in the middle of a step: what was written is whole,
    and the bar is gone."""
    path = tmp_path / "logs" / "run.jsonl"
    nlp.config["training"]["logger"]["output_file"] = str(path)
    update, calls = nlp.update, []

    def fail(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise error
        return update(*args, **kwargs)

    nlp.update = fail
    err = Terminal()
    with pytest.raises(error):
        train(nlp, stdout=Terminal(), stderr=err)
    assert [entry["step"] for entry in read_jsonl(path)] == [0, 2]
    assert not err.getvalue().split("\r")[-1].strip()
    # As the next run begins, the log does, too.
    nlp.update = update
    train(nlp, stdout=io.StringIO(), stderr=io.StringIO())
    assert [entry["step"] for entry in read_jsonl(path)] == [0, 2, 4]


def test_a_pipeline_without_an_encoder(tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("ner")
    nlp.config["training"]["max_steps"] = 0
    log_step, close = progress_logger_v1(tmp_path / "log.jsonl")(
        nlp, io.StringIO(), Terminal()
    )
    log_step(None)
    info = {"epoch": 0, "step": 1, "losses": {"ner": 2.0}, "words": 9}
    log_step({**info, "other_scores": {}, "score": 0.0})
    close()
    (entry,) = read_jsonl(tmp_path / "log.jsonl")
    assert entry["wordpieces"] == 0 and entry["wordpieces_per_second"] is None
    assert entry["seconds_left"] is None  # nobody knows when it ends
    assert entry["scores"]["ents_f"] is None


@pytest.mark.parametrize("place", ["file/run.jsonl", "folder"])
def test_a_log_that_cannot_be_written(nlp, tmp_path, place):
    """Is told of before anything is trained."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    nlp.config["training"]["logger"]["output_file"] = str(tmp_path / place)
    nlp.update = lambda *args, **kwargs: pytest.fail("trained in vain")
    with pytest.raises(OSError, match=place.partition("/")[0]):
        train(nlp, stdout=io.StringIO(), stderr=io.StringIO())
    assert (tmp_path / "file").read_text() == "mine"


def test_a_log_in_the_home_of_the_user(nlp, home, monkeypatch):
    monkeypatch.chdir(home)
    nlp.config["training"]["logger"]["output_file"] = "~/runs/log.jsonl"
    train(nlp, stdout=io.StringIO(), stderr=io.StringIO())
    assert (home / "runs" / "log.jsonl").is_file()
    assert not (home / "~").exists()


def test_without_an_output_folder(nlp, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(nlp, stdout=io.StringIO(), stderr=io.StringIO())
    assert list(tmp_path.iterdir()) == []


def test_rows():
    pipes, scores = ["ner", "tagger"], ["ents_f", "tag_acc"]
    names = [name for name, _ in make_columns(pipes, scores)]
    assert names[:5] == ["E", "#", "LOSS NER", "LOSS TAGGER", "ENTS_F"]
    row = dict(zip(names, format_row(ENTRY, pipes, scores), strict=True))
    assert row["LOSS NER"] == "1234.50" and row["ENTS_F"] == "50.00"
    assert row["TAG_ACC"] == "-" and row["PIECES/S"] == "9,876"
    assert row["LEFT"] == "1:02:05" and row["MEMORY"] == "1.50 GB"
    assert format_postfix(ENTRY) == (
        "loss 1236, ents_f 50.00, tag_acc -, 9,876 wordpieces/s, 1.50 GB"
    )


def test_speed_is_that_of_training(monkeypatch):
    """What passes between steps, in evaluations, does not count."""
    now, pieces = [0.0], [0]
    monkeypatch.setattr("spacy_modernbert.loggers.time.perf_counter", lambda: now[0])
    speed = Speed(lambda: pieces[0])
    assert speed.per_second is None
    for _ in range(2):
        speed.start()
        now[0], pieces[0] = now[0] + 2, pieces[0] + 100
        speed.stop()
        now[0], pieces[0] = now[0] + 60, pieces[0] + 1
    assert speed.per_second == 50


def test_a_loss_that_is_no_number(nlp, tmp_path):
    """A run that went astray is logged as such, and can be read."""
    log_step, finalize = progress_logger_v1(tmp_path / "log.jsonl")(
        nlp, io.StringIO(), io.StringIO()
    )
    info = {
        "epoch": 0,
        "step": 0,
        "losses": {"modernbert_ner": float("nan")},
        "other_scores": {"ents_f": 0.5},
        "score": 0.5,
        "words": 3,
    }
    log_step(info)
    log_step({**info, "step": 2, "losses": {"modernbert_ner": 1.0}})
    finalize()
    found = [entry["losses"] for entry in read_jsonl(tmp_path / "log.jsonl")]
    assert found == [{"modernbert_ner": None}, {"modernbert_ner": 1.0}]
    assert [point.step for point in read_curve(tmp_path / "log.jsonl")] == [2]
