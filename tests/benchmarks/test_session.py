"""What all parts share."""

from pathlib import Path
from typing import Optional

from benchmarks.rounds import Patience
from benchmarks.session import Session
from spacy_modernbert.encoder.checkpoint import load_config, read_tokenizer_json

from ..util import make_checkpoint


def make_session(store: Path, tokenizer: Optional[Path]) -> Session:
    return Session(
        shape="tiny",
        device="cpu",
        threads=1,
        patience=Patience(),
        quick=True,
        anyway=False,
        only=(),
        tokenizer=tokenizer,
        corpora=store,
        store=store,
        output=store,
    )


def test_a_store_has_a_checkpoint_for_each_tokenizer(tmp_path: Path) -> None:
    store = tmp_path / "store"
    learned = make_checkpoint(store / "tiny-generated")
    assert make_session(store, None).checkpoint()[0] == learned
    folders = set()
    for name, vocab_size in (("one", 280), ("other", 300)):
        given = make_checkpoint(tmp_path / name, vocab_size=vocab_size)
        folder, config = make_session(store, given).checkpoint()
        assert read_tokenizer_json(folder) == read_tokenizer_json(given)
        assert load_config(folder) == config
        before = (folder / "model.safetensors").stat()
        assert make_session(store, given).checkpoint() == (folder, config)
        after = (folder / "model.safetensors").stat()
        # Not written again: within a tick of the clock, the time would be the same.
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        folders.add(folder)
    assert len({learned, *folders}) == 3
