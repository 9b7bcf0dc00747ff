"""`python -m spacy modernbert evaluate`: spaCy's own command is the oracle."""

import json
import shutil
import sys
import time

import numpy as np
import pytest
import spacy
from spacy.cli.evaluate import evaluate as spacy_evaluate
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span

from spacy_modernbert.cli.evaluate import (
    find_cutter,
    load,
    predict,
    score_as_spacy,
)
from spacy_modernbert.evaluation.documents import read_examples

from ..commands import done, failed, invoke
from ..pipelines import (
    LISTENER,
    add_own_code,
    make_stock_examples,
    ner_config,
    nlp_of,
    shared_config,
    shared_nlp,
    start,
    stock_model,
)
from ..util import make_examples, make_text, require, tok2vec_config

# `cli.evaluate` is the function.
COMMAND = sys.modules[predict.__module__]


def run(*arguments):
    return invoke("evaluate", *arguments)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Documents with people and places: some that the pipeline was trained on, and
    others."""
    nlp = spacy.blank("en")
    docs = [example.reference for example in make_examples(nlp, 12, n_sentences=6)]
    path = tmp_path_factory.mktemp("data") / "test.spacy"
    DocBin(docs=docs, attrs=["ENT_IOB", "ENT_TYPE"]).to_disk(path)
    return path


@pytest.fixture(scope="module")
def pipeline(trained, data, tmp_path_factory):
    """In the folder of a training run, which cuts documents into short windows."""
    folder = tmp_path_factory.mktemp("run")
    config = {"components": {"modernbert_ner": {"model": {"tok2vec": {}}}}}
    config["components"]["modernbert_ner"]["model"]["tok2vec"]["get_spans"] = {
        "window": 32,
        "overlap": 8,
    }
    spacy.load(trained, config=config).to_disk(folder / "model-best")
    log = [{"step": i, "score": i / 10, "losses": {"ner": 9 - i}} for i in range(3)]
    (folder / "log.jsonl").write_text("".join(json.dumps(e) + "\n" for e in log))
    return folder / "model-best"


@pytest.fixture(scope="module")
def evaluated(pipeline, trained, data, tmp_path_factory):
    """The command with all that it can do."""
    folder = tmp_path_factory.mktemp("metrics") / "new"
    options = ["--train", data, "--samples", 200, "--compare", trained]
    options += ["-o", folder / "a.json", "-r", folder / "a.html"]
    result = run(pipeline, data, *options)
    done(result)
    return result.output, folder


def test_it_writes_what_spacy_evaluate_writes(evaluated, pipeline, data, tmp_path):
    spacy_evaluate(str(pipeline), data, output=tmp_path / "theirs.json")
    theirs = json.loads((tmp_path / "theirs.json").read_text())
    ours = json.loads((evaluated[1] / "a.json").read_text())
    assert theirs["ents_f"] > 0.5
    assert set(ours) == {*theirs, "evaluation"}
    for name in set(theirs) - {"speed"}:
        if name == "ents_per_type":
            for label, scores in theirs[name].items():
                assert ours[name][label] == pytest.approx(scores)
        else:
            assert ours[name] == pytest.approx(theirs[name])
    assert ours["speed"] > 0


def test_its_speed_is_that_of_spacy(ruler, tmp_path):
    """In which tokenizing counts."""
    data = write_docs(tmp_path / "a.spacy", *[(["Ann", "goes"], "PERSON")] * 3)
    nlp = load(ruler)
    tokenizer = nlp.tokenizer

    def tokenize(text):
        time.sleep(0.05)
        return tokenizer(text)

    nlp.tokenizer = tokenize
    prediction = predict(nlp, data)
    assert prediction.seconds > 0.15
    assert score_as_spacy(prediction)["speed"] < 6 / 0.15
    theirs = nlp.evaluate(prediction.examples)
    assert theirs["speed"] < 6 / 0.15


def test_it_evaluates(evaluated, pipeline, trained, data):
    metrics = json.loads((evaluated[1] / "a.json").read_text())
    evaluation = metrics["evaluation"]
    assert evaluation["overall"]["f"] == pytest.approx(metrics["ents_f"])
    for label, scores in metrics["ents_per_type"].items():
        ours = evaluation["labels"][label]
        assert {key: ours[key] for key in "prf"} == pytest.approx(scores)
    assert evaluation["command"].split()[:5] == [
        "python", "-m", "spacy", "modernbert", "evaluate",
    ]  # fmt: skip
    assert str(pipeline) in evaluation["command"]
    assert evaluation["versions"]["spacy"] == spacy.__version__
    assert evaluation["window"] == {"window": 32, "overlap": 8}
    # Documents were cut, and all of their names are those of the training data.
    edges = {each["name"]: each["gold"] for each in evaluation["slices"]["edge"]}
    assert edges["0–15"] > 0 and "64–255" not in edges
    assert sum(edges.values()) == evaluation["overall"]["gold"]
    (seen,) = (each for each in evaluation["slices"]["seen"] if each["gold"])
    assert seen["name"] == "seen in training"
    assert [point["step"] for point in evaluation["learning_curve"]] == [0, 1, 2]
    comparison = evaluation["comparison"]
    assert comparison["pipeline"] == str(trained)
    assert comparison["difference"] == pytest.approx(
        evaluation["overall"]["f"] - comparison["other"]["f"]
    )


def test_it_writes_a_report(evaluated):
    html = (evaluated[1] / "a.html").read_text(encoding="utf8")
    assert html.startswith("<!DOCTYPE html>") and html.rstrip().endswith("</html>")
    assert html.count('<details class="doc"') == 12
    assert sorted(path.name for path in evaluated[1].iterdir()) == ["a.html", "a.json"]


def test_it_prints_a_table(evaluated):
    rows = [line.split() for line in evaluated[0].splitlines()]
    metrics = json.loads((evaluated[1] / "a.json").read_text())
    (total,) = (row for row in rows if row[:1] == ["all"])
    assert total[5] == f"{100 * metrics['ents_f']:.2f}"
    assert {"PERSON", "PLACE", "strict", "partial"} <= {row[0] for row in rows if row}


def test_a_pipeline_of_spacy(data, tmp_path):
    """Another encoder, no window, and no log."""
    nlp = spacy.blank("en")
    nlp.add_pipe("ner")
    nlp.initialize(lambda: make_examples(nlp, 3))
    nlp.to_disk(tmp_path / "cnn")
    outputs = ["-o", tmp_path / "m.json", "-r", tmp_path / "m.html"]
    done(run(tmp_path / "cnn", data, *outputs, "--samples", 10))
    evaluation = json.loads((tmp_path / "m.json").read_text())["evaluation"]
    assert evaluation["window"] is None and evaluation["slices"]["edge"] == []
    assert evaluation["comparison"] is None and evaluation["learning_curve"] == []
    assert "no log of the training run" in (tmp_path / "m.html").read_text()


def test_a_shared_encoder(checkpoint, data, tmp_path):
    """What cuts documents is the encoder that others listen to."""
    require("spacy_transformers")
    nlp = shared_nlp(checkpoint)
    examples = make_examples(nlp, 6, n_sentences=6)
    optimizer = start(nlp, examples)
    for _ in range(20):
        nlp.update(examples, sgd=optimizer)
    nlp.to_disk(tmp_path / "nlp")
    done(run(tmp_path / "nlp", data, "-o", tmp_path / "m.json", "--samples", 2))
    ours = json.loads((tmp_path / "m.json").read_text())
    theirs = spacy_evaluate(str(tmp_path / "nlp"), data)
    assert ours["ents_f"] == pytest.approx(theirs["ents_f"]) and theirs["ents_f"] > 0.5
    evaluation = ours["evaluation"]
    assert evaluation["window"] == {"window": 64, "overlap": 16}
    edges = evaluation["slices"]["edge"]
    total = evaluation["overall"]["gold"]
    assert edges and sum(each["gold"] for each in edges) == total > 0


def test_the_encoder_that_entities_are_found_by(checkpoint):
    """Others may cut documents before it, and elsewhere."""
    require("spacy_transformers")
    taggers = {
        "transformer": {"factory": "transformer", "model": shared_config(checkpoint)},
        "tagger": {"factory": "tagger", "model": stock_model("tagger", LISTENER)},
    }
    own = tok2vec_config(checkpoint, window=32, overlap=8)
    inline = {"factory": "tagger", "model": stock_model("tagger", own)}
    shared = {"transformer": taggers["transformer"], "ner": ner_config(LISTENER)}
    for blocks, wanted in (
        ({**taggers, "ner": ner_config(own)}, ("ner", 32)),
        ({"tagger": inline, **shared}, ("transformer", 64)),
        ({"tagger": inline}, ("tagger", 32)),
    ):
        nlp = nlp_of(**blocks)
        nlp.initialize(lambda nlp=nlp: make_stock_examples(nlp))
        name, cutter = find_cutter(nlp)
        assert (name, cutter.window) == wanted


def test_another_span_getter(trained, data, tmp_path):
    """Where it cuts is not known beforehand: nothing is told by cuts."""
    require("spacy_transformers")
    key = "components.modernbert_ner.model.tok2vec.get_spans"
    spans = {"@span_getters": "spacy-transformers.doc_spans.v1"}
    spacy.load(trained, config={key: spans}).to_disk(tmp_path / "nlp")
    arguments = ["-o", tmp_path / "m.json", "--samples", 2]
    done(run(tmp_path / "nlp", data, *arguments))
    evaluation = json.loads((tmp_path / "m.json").read_text())["evaluation"]
    assert evaluation["window"] is None and evaluation["slices"]["edge"] == []
    assert evaluation["overall"]["f"] > 0.5


def test_a_gpu_is_asked_for(ruler, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(COMMAND, "setup_gpu", lambda gpu, silent: asked.append(gpu))
    data = write_docs(tmp_path / "a.spacy", (["Ann", "goes"], "PERSON"))
    for options in (["--gpu-id", 1], []):
        done(run(ruler, data, "--samples", 2, *options))
    assert asked == [1, -1]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"pipeline": "nowhere"}, "There is no pipeline 'nowhere'"),
        ({"data": "nothing.spacy"}, "There is no file nothing.spacy"),
        ({"--train": "nothing.spacy"}, "There is no file nothing.spacy"),
        ({"data": "empty"}, "There are no .spacy files in the folder empty"),
        ({"--train": "empty"}, "There are no .spacy files in the folder empty"),
        ({"--log": "nothing.jsonl"}, "There is no file nothing.jsonl"),
        ({"--compare": "nowhere"}, "There is no pipeline 'nowhere'"),
        ({"--samples": "0"}, "The number of samples must be at least 1"),
        ({"data": "bad.spacy"}, "bad.spacy cannot be read as a .spacy file"),
        ({"data": "bare.spacy"}, "No document of bare.spacy has entity annotations"),
        ({"-o": "test.spacy"}, "test.spacy is used for more"),
        ({"-r": "m.json"}, "m.json is used for more"),
        ({"-r": "log.txt", "--log": "log.txt"}, "log.txt is used for more"),
        ({"--log": "log.txt"}, "log.txt has no evaluations of a training run"),
    ],
)
def test_what_cannot_be_done(change, message, trained, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(data, "test.spacy")
    (tmp_path / "bad.spacy").write_bytes(b"neither docs nor anything")
    bare = spacy.blank("en")(make_text(0))
    DocBin(docs=[bare], attrs=["ORTH"]).to_disk("bare.spacy")
    (tmp_path / "log.txt").touch()
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.iterdir())
    arguments = {"pipeline": str(trained), "data": "test.spacy", "-o": "m.json"}
    options = []
    for name, value in {**arguments, **change}.items():
        options += [name, value] if name.startswith("-") else [value]
    assert message in failed(run(*options))
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def ruler(tmp_path):
    """A pipeline that finds every Ann, without an encoder."""
    nlp = spacy.blank("en")
    patterns = [{"label": "PERSON", "pattern": "Ann"}]
    nlp.add_pipe("entity_ruler").add_patterns(patterns)
    nlp.to_disk(tmp_path / "ruler")
    return tmp_path / "ruler"


def write_docs(path, *docs):
    """RETURNS (Path): A file of documents, each given by its words, in which Ann is
    annotated with a label."""
    vocab = spacy.blank("en").vocab
    made = []
    for words, label in docs:
        doc = Doc(vocab, words=words, spaces=[True] * len(words))
        places = [i for i, word in enumerate(words) if word == "Ann"]
        doc.set_ents([Span(doc, i, i + 1, label) for i in places], default="outside")
        made.append(doc)
    DocBin(docs=made, attrs=["ENT_IOB", "ENT_TYPE"]).to_disk(path)
    return path


def test_documents_of_any_length(ruler, tmp_path):
    """Those that are longer than `nlp.max_length`, beyond which spaCy takes no text."""
    novel = ["Ann", *["g" * 5_000] * 210, "Ann"]
    data = write_docs(tmp_path / "novel.spacy", (novel, "PERSON"))
    arguments = ["--train", data, "-o", tmp_path / "m.json", "--samples", 2]
    done(run(ruler, data, *arguments))
    evaluation = json.loads((tmp_path / "m.json").read_text())["evaluation"]
    assert evaluation["overall"]["f"] == 1
    (seen,) = evaluation["slices"]["seen"]
    assert (seen["name"], seen["gold"]) == ("seen in training", 2)


def test_numbers_of_documents(ruler, tmp_path):
    """Those of their places in the file, whatever is not scored."""
    vocab = spacy.blank("en").vocab
    ann = Doc(vocab, words=["Ann"])
    ann.set_ents([Span(ann, 0, 1, "PERSON")], default="outside")
    named = ann.copy()
    ann.user_data["id"] = None
    named.user_data["id"] = "a name"
    docs = [Doc(vocab), ann, Doc(vocab, words=["Bob"]), named]
    data = tmp_path / "docs.spacy"
    DocBin(docs=docs, attrs=["ENT_IOB", "ENT_TYPE"], store_user_data=True).to_disk(data)
    output = tmp_path / "m.json"
    found = done(run(ruler, data, "-o", output, "--samples", 2))
    assert "Documents without annotations, which are not scored: 1" in found
    described = json.loads(output.read_text())["evaluation"]["per_document"]
    assert [each["id"] for each in described] == ["document 2", "a name"]


def test_files_of_any_name(ruler, tmp_path):
    """spaCy reads nothing of a file that is not named .spacy."""
    docs = [(["Ann", "goes"], "PERSON"), (["Ann", "sees", "Ann"], "PERSON")]
    data = write_docs(tmp_path / "test.docs", *docs)
    arguments = [ruler, data, "-o", tmp_path / "m.json", "--samples", 2]
    done(run(*arguments, "--train", data))
    evaluation = json.loads((tmp_path / "m.json").read_text())["evaluation"]
    (seen,) = evaluation["slices"]["seen"]
    assert (seen["name"], seen["gold"]) == ("seen in training", 3)
    (tmp_path / "train.jsonl").write_text('{"text": "Ann"}')
    found = failed(run(*arguments, "--train", tmp_path / "train.jsonl"))
    assert "cannot be read as a .spacy file" in found


def test_folders_of_files(ruler, tmp_path):
    """spaCy's own command reads them, too."""
    (tmp_path / "data" / "more").mkdir(parents=True)
    write_docs(tmp_path / "data" / "a.spacy", (["Ann", "goes"], "PERSON"))
    b = write_docs(tmp_path / "data" / "more" / "b.spacy", (["Ann", "Bob"], "PLACE"))
    (tmp_path / "data" / "log.jsonl").write_text("no docs")
    arguments = [ruler, tmp_path / "data", "--samples", 2]
    output = tmp_path / "m.json"
    done(run(*arguments, "--train", tmp_path / "data" / "more", "-o", output))
    ours = json.loads(output.read_text())
    assert ours["ents_f"] == 0.5
    assert ours["ents_f"] == spacy_evaluate(str(ruler), tmp_path / "data")["ents_f"]
    described = ours["evaluation"]["per_document"]
    assert [each["id"] for each in described] == ["document 1", "document 2"]
    seen = ours["evaluation"]["slices"]["seen"]
    told = {each["name"]: each["gold"] for each in seen}
    assert told == {"seen in training": 1, "seen with other labels": 1}
    assert "b.spacy is used for more" in failed(run(*arguments, "-o", b))


