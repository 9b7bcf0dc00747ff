"""`python -m spacy modernbert embed`: texts, options, and what is refused."""

import gzip
import json
import os
import re
import shutil
import threading
import weakref
from itertools import islice

import numpy as np
import pytest

from spacy_modernbert.cli import vector_files
from spacy_modernbert.cli.embed import embed_source
from spacy_modernbert.embeddings import Embedder, load_embedder, normalized
from spacy_modernbert.text_files import TextSource

from ..commands import done, failed, invoke
from ..pipelines import add_own_code, change_settings
from ..util import read_jsonl, require
from .embedding import SMALL, TEXTS, assert_vectors, refuse_memory

# -- What comes out ---------------------------------------------------------------


def test_npy(run, text_file, wanted, tmp_path):
    output = done(run(text_file, tmp_path / "out.npy"))
    assert "24 vectors of width 32, by cls pooling on cpu" in output
    assert_vectors(np.load(tmp_path / "out.npy"), wanted)
    assert not (tmp_path / "out.npy.partial").exists()


def test_jsonl(run, jsonl_file, wanted, tmp_path):
    done(run(jsonl_file, tmp_path / "out.jsonl"))
    records = read_jsonl(tmp_path / "out.jsonl")
    assert [record["id"] for record in records] == list(range(24))
    assert [record["text"] for record in records] == TEXTS
    found = np.array([record["vector"] for record in records], np.float32)
    assert_vectors(found, wanted)


def test_jsonl_has_every_bit(run, text_file, tmp_path):
    done(run(text_file, tmp_path / "out.jsonl"))
    done(run(text_file, tmp_path / "out.npy"))
    records = read_jsonl(tmp_path / "out.jsonl")
    assert [list(record) for record in records] == 24 * [["text", "vector"]]
    found = np.array([record["vector"] for record in records], np.float32)
    np.testing.assert_array_equal(found, np.load(tmp_path / "out.npy"))


def test_parquet(run, jsonl_file, wanted, tmp_path, monkeypatch):
    parquet = require("pyarrow.parquet")
    monkeypatch.setattr(vector_files, "_ROWS", 10)
    done(run(jsonl_file, tmp_path / "out.parquet"))
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table["text"].to_pylist() == TEXTS
    assert table.schema.field("vector").type.list_size == 32
    assert_vectors(np.array(table["vector"].to_pylist(), np.float32), wanted)


def test_options(run, checkpoint, text_file, wanted, tmp_path):
    done(run(text_file, tmp_path / "a.npy", "--normalize"))
    assert_vectors(np.load(tmp_path / "a.npy"), normalized(wanted))
    options = ["--pooling", "mean", "--window", 32, "--overlap", 8]
    options += ["--max-batch-wordpieces", 64, "--precision", "float32"]
    assert "mean pooling" in done(run(text_file, tmp_path / "b.npy", *options))
    embedder = load_embedder(
        str(checkpoint), backend="cpu", pooling="mean", window=32, overlap=8
    )
    assert_vectors(np.load(tmp_path / "b.npy"), embedder.embed(TEXTS))


def test_another_key(run, tmp_path, wanted):
    path = tmp_path / "texts.json.lines"
    lines = [json.dumps({"body": text, "vector": "mine"}) for text in TEXTS]
    path.write_text("\n\n".join(lines) + "\n")
    done(run(path, tmp_path / "out.jsonl", "--text-key", "body"))
    records = read_jsonl(tmp_path / "out.jsonl")
    assert [record["body"] for record in records] == TEXTS
    assert_vectors(np.array([r["vector"] for r in records], np.float32), wanted)


