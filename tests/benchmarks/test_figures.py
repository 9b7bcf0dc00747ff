"""Benchmarks that have a file of their own."""

import json
import os
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest

from benchmarks import quantized

from ..commands import done, invoke
from ..util import require


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of them set the threads of their process, which is to be another one."""
    monkeypatch.setattr(os, "environ", dict(os.environ))


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("name", ["decoder", "learner", "mlx", "quantized", "stages"])
def test_what_comes_with_the_project_is_not_written_over(name: str) -> None:
    if name == "mlx":
        require("mlx")
    module = import_module(f"benchmarks.{name}")
    output = signature(module.main).parameters["output"].default
    assert output.default == Path(f"metrics/benchmarks/{name}.json")


def test_the_file_is_where_it_is_said(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quantized, "measure", lambda *_: {"bits": 8})
    app = quantized.typer.Typer()
    app.command()(quantized.main)
    for options, path in (
        ([], "metrics/benchmarks/quantized.json"),
        (["--output", "mine/of_today.json"], "mine/of_today.json"),
    ):
        found = done(invoke("--model", checkpoint, *options, app=app))
        assert path in "".join(found.split())
        assert json.loads(Path(path).read_text())["rows"] == [{"bits": 8}] * 2