def test_a_label_that_is_called_all(ruler, tmp_path):
    docs = [(["Ann", "goes"], "all"), (["Ann", "sees", "Ann"], "all")]
    result = run(ruler, write_docs(tmp_path / "a.spacy", *docs), "--samples", 2)
    done(result)
    rows = [line.split() for line in result.output.splitlines()]
    # The total, which has what was found, and the label.
    found = [row[1:3] for row in rows if row[:1] == ["all"]]
    assert found == [["3", "3"], ["3", "0"]]


def test_a_comparison_by_one_document(ruler, tmp_path):
    """Draws of one document are all the same, and say nothing."""
    data = write_docs(tmp_path / "a.spacy", (["Ann", "goes"], "PERSON"))
    other = spacy.load(ruler)
    other.get_pipe("entity_ruler").clear()
    other.to_disk(tmp_path / "other")
    arguments = ["--compare", tmp_path / "other", "--samples", 2]
    found = done(run(ruler, data, *arguments, "-r", tmp_path / "a.html"))
    assert "+100.00 points. With entities in at most one document, it cannot" in found
    html = (tmp_path / "a.html").read_text()
    assert (
        "With entities in at most one document, it cannot be said" in html
        and "p = " not in html
    )


def test_entities_that_are_found_and_never_true(ruler, tmp_path):
    """Nothing is told of how well: spaCy's score of nothing is 0."""
    data = write_docs(tmp_path / "a.spacy", *[(["Ann", "Bob"], "PLACE")] * 2)
    result = run(ruler, data, "--samples", 2)
    done(result)
    rows = [line.split() for line in result.output.splitlines()]
    assert ["PERSON", "0", "2", "0.00", "–", "–"] in rows
    assert ["PLACE", "2", "0", "–", "0.00", "0.00"] in [row[:6] for row in rows]
    docs = []
    for words in (["Ann"], ["Bob"], ["Ann"]):
        docs.append(Doc(spacy.blank("en").vocab, words=words))
        docs[-1].set_ents([], default="outside")
    DocBin(docs=docs, attrs=["ENT_IOB", "ENT_TYPE"]).to_disk(data)
    found = done(run(ruler, data, "--compare", ruler, "--samples", 2))
    told = f"Against {ruler}, which finds 2. There are no true entities."
    assert told in " ".join(found.split())


