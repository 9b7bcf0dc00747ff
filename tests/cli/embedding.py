"""Texts to embed, and what `embed` makes of them."""

import numpy as np

from spacy_modernbert.encoder.protocol import EncoderOutOfMemory

from ..util import make_text, read_jsonl, require

TEXTS = [make_text(seed, seed % 4) for seed in range(24)]  # some are empty

SMALL = ["--max-batch-wordpieces", "64"]


def assert_vectors(found, wanted):
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def read_vectors(output):
    """The vectors in a file, whatever its format. Formats with records have `TEXTS`."""
    if output.suffix == ".npy":
        return np.load(output)
    if output.suffix == ".jsonl":
        records = read_jsonl(output)
    else:
        parquet = require("pyarrow.parquet")
        records = parquet.read_table(output).to_pylist()
    assert [record["text"] for record in records] == TEXTS
    return np.array([record["vector"] for record in records], np.float32)


def refuse_memory(*args, **kwargs):
    raise EncoderOutOfMemory("Set max_batch_wordpieces lower.")
