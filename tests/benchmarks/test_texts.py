from pathlib import Path
from typing import Any, List

import pytest
from tokenizers import Tokenizer

from benchmarks import __main__ as main
from benchmarks.__main__ import app
from benchmarks.documents import draw_documents, draw_lengths
from benchmarks.texts import make_text, read_corpus

from ..commands import done, failed, invoke
from ..util import make_checkpoint


@pytest.mark.parametrize("length", [20, 301])
def test_texts_have_the_wordpieces_that_were_asked_for(
    tmp_path: Path, length: int
) -> None:
    """Even if the tokenizer truncates and pads."""
    tokenizer = make_checkpoint(tmp_path / "tiny") / "tokenizer.json"
    text = make_text(tokenizer, length)
    model = Tokenizer.from_file(str(tokenizer))
    assert len(model.encode(text)) == length
    model.enable_truncation(16)
    model.enable_padding(length=512)
    limited = tmp_path / "limited.json"
    model.save(str(limited))
    assert text == make_text(limited, length)


def test_the_mixed_batch_is_always_the_same() -> None:
    lengths = draw_lengths()
    assert lengths == draw_lengths()
    assert len(lengths) == 32
    assert 32 <= min(lengths) < max(lengths) <= 4096
    # As many below the geometric mean as above.
    assert 10 <= sum(length < 362 for length in lengths) <= 22
    documents = draw_documents(lengths, 4096, 1, 2)
    assert [len(ids) for ids in documents] == lengths
    assert {(ids[0], ids[-1]) for ids in documents} == {(1, 2)}


@pytest.mark.parametrize(
    "part", [["pipeline"], ["pipeline", "--corpus", "craft"], ["host"]]
)
def test_a_missing_corpus_ends_a_part_before_any_work(
    tmp_path: Path, part: List[str]
) -> None:
    folders = ("--corpora", tmp_path, "--output", tmp_path / "results")
    assert "project assets" in failed(invoke(*folders, *part, app=app))
    assert not (tmp_path / "results").exists()


def test_all_parts_without_a_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: List[Any] = []
    parts = ("encoder", "pipeline", "training", "memory", "accuracy", "host", "targets")
    for part in parts:
        monkeypatch.setattr(main, part, lambda *given: run.append(given[1:]))
    assert "are left out" in done(invoke("--corpora", tmp_path, "all", app=app))
    assert len(run) == len(parts) - 1 and run[1][0] == []


def test_a_missing_corpus_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="project assets"):
        read_corpus("litbank", tmp_path, 1)