def test_a_comparison_by_few_documents(ruler, tmp_path):
    """Those that have no entities do not tell of chance."""
    docs = [(["Ann", "goes"], "PERSON")] * 3 + [(["Bob"], "PERSON")] * 20
    data = write_docs(tmp_path / "a.spacy", *docs)
    found = done(run(ruler, data, "--compare", ruler, "--samples", 2))
    told = "Of 3 documents, neither the interval nor p says much."
    assert told in " ".join(found.split())
    data = write_docs(tmp_path / "b.spacy", *docs[:3] * 4)
    found = done(run(ruler, data, "--compare", ruler, "--samples", 2))
    assert "They differ in 0 documents only, so p says little." in found


def test_the_home_folder(ruler, tmp_path, home):
    """Which a shell fills in, but not in `--compare=~/pipeline`."""
    docs = [(["Ann", "goes"], "PERSON"), (["Ann", "sees", "Ann"], "PERSON")]
    data = write_docs(tmp_path / "a.spacy", *docs)
    options = ["--compare=~/ruler", "--report=~/reports/a.html", "--samples", 2]
    found = done(run("~/ruler", data, *options))
    assert f"Against {ruler}" in found
    assert (tmp_path / "reports" / "a.html").is_file()


@pytest.mark.parametrize("option", ["--output", "--report"])
def test_outputs_are_looked_at_before_any_work(option, trained, data, monkeypatch):
    monkeypatch.setattr(COMMAND, "predict", lambda *_: pytest.fail("worked in vain"))
    assert "Is a directory" in failed(run(trained, data, option, data.parent))


