"""The runner itself, at toy shape: fresh processes, turns, files."""

import json
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from benchmarks import rounds
from benchmarks.__main__ import app
from benchmarks.points import OURS, Peer, Point
from benchmarks.process import Failed, Process
from benchmarks.results import Section, command
from benchmarks.rounds import Patience, run_rounds
from benchmarks.session import Session
from spacy_modernbert.encoder.backend import BACKEND_VARIABLE

from ..commands import done, failed, invoke
from ..util import ROOT, make_checkpoint

REFERENCE = Peer("reference", OURS)  # transformers is slow to import
OUR_CPU = Peer("ours cpu float32", OURS)
QUICKLY = Patience(repeats=1, timeout=100)


def point(folder: Path, peer: Peer) -> Point:
    return Point("encode", peer, str(folder), {"lengths": [40, 9]}, threads=1)


def test_failing_and_wrong_peers_are_rows_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A peer runs on the backend that it is called after.
    monkeypatch.setenv(BACKEND_VARIABLE, "tpu")
    folder = make_checkpoint(tmp_path / "right")
    other = make_checkpoint(tmp_path / "other", seed=1)
    right, missing, wrong = run_rounds(
        [
            point(folder, OUR_CPU),
            point(tmp_path / "nothing", OUR_CPU),
            point(other, OUR_CPU),
        ],
        QUICKLY,
        lambda said: None,
        reference=point(folder, REFERENCE),
    )
    assert right.why_not == ""
    assert right.median is not None and right.median > 0
    assert right.facts == {"wordpieces": 49, "documents": 2}
    assert right.parity is not None and right.parity.least_cosine > 0.99999
    assert "nothing" in missing.why_not
    assert wrong.why_not.startswith("wrong vectors")
    assert wrong.median is None


class Absent(Process):
    """A peer that cannot be loaded, without a process."""

    def __init__(self, point: Point, limit_memory: bool = True):
        self.point = point

    def prepare(self, timeout: float) -> Dict[str, Any]:
        raise Failed("it is not there")

    def end(self) -> None:
        pass


def test_without_its_reference_nothing_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(point: Point, limit_memory: bool = True) -> Process:
        kind = Absent if point.peer == REFERENCE else Process
        return kind(point, limit_memory)

    monkeypatch.setattr(rounds, "Process", start)
    folder = make_checkpoint(tmp_path / "right")
    said: List[str] = []
    (row,) = run_rounds(
        [point(folder, OUR_CPU)],
        QUICKLY,
        said.append,
        reference=point(folder, REFERENCE),
    )
    assert "the reference failed" in row.why_not and row.median is None
    assert "reference: it is not there" in said


def test_a_process_that_is_late_or_ends_is_a_row_with_a_reason(tmp_path: Path) -> None:
    late = Patience(repeats=1, timeout=0.01)
    (row,) = run_rounds([point(tmp_path, OUR_CPU)], late, lambda said: None)
    assert row.why_not == "no answer within 0 seconds"
    process = Process(point(tmp_path, OUR_CPU))
    process._popen.kill()
    with pytest.raises(Failed, match="ended by signal 9"):
        process.prepare(timeout=60)
    process.end()


def test_the_command_writes_a_table_and_its_json(tmp_path: Path) -> None:
    options = ["--quick", "--shape", "tiny", "--device", "cpu", "--threads", "1"]
    folders = ["--output", tmp_path, "--store", tmp_path / "store"]
    peers = ["--peers", "ours cpu float32", "--peers", "ours nowhere"]
    part = ["encoder", "--no-mixed"]
    done(invoke(*options, *folders, *peers, *part, app=app))
    data = json.loads((tmp_path / "encoder-tiny-cpu.json").read_text())
    assert data["settings"]["threads"] == 1
    assert {"machine", "versions", "command", "date"} <= data.keys()
    (section,) = data["sections"]
    (row,) = section["rows"]
    assert row["peer"] == "ours cpu float32"
    assert row["wordpieces"] == 300
    assert row["seconds"] > 0
    assert row["least_cosine"] > 0.99999  # to transformers
    assert row["limit_gflops"] == pytest.approx(section["limits"][0]["gflops"])
    assert row["share"] == pytest.approx(row["gflops"] / row["limit_gflops"])
    text = (tmp_path / "encoder-tiny-cpu.md").read_text()
    assert "| ours cpu float32 |" in text
    assert "torch" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shape", "huge", "targets"], "huge is not one of base, large"),
        (["--device", "tpu", "targets"], "tpu is not one of auto, cpu"),
        (["--tokenizer", "absent", "targets"], "absent has no tokenizer.json"),
        (["--corpora", "absent", "targets"], "'absent' does not exist"),
        (["--output", "setup.cfg", "targets"], "'setup.cfg' is a file"),
        (["encoder", "--lengths", "a,b"], "a,b is not a list like 512,2048"),
        (["encoder", "--lengths", "0"], "0 has numbers below 1"),
    ],
)
def test_wrong_arguments(options: List[str], message: str) -> None:
    result = invoke(*options, app=app)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


def test_peers_that_there_are_not(tmp_path: Path) -> None:
    options = ["--shape", "tiny", "--device", "cpu", "--output", tmp_path]
    part = ["--peers", "nobody", "encoder", "--lengths", "40", "--no-mixed"]
    found = done(invoke(*options, *part, app=app))
    assert "--peers names none of these: " in found
    data = json.loads((tmp_path / "encoder-tiny-cpu.json").read_text())
    assert data["sections"][0]["rows"] == []


