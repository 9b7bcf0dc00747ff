import pytest

from spacy_modernbert.pretraining.log import cut_log, is_log, write_log

from ..util import read_jsonl


def test_a_log_is_cut_where_the_run_goes_on(tmp_path):
    log = tmp_path / "log.jsonl"
    cut_log(log, 3)
    for step in (2, 4, 6):
        write_log(log, {"step": step})
    cut_log(log, 4)
    assert [record["step"] for record in read_jsonl(log)] == [2, 4]
    # A run that is complete makes its probe again; one that was killed left half a
    # line.
    write_log(log, {"step": 4, "probe": {}})
    # Or somebody has looked into it with an editor.
    log.write_text(log.read_text() + 'mine\n5\n{"step": 6, "lo')
    cut_log(log, 4)
    assert [record["step"] for record in read_jsonl(log)] == [2, 4]


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("", True),
        ('{"step": 1, "loss": 2.5}\n{"st', True),
        ('{"step": 4, "probe": {}}\n', True),
        ('{"step": 1, "lo', True),  # all that was written before a run was killed
        ('{"step": 1, "losses": {"ner": 2.5}}\n', False),  # of `spacy train`
        ("mine\n", False),
        ('{"epoch": 1}', False),  # with no line end, but not cut short
        ("[]\n", False),
        ("[" * 100_000 + "\n", False),
    ],
)
def test_logs_of_runs_and_of_others(tmp_path, text, wanted):
    log = tmp_path / "log.jsonl"
    assert is_log(log)
    log.write_text(text)
    assert is_log(log) == wanted
