import json

from spacy_modernbert.evaluation.curve import (
    Point,
    find_log,
    read_curve,
    read_performance,
)

LINES = [
    {"step": 0, "score": 0.1, "losses": {"ner": 5.0, "tagger": 2}, "wordpieces": 9},
    {"step": 10, "score": 0.5, "losses": {"ner": 3.0}},
]


def test_the_log_of_the_logger(tmp_path):
    path = tmp_path / "log.jsonl"
    text = "".join(json.dumps(line) + "\n" for line in LINES)
    # The last line is of a run that was killed while it wrote.
    path.write_text(text + '{"step": 20, "sc')
    assert read_curve(path) == (Point(0, 0.1, 7.0), Point(10, 0.5, 0.3))


def test_losses_that_are_not_finite(tmp_path):
    """They are left out, and their steps are not those of the next evaluation."""
    lines = [
        *LINES,
        {"step": 20, "score": 0.5, "losses": {"ner": None}},
        # As others write them, which is no JSON, and Python reads it.
        {"step": 21, "score": 0.5, "losses": {"ner": float("nan")}},
        {"step": 22, "score": float("nan"), "losses": {"ner": 1.0}},
        {"step": 23, "score": 0.5, "losses": {"ner": float("inf")}},
        {"step": float("inf"), "score": 0.5, "losses": {"ner": 1.0}},
        {"step": 24, "score": 10**400, "losses": {}},
        {"step": 25, "score": 0.6, "losses": {"ner": 2.0}},
    ]
    deep = "[" * 100_000
    text = "\n".join([*map(json.dumps, lines), deep])
    (tmp_path / "log.jsonl").write_text(text)
    assert read_curve(tmp_path / "log.jsonl")[2:] == (Point(25, 0.6, 2.0),)


def test_no_log(tmp_path):
    assert read_curve(tmp_path / "log.jsonl") == ()
    for text in ("", "not JSON\n", '[1]\n"a"\n', '{"step": 1, "score": null}\n'):
        (tmp_path / "log.jsonl").write_text(text)
        assert read_curve(tmp_path / "log.jsonl") == ()


def test_where_it_lies(tmp_path):
    """Where the logger writes it."""
    (tmp_path / "model-best").mkdir()
    assert find_log(str(tmp_path / "model-best")) is None  # no pipeline
    (tmp_path / "model-best" / "config.cfg").touch()
    assert find_log(str(tmp_path / "model-best")) == tmp_path / "log.jsonl"
    assert find_log("en_core_web_sm") is None
    assert read_curve(None) == ()


def test_performance():
    meta = {"performance": {"ents_f": 0.5, "ents_per_type": {}, "ner_loss": 3}}
    assert read_performance(meta) == {"ents_f": 0.5, "ner_loss": 3.0}
    assert read_performance({"performance": {"ents_f": 10**400}}) == {}
    for others in ({}, {"performance": None}, {"performance": [1.0]}):
        assert read_performance(others) == {}