@pytest.mark.parametrize("option", ["--train", "--compare"])
def test_inputs_are_looked_at_before_any_work(
    option, ruler, trained, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(COMMAND, "predict", lambda *_: pytest.fail("worked in vain"))
    (tmp_path / "bad.spacy").write_bytes(b"no docs")
    (tmp_path / "ruler" / "config.cfg").write_text('[nlp]\nlang = "klingon"')
    bad = {
        "--train": (tmp_path / "bad.spacy", "bad.spacy"),
        "--compare": (ruler, "klingon"),
    }
    path, message = bad[option]
    assert message in "".join(failed(run(trained, data, option, path)).split())


def test_the_log_of_the_run_is_not_written_over(pipeline, data):
    log = pipeline.parent / "log.jsonl"
    before = log.read_text()
    assert "log.jsonl is used for more" in failed(run(pipeline, data, "-o", log))
    assert log.read_text() == before


@pytest.mark.parametrize("option", ["--output", "--report"])
@pytest.mark.parametrize("name", ["meta.json", "vocab/strings.json"])
def test_the_files_of_a_pipeline_are_not_written_over(option, name, ruler, tmp_path):
    data = write_docs(tmp_path / "a.spacy", (["Ann", "goes"], "PERSON"))
    shutil.copytree(ruler, tmp_path / "other")
    for folder in (ruler, tmp_path / "other"):
        path = folder / name
        before = path.read_bytes()
        compare = ["--compare", tmp_path / "other", "--samples", 2]
        found = failed(run(ruler, data, *compare, option, path))
        assert "exists, and is in the folder of a pipeline" in found
        assert path.read_bytes() == before
    # A new file may be beside them.
    done(run(ruler, data, "--samples", 2, option, ruler / "new.out"))
    assert (ruler / "new.out").is_file()


def test_a_folder_and_a_package_of_the_same_name(ruler, tmp_path, monkeypatch):
    """The folder is meant, as by the other commands. spaCy loads the package."""
    data = write_docs(tmp_path / "a.spacy", (["Ann", "goes"], "PERSON"))
    site = tmp_path / "site"
    (site / "ruler").mkdir(parents=True)
    (site / "ruler" / "__init__.py").write_text(
        "import spacy\n\ndef load(**overrides):\n    return spacy.blank('en')\n"
    )
    (site / "ruler-1.0.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: ruler\n"
    (site / "ruler-1.0.dist-info" / "METADATA").write_text(metadata)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.chdir(tmp_path)
    assert spacy.load("ruler").pipe_names == []
    done(run("ruler", data, "-o", "m.json", "--samples", 2))
    assert json.loads((tmp_path / "m.json").read_text())["ents_f"] == 1.0


def test_nothing_is_found(tmp_path):
    spacy.blank("en").to_disk(tmp_path / "nlp")
    data = write_docs(tmp_path / "a.spacy", (["Ann", "goes"], "PERSON"))
    found = done(run(tmp_path / "nlp", data, "--samples", 2))
    assert "finds no entities in any document" in " ".join(found.split())


def test_what_cannot_be_printed_is_written(ruler, tmp_path, monkeypatch):
    """As on a terminal that has no dash."""

    def print_tables(evaluation):
        raise UnicodeEncodeError("ascii", "–", 0, 1, "ordinal not in range(128)")

    monkeypatch.setattr(COMMAND, "print_tables", print_tables)
    data = write_docs(tmp_path / "a.spacy", (["Ann", "goes"], "PERSON"))
    options = ["-o", tmp_path / "m.json", "-r", tmp_path / "r.html", "--samples", 2]
    assert "ascii" in failed(run(ruler, data, *options))
    assert json.loads((tmp_path / "m.json").read_text())["ents_f"] == 1.0
    assert (tmp_path / "r.html").is_file()


def test_what_cannot_be_written_is_printed(ruler, tmp_path, monkeypatch):
    def fail(path, text):
        raise OSError(f"{path}: no space left")

    monkeypatch.setattr(COMMAND, "write_text", fail)
    data = write_docs(tmp_path / "a.spacy", (["Ann", "goes"], "PERSON"))
    options = ["-o", tmp_path / "m.json", "--samples", 2]
    found = failed(run(ruler, data, *options))
    assert "no space left" in found and "100.00" in found


def test_too_little_memory(trained, data, monkeypatch):
    def predict(*_):
        raise MemoryError("a window of 8,192 wordpieces is too much")

    monkeypatch.setattr(COMMAND, "predict", predict)
    assert "too much" in failed(run(trained, data))


def test_a_log_elsewhere(trained, data, tmp_path):
    log = [{"step": i, "score": i / 5, "losses": {"ner": 5 - i}} for i in range(4)]
    path = tmp_path / "elsewhere.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in log))
    arguments = ["--log", path, "-o", tmp_path / "m.json", "--samples", 9]
    done(run(trained, data, *arguments))
    curve = json.loads((tmp_path / "m.json").read_text())["evaluation"][
        "learning_curve"
    ]
    assert [each["step"] for each in curve] == [0, 1, 2, 3]


def test_the_seed_of_the_draws(trained, data, tmp_path):
    # Of some documents, entities are wrong.
    docs = list(DocBin().from_disk(data).get_docs(spacy.blank("en").vocab))
    for i, doc in enumerate(docs):
        doc.ents = doc.ents[i:]
    DocBin(docs=docs).to_disk(tmp_path / "some.spacy")
    data = tmp_path / "some.spacy"
    intervals = []
    for seed in (1, 1, 2):
        arguments = ["-o", tmp_path / "m.json", "--samples", 40, "--seed", seed]
        done(run(trained, data, *arguments))
        found = json.loads((tmp_path / "m.json").read_text())["evaluation"]
        intervals.append(found["overall"]["f_interval"])
    assert intervals[0] == intervals[1] != intervals[2]


def test_code_of_ones_own(trained, data, tmp_path):
    shutil.copytree(trained, tmp_path / "nlp")
    code = add_own_code(tmp_path / "nlp")
    arguments = [tmp_path / "nlp", data, "--samples", 9, "-o", tmp_path / "m.json"]
    assert "of_ones_own" in failed(run(*arguments))
    done(run(*arguments, "--code", code))
    assert (tmp_path / "m.json").is_file()


def test_cuts_are_those_that_the_encoder_made(pipeline, data, tmp_path):
    """A component behind it may find other ends of sentences."""
    nlp = spacy.load(pipeline)

    def break_everywhere(doc):
        for token in doc:
            token.is_sent_start = True
        return doc

    def score(folder):
        prediction = predict(load(folder), data)
        return read_examples(prediction.examples, prediction.distances)

    wanted = score(pipeline)
    Language.component("break_everywhere", func=break_everywhere)
    nlp.add_pipe("break_everywhere")
    nlp.to_disk(tmp_path / "behind")
    found = score(tmp_path / "behind")
    for doc, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(doc.distances, other.distances)
        assert doc.matches == other.matches
    # What comes before the encoder counts.
    nlp.remove_pipe("break_everywhere")
    nlp.add_pipe("break_everywhere", first=True)
    nlp.to_disk(tmp_path / "before")
    others = score(tmp_path / "before")
    assert any(
        (doc.distances != other.distances).any()
        for doc, other in zip(others, wanted, strict=True)
    )
