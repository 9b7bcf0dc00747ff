"""Tokenizers that belong to another encoder."""

import pytest

from ..commands import failed, invoke
from ..util import make_checkpoint, make_tokenizer


@pytest.mark.parametrize("command", ["convert", "encoder", "export-onnx"])
def test_a_tokenizer_with_more_wordpieces_than_the_encoder(command, tmp_path):
    source = make_checkpoint(tmp_path / "mixed", vocab_size=300)
    make_tokenizer(320).save(str(source / "tokenizer.json"))
    message = failed(invoke(command, source, tmp_path / "out"))
    assert "up to 319, but the encoder has vectors for 300" in message
    assert [path.name for path in tmp_path.iterdir()] == ["mixed"]