def test_a_run_that_is_cut_off_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(self: Session, job: str, title: str, *_: Any, **__: Any) -> Section:
        if "70" in title:
            raise KeyboardInterrupt
        return Section(title, rows=[])

    monkeypatch.setattr(Session, "measure", measure)
    options = ["--shape", "tiny", "--device", "cpu", "--output", tmp_path]
    part = ["encoder", "--lengths", "40,70"]
    assert invoke(*options, *part, app=app).exit_code != 0
    data = json.loads((tmp_path / "encoder-tiny-cpu.json").read_text())
    assert [s["title"] for s in data["sections"]] == ["One document of 40 wordpieces"]


@pytest.mark.parametrize("flags", [[], ["amx_bf16"]])
def test_targets_are_of_the_machine_that_measured(
    tmp_path: Path, flags: List[str]
) -> None:
    """Whatever machine compares them."""
    machine = {"flags": flags, "processor": "another"}
    results = {"machine": machine, "sections": []}
    (tmp_path / "encoder-base-cpu.json").write_text(json.dumps(results))
    done(invoke("--output", tmp_path, "targets", app=app))
    lines = (tmp_path / "targets.md").read_text().splitlines()
    share = next(line for line in lines if "share of the bfloat16 matrix" in line)
    assert ("no native bfloat16" in share) == (not flags)
    # What the decoder did elsewhere says nothing of this one.
    (decoder,) = [line for line in lines if "the decoder alone" in line]
    assert "not measured yet" in decoder
    # What it did here, does.
    rows = [{"labels": 6, "upper": False, "from hidden: fast": 3e6}]
    here = {"machine": machine, "tokens_per_second": rows}
    (tmp_path / "decoder.json").write_text(json.dumps(here))
    done(invoke("--output", tmp_path, "targets", app=app))
    assert "3,000,000 | reached" in (tmp_path / "targets.md").read_text()


def test_processors_of_one_name_differ_in_what_they_can(tmp_path: Path) -> None:
    """Those of rented machines tell their maker only."""
    there = json.loads((ROOT / "benchmarks" / "decoder.json").read_text())["machine"]
    for machine, is_other in ((there, False), ({**there, "flags": ["avx9"]}, True)):
        results = {"machine": machine, "sections": []}
        (tmp_path / "encoder-base-cpu.json").write_text(json.dumps(results))
        done(invoke("--output", tmp_path, "targets", app=app))
        lines = (tmp_path / "targets.md").read_text().splitlines()
        (decoder,) = [line for line in lines if "the decoder alone" in line]
        assert ("not measured yet" in decoder) == is_other


def test_the_command_names_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["--store", "/home/me/x", "--peers", "ours *", "host", "--documents", "4"]
    monkeypatch.setattr(sys, "argv", ["…", *typed])
    wanted = "--store STORE --peers 'ours *' host --documents 4"
    assert command() == f"python -m benchmarks {wanted}"


def test_targets_that_were_not_measured_say_so(tmp_path: Path) -> None:
    done(invoke("--output", tmp_path, "targets", app=app))
    lines = (tmp_path / "targets.md").read_text().splitlines()
    assert not [line for line in lines if line.endswith("reached |")]
    assert any("not measured yet" in line for line in lines)
    # A figure is of the quickest backend, which need not be the one that auto takes.
    assert not [line for line in lines if "auto" in line]


def write_parts(folder: Path, **threads: int) -> None:
    """Parts that found nothing, by their names and threads."""
    machine = {"flags": [], "processor": "one"}
    for name, n in threads.items():
        part = {"machine": machine, "settings": {"threads": n}, "sections": []}
        (folder / f"{name}-base-cpu.json").write_text(json.dumps(part))


def test_targets_name_the_threads_of_the_parts(tmp_path: Path) -> None:
    write_parts(tmp_path, encoder=4, training=4, host=1)
    done(invoke("--output", tmp_path, "targets", app=app))
    assert "\n4 threads, base shape" in (tmp_path / "targets.md").read_text()


def test_targets_are_of_one_machine_and_number_of_threads(tmp_path: Path) -> None:
    write_parts(tmp_path, encoder=4, training=2)
    found = failed(invoke("--output", tmp_path, "targets", app=app))
    assert "folder of its own" in found and "training-base-cpu: one, 2 threads" in found
    write_parts(tmp_path, training=4)
    path = tmp_path / "training-base-cpu.json"
    path.write_text(path.read_text().replace("one", "other"))
    found = failed(invoke("--output", tmp_path, "targets", app=app))
    assert "training-base-cpu: other" in found
    assert not (tmp_path / "targets.md").exists()


def test_what_nothing_takes_by_itself_has_targets_of_its_own(tmp_path: Path) -> None:
    """8 bits are quicker, and no figure of a pipeline as it comes."""
    whole = "spacy-transformers float32, whole documents"
    rows = [
        {
            "peer": f"ours {precision}",
            "precision": precision,
            "ours": True,
            "seconds": seconds,
            "why_not": "",
        }
        for precision, seconds in (("bfloat16", 2.0), ("int8", 1.0))
    ]
    ratios = [
        {"peer": f"ours {precision}", "faster_than": {whole: times}}
        for precision, times in (("bfloat16", 5.0), ("int8", 10.0))
    ]
    section = {"title": "litbank, 4 documents", "rows": rows, "ratios": ratios}
    machine = {"flags": ["amx_bf16"], "processor": "another"}
    results = {"machine": machine, "sections": [section]}
    (tmp_path / "pipeline-base-cpu.json").write_text(json.dumps(results))
    done(invoke("--output", tmp_path, "targets", app=app))
    lines = (tmp_path / "targets.md").read_text().splitlines()
    found = [line for line in lines if "LitBank" in line and "whole" in line]
    assert [line.split("|")[3].strip() for line in found] == ["5", "10"]
    assert "int8" in found[1] and "int8" not in found[0]