def test_lines(run, tmp_path):
    """A byte order mark, the line ends of Windows, other separators within a line, and
    no line end after the last."""
    texts = ["Oslo\u2028Bergen\x0b", "", "naïve"]
    (tmp_path / "in.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(texts).encode())
    done(run(tmp_path / "in.txt", tmp_path / "out.jsonl"))
    assert [r["text"] for r in read_jsonl(tmp_path / "out.jsonl")] == texts


def test_standard_input(run, wanted, tmp_path):
    text = "\n".join(TEXTS) + "\n"
    done(run("-", tmp_path / "out.npy", input=text))
    assert_vectors(np.load(tmp_path / "out.npy"), wanted)
    lines = "\n".join(json.dumps({"t": text}) for text in TEXTS)
    done(run("-", tmp_path / "b.npy", "--text-key", "t", input=lines))
    assert_vectors(np.load(tmp_path / "b.npy"), wanted)


def test_a_pipeline(trained, text_file, tmp_path):
    output = tmp_path / "new" / "folder" / "out.npy"
    done(invoke("embed", text_file, output, "--model", trained, "--backend", "cpu"))
    wanted = load_embedder(str(trained), backend="cpu").embed(TEXTS)
    assert_vectors(np.load(output), wanted)


def test_the_settings_of_a_pipeline(trained, text_file, tmp_path):
    """Are those that vectors are made by, unless others are given."""
    shutil.copytree(trained, tmp_path / "nlp")
    settings = {"precision": "bfloat16", "quantization": {"bits": 8}}
    change_settings(tmp_path / "nlp", backend="cpu", **settings)
    own = load_embedder(str(tmp_path / "nlp"))
    assert (own.backend, own.precision) == ("cpu", "bfloat16")
    assert own.quantization == {"bits": 8}
    other = load_embedder(str(tmp_path / "nlp"), precision="float32")
    assert (other.backend, other.precision) == ("cpu", "float32")
    assert other.quantization is None
    wanted = {"own": own.embed(TEXTS), "other": other.embed(TEXTS)}
    assert not np.allclose(*wanted.values(), atol=1e-4)
    for name, options in (("own", []), ("other", ["--precision", "float32"])):
        output = tmp_path / f"{name}.npy"
        done(invoke("embed", text_file, output, "--model", tmp_path / "nlp", *options))
        assert_vectors(np.load(output), wanted[name])


def test_code_of_ones_own(trained, text_file, tmp_path):
    shutil.copytree(trained, tmp_path / "nlp")
    code = add_own_code(tmp_path / "nlp")
    arguments = ["embed", text_file, tmp_path / "out.npy", "--model", tmp_path / "nlp"]
    assert "of_ones_own" in failed(invoke(*arguments))
    done(invoke(*arguments, "--code", code))
    assert len(np.load(tmp_path / "out.npy")) == len(TEXTS)


def test_what_is_done_is_read_past():
    """And not gathered, when a run goes on: there may be more than fits into memory."""
    records, alive = [], []

    class Record(dict):
        """A dict that can be watched."""

    class Source(TextSource):
        def read(self):
            for text in TEXTS:
                record = Record(text=text)
                records.append(weakref.ref(record))
                yield record

    class Done:
        n_texts = 20

        def skip(self, texts):
            for _ in islice(texts, self.n_texts):
                alive.append(sum(record() is not None for record in records))

    class Nothing:
        def stream(self, texts, normalize):
            assert list(texts) == TEXTS[Done.n_texts :]
            return iter(())

    embed_source(Source("-", "text"), Nothing(), Done(), None, normalize=False)
    assert max(alive) <= 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe(run, wanted, tmp_path):
    """As a shell makes one of <(zcat texts.gz)."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # It waits for a reader, and is not to be waited for where none comes.
    writer = threading.Thread(
        target=pipe.write_text, args=["\n".join(TEXTS)], daemon=True
    )
    writer.start()
    done(run(pipe, tmp_path / "out.npy"))
    writer.join(60)
    assert_vectors(np.load(tmp_path / "out.npy"), wanted)


# -- What cannot be ---------------------------------------------------------------


def test_wrong_input(run, tmp_path):
    assert "no file" in failed(run(tmp_path / "gone.txt", tmp_path / "out.npy"))
    assert "no file" in failed(run(tmp_path, tmp_path / "out.npy"))
    (tmp_path / "docs.spacy").touch()
    message = failed(run(tmp_path / "docs.spacy", tmp_path / "out.npy"))
    assert "is a .spacy file" in message
    (tmp_path / "docs.spacy").unlink()
    (tmp_path / "empty.txt").touch()
    assert "no texts" in failed(run(tmp_path / "empty.txt", tmp_path / "out.npy"))
    assert "no texts" in failed(run("-", tmp_path / "out.npy", input=""))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.txt"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "a"', "Line 3 of .* is not a JSON object"),
        (b'["a"]', "Line 3 of .* is not a JSON object"),
        (b'{"txt": "a", "id": 1}', r"Line 3 .* no key 'text' \(its .* 'txt', 'id'\)"),
        (b"{}", r"Line 3 .* no key 'text' \(its keys: none\)"),
        (b'{"text": null}', "Line 3 .* has None under 'text'"),
        (b'{"text": "\\ud83d"}', "Line 3 .* lone surrogates"),
        (b'{"text": "\xff"}', "Line 3 .* is not UTF-8"),
        (b"[" * 100_000, "Line 3 of .* is not a JSON object"),
    ],
)
def test_bad_lines(run, tmp_path, line, message, monkeypatch):
    """Found before the model is loaded, and nothing is left behind."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"text": "a"}\n\n' + line + b"\n")
    monkeypatch.setattr(
        "spacy_modernbert.embeddings.load_embedder",
        lambda *_, **__: pytest.fail("loaded in vain"),
    )
    result = run(path, tmp_path / "out.npy")
    assert re.search(message, failed(result))
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_begun_is_no_input(run, interrupt, text_file, tmp_path):
    """Of the same output: it would be removed."""
    output = tmp_path / "out.jsonl"
    interrupt(text_file, output, *SMALL)
    records = tmp_path / "out.jsonl.partial" / "records.jsonl"
    before = records.read_bytes()
    found = failed(run(records, output, *SMALL, "--force"))
    assert "out.jsonl.partial is used for more" in found
    assert records.read_bytes() == before


def test_the_input_is_no_output(run, jsonl_file):
    before = jsonl_file.read_bytes()
    assert "is used for more" in failed(run(jsonl_file, jsonl_file, "--force"))
    assert jsonl_file.read_bytes() == before


def test_an_output_that_comes_into_being(run, text_file, tmp_path, monkeypatch):
    """Another process finishes it while this one loads its model."""
    output = tmp_path / "out.npy"

    def load(*args, **kwargs):
        output.write_bytes(b"theirs")
        return load_embedder(*args, **kwargs)

    monkeypatch.setattr("spacy_modernbert.embeddings.load_embedder", load)
    assert "exists already" in failed(run(text_file, output))
    assert output.read_bytes() == b"theirs"


def test_out_of_memory(run, text_file, tmp_path, monkeypatch):
    monkeypatch.setattr(Embedder, "stream", refuse_memory)
    message = failed(run(text_file, tmp_path / "out.npy"))
    assert "Set max_batch_wordpieces lower" in message


def test_wrong_model(text_file, tmp_path):
    arguments = [text_file, tmp_path / "out.npy", "--model", tmp_path / "gone"]
    assert "gone" in failed(invoke("embed", *arguments))
    assert not (tmp_path / "out.npy.partial").exists()


# Without the time of day: the names of tests are made of it, and differ otherwise.
GZIPPED = gzip.compress(b'{"text": "a"}\n', mtime=0)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("in.json", b'{"body": "a", "id": 1}\n', "(its keys: 'body', 'id')"),
        ("-", b'{"text": "a"}\n{"text": "b"}\n', "Say which key has the text"),
        ("in.jsonl.gz", GZIPPED, "zcat texts.jsonl.gz |"),
        ("-", GZIPPED, "The texts of - are compressed. Decompress them"),
    ],
)
def test_lines_that_are_no_texts(run, tmp_path, name, data, message):
    """Vectors of them would be of no use, and nothing would say so."""
    path = name if name == "-" else tmp_path / name
    if name != "-":
        path.write_bytes(data)
    assert message in failed(run(path, tmp_path / "out.npy", input=data))
    assert not (tmp_path / "out.npy").exists()


def test_texts_in_braces(run, tmp_path):
    (tmp_path / "in.txt").write_text('{a}\n{"text": "b"}\n')
    done(run(tmp_path / "in.txt", tmp_path / "out.npy"))
    assert len(np.load(tmp_path / "out.npy")) == 2
