"""Files of vectors that `embed` makes: begun, gone on with, and in their place."""

import errno
import importlib.util
import json
import os
import shutil
import stat
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from spacy_modernbert.cli import locks, vector_files
from spacy_modernbert.cli.locks import NO_LOCKS, locked
from spacy_modernbert.embeddings import Embedder, load_embedder, normalized
from spacy_modernbert.encoder import backend
from spacy_modernbert.encoder.checkpoint import (
    load_config,
    open_tensors,
    read_tokenizer_json,
    save_checkpoint,
)

from ..commands import done, failed, words
from ..scripts import FORKS, needs_forks, run_script
from ..util import make_checkpoint, needs_modes, read_jsonl, require
from .embedding import SMALL, TEXTS, assert_vectors, read_vectors, refuse_memory

# -- Interrupted ------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
def test_goes_on(run, interrupt, text_file, wanted, tmp_path, suffix):
    output = tmp_path / f"out{suffix}"
    if suffix == ".parquet":
        require("pyarrow", reason="needs the extra parquet")
    result = interrupt(text_file, output, *SMALL)
    assert result.exit_code == 130
    assert "with the same arguments to continue" in words(result)
    assert not output.exists()
    state = json.loads((tmp_path / f"{output.name}.partial" / "state.json").read_text())
    assert 0 < state["n_texts"] < 24
    # Written and not accounted for: as if killed in the middle.
    for name in ("vectors.npy", "records.jsonl"):
        with open(tmp_path / f"{output.name}.partial" / name, "ab") as stream:
            stream.write(b"half a rec")
    done(run(text_file, output, *SMALL))
    assert not (tmp_path / f"{output.name}.partial").exists()
    assert_vectors(read_vectors(output), wanted)


def test_it_does_nothing_twice(run, interrupt, text_file, tmp_path, monkeypatch):
    interrupt(text_file, tmp_path / "out.npy", *SMALL)
    state = json.loads((tmp_path / "out.npy.partial" / "state.json").read_text())
    seen = []
    chunks = Embedder._chunks

    def spy(self, texts):
        for chunk in chunks(self, texts):
            seen.extend(chunk)
            yield chunk

    monkeypatch.setattr(Embedder, "_chunks", spy)
    done(run(text_file, tmp_path / "out.npy", *SMALL))
    assert seen == TEXTS[state["n_texts"] :]


def test_goes_on_with_standard_input(run, interrupt, wanted, tmp_path):
    text = "\n".join(TEXTS) + "\n"
    assert interrupt("-", tmp_path / "out.npy", *SMALL, input=text).exit_code == 130
    done(run("-", tmp_path / "out.npy", *SMALL, input=text))
    assert_vectors(np.load(tmp_path / "out.npy"), wanted)


@pytest.mark.parametrize(
    ("option", "value", "before"),
    [
        ("pooling", "mean", "cls"),
        ("window", 20, 64),
        ("precision", "bfloat16", "float32"),
    ],
)
def test_other_arguments(
    run, interrupt, checkpoint, text_file, tmp_path, option, value, before
):
    output = tmp_path / "out.npy"
    interrupt(text_file, output, *SMALL)
    options = [*SMALL, f"--{option}", value]
    message = failed(run(text_file, output, *options))
    assert f"{option} was {before!r} and is {value!r}" in message
    done(run(text_file, output, *options, "--force"))
    settings = {"max_batch_wordpieces": 64, option: value}
    embedder = load_embedder(str(checkpoint), backend="cpu", **settings)
    assert_vectors(np.load(output), embedder.embed(TEXTS))


def test_lengths_that_are_other(run, interrupt, text_file, wanted, tmp_path):
    """Vectors as they are, and those of length 1, are not mixed."""
    output = tmp_path / "out.npy"
    interrupt(text_file, output, *SMALL)
    options = [*SMALL, "--normalize"]
    message = failed(run(text_file, output, *options))
    assert "normalize was False and is True" in message
    done(run(text_file, output, *options, "--force"))
    assert_vectors(np.load(output), normalized(wanted))


def test_other_arguments_where_nothing_is_done(
    run, text_file, wanted, tmp_path, monkeypatch
):
    output = tmp_path / "out.npy"
    with monkeypatch.context() as patched:
        patched.setattr(Embedder, "stream", refuse_memory)
        failed(run(text_file, output))
    assert (tmp_path / "out.npy.partial" / "state.json").is_file()
    done(run(text_file, output, "--normalize"))
    assert_vectors(np.load(output), normalized(wanted))


def test_the_same_arguments_that_mean_something_else(
    run, interrupt, text_file, tmp_path, monkeypatch
):
    """As on another machine, which multiplies bfloat16."""
    output = tmp_path / "out.npy"
    interrupt(text_file, output, *SMALL)
    with monkeypatch.context() as patched:
        patched.setattr(backend, "multiplies_bfloat16", lambda: True)
        message = failed(run(text_file, output, *SMALL))
    assert "precision was 'float32' and is 'bfloat16'" in message
    # And what "auto" took, said in so many words.
    done(run(text_file, output, *SMALL, "--precision", "float32"))


def test_other_weights(run, interrupt, text_file, tmp_path):
    output = tmp_path / "out.npy"
    interrupt(text_file, output, *SMALL)
    other = make_checkpoint(tmp_path / "other", seed=1)
    message = failed(run(text_file, output, *SMALL, "--model", other))
    assert "weights was" in message and "model was" in message


def test_weights_that_were_trained_on(run, interrupt, checkpoint, text_file, tmp_path):
    """At the same place, and with the same config."""
    output, folder = tmp_path / "out.npy", tmp_path / "encoder"
    shutil.copytree(checkpoint, folder)
    interrupt(text_file, output, *SMALL, "--model", folder)
    config = load_config(folder)
    tensors = dict(open_tensors(folder, config))
    tensors["final_norm.weight"] = tensors["final_norm.weight"] * 2
    save_checkpoint(folder, config, tensors, read_tokenizer_json(folder))
    message = failed(run(text_file, output, *SMALL, "--model", folder))
    assert "weights was" in message and "model was" not in message


def test_other_texts(run, interrupt, text_file, tmp_path):
    output = tmp_path / "out.npy"
    interrupt(text_file, output, *SMALL)
    text_file.write_text("\n".join(["Oslo", *TEXTS[1:]]))
    assert "does not begin with these texts" in failed(run(text_file, output, *SMALL))
    text_file.write_text("\n")
    assert "(found: 1)" in failed(run(text_file, output, *SMALL))
    assert not output.exists()


@pytest.mark.parametrize("name", ["vectors.npy", "records.jsonl"])
def test_a_beginning_that_was_copied_in_part(run, interrupt, text_file, tmp_path, name):
    output = tmp_path / "out.jsonl"
    interrupt(text_file, output, *SMALL)
    path = tmp_path / "out.jsonl.partial" / name
    os.truncate(path, path.stat().st_size - 20)
    before = path.read_bytes()
    assert f"{name} is damaged" in failed(run(text_file, output, *SMALL))
    assert path.read_bytes() == before and not output.exists()


@pytest.mark.parametrize("what", ["link", "file", "another's"])
def test_a_folder_that_somebody_else_has_made(
    run, interrupt, text_file, tmp_path, monkeypatch, what
):
    """As in a folder of all, with a link to what would be overwritten."""
    output = tmp_path / "out.npy"
    folder, elsewhere = vector_files.partial_folder(output), tmp_path / "elsewhere"
    elsewhere.mkdir()
    if what == "link":
        folder.symlink_to(elsewhere, target_is_directory=True)
    elif what == "file":
        folder.touch()
    else:
        owner = os.stat(tmp_path).st_uid
        interrupt(text_file, output, *SMALL)
        monkeypatch.setattr(
            vector_files, "_owner_of_new_files", lambda folder: owner + 1
        )
    said = {"link": "is a link", "file": "not a folder", "another's": "another user"}
    for options in ([], ["--force"]):
        message = failed(run(text_file, output, *SMALL, *options))
        assert said[what] in message and "out.npy.partial" in message
    with pytest.raises(ValueError, match=said[what]):
        vector_files.lock_of(output)  # where it was made in between
    assert not output.exists() and not list(elsewhere.iterdir())


@needs_modes
def test_the_folder_is_the_users_alone(interrupt, run, text_file, tmp_path):
    output = tmp_path / "out.npy"
    interrupt(text_file, output, *SMALL)
    assert stat.S_IMODE(vector_files.partial_folder(output).stat().st_mode) == 0o700
    done(run(text_file, output, *SMALL))
    (tmp_path / "usual").touch()
    assert output.stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ("", "Expecting value"),
        ("[]", "it is no JSON object"),
        ('{"a": 1}', "its 'arguments' is None"),
        ('{"arguments": {}, "n_texts": -1}', "its 'n_texts' is -1"),
        ('{"arguments": {}, "n_texts": 1, "n_record_bytes": "0"}', "bytes' is '0'"),
        (b"\xff", "can't decode"),
    ],
)
def test_a_state_that_is_damaged(tmp_path, state, why):
    output = tmp_path / "out.npy"
    folder = vector_files.lock_of(output).parent
    for name in ("vectors.npy", "records.jsonl"):
        (folder / name).touch()
    state = state.encode() if isinstance(state, str) else state
    (folder / "state.json").write_bytes(state)
    partial = vector_files.PartialFile(output, 2, {})
    with pytest.raises(ValueError, match=f"state.json is damaged: .*{why}"):
        partial.resume(force=True)
    assert (folder / "state.json").read_bytes() == state


# The command with an output each, killed as it is about to sync its `number`-th write.
KILLED = """
import json, signal
from spacy_modernbert import atomic
from spacy_modernbert.cli import app, vector_files
from spacy_modernbert.embeddings import load_embedder

outputs, text_file, model, *options = sys.argv[1:]
load_embedder(model, backend="cpu")  # which imports all that an encoder needs
options += ["--model", model, "--backend", "cpu"]

def embed(output, number):
    seen, sync = [], atomic.sync

    def sync_or_die(stream):
        seen.append(stream)
        if len(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(stream)

    atomic.sync = vector_files.sync = sync_or_die
    app(["embed", text_file, output, *options])

for output, number in json.loads(outputs).items():
    assert fork(lambda: embed(output, number)) == -signal.SIGKILL
"""


def test_killed_as_it_starts_from_scratch(run, interrupt, text_file, wanted, tmp_path):
    """What was done with other arguments is not taken for done."""
    output = tmp_path / "out.npy"
    interrupt(text_file, output, *SMALL)
    partial = vector_files.PartialFile(output, wanted.shape[1], {"other": 1})

    def die():
        raise KeyboardInterrupt

    partial._write_state = die
    with pytest.raises(KeyboardInterrupt):
        partial.resume(force=True)
    done(run(text_file, output, *SMALL))
    assert_vectors(np.load(output), wanted)


@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_killed_when_the_file_is_there(
    run, text_file, wanted, tmp_path, monkeypatch, suffix
):
    """And the folder of what was done still is, too."""
    output = tmp_path / f"out{suffix}"

    def interrupt(partial):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(vector_files.PartialFile, "discard", interrupt)
        assert run(text_file, output).exit_code == 130
    assert vector_files.partial_folder(output).is_dir()
    assert_vectors(read_vectors(output), wanted)
    assert "--force" in failed(run(text_file, output))
    done(run(text_file, output, "--force"))
    assert_vectors(read_vectors(output), wanted)
    # The same again where the file was moved away in between.
    with monkeypatch.context() as patched:
        patched.setattr(vector_files.PartialFile, "discard", interrupt)
        assert run(text_file, output, "--force").exit_code == 130
    output.unlink()
    done(run(text_file, output))
    assert_vectors(read_vectors(output), wanted)
    assert not vector_files.partial_folder(output).exists()


@needs_forks
def test_killed(run, checkpoint, wanted, tmp_path):
    """In the middle of its work, and of whatever it was writing."""
    text_file = tmp_path / "in.txt"
    text_file.write_text("".join(f"{text}\n" for text in TEXTS * 20))
    # Another process is to find the same, on any processor.
    options = ["--precision", "float32", *SMALL]
    # Two states, and then vectors.
    numbers = {tmp_path / f"{number}.npy": number for number in (3, 5, 8)}
    outputs = json.dumps({str(path): number for path, number in numbers.items()})
    run_script(FORKS + KILLED, outputs, text_file, checkpoint, *options)
    for output, number in numbers.items():
        partial = vector_files.partial_folder(output)
        state = json.loads((partial / "state.json").read_text())
        assert state["n_texts"] < len(TEXTS) * 20
        assert (state["n_texts"] > 0) == (number > 3)
        assert not output.exists()
        done(run(text_file, output, *options))
        assert_vectors(np.load(output), np.tile(wanted, (20, 1)))


def test_two_at_once(run, text_file, tmp_path):
    output = tmp_path / "out.npy"
    with locked(vector_files.lock_of(output), output):
        assert "Another process" in failed(run(text_file, tmp_path / "out.npy"))
    done(run(text_file, tmp_path / "out.npy"))


def pretend_windows(monkeypatch, refuse=None):
    """Locks as Windows has them, by those that are here."""
    fcntl = pytest.importorskip("fcntl")

    def locking(number, how, n_bytes):
        assert os.lseek(number, 0, os.SEEK_CUR) == 0 and n_bytes == 1
        if refuse is not None:
            raise OSError(refuse, os.strerror(refuse))
        try:
            fcntl.flock(number, how)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    how = {"LK_NBLCK": fcntl.LOCK_EX | fcntl.LOCK_NB, "LK_UNLCK": fcntl.LOCK_UN}
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, **how))
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setattr(locks, "_IS_WINDOWS", True)


def test_a_lock_of_windows(tmp_path, monkeypatch):
    """Nothing is left of it in the end, but what else is in its folder is."""
    pretend_windows(monkeypatch)
    output, folder = tmp_path / "out.npy", tmp_path / "folder"
    for name in ("kept", "removed"):
        with locked(folder / "lock", output):
            (folder / "a").touch()
            with (
                pytest.raises(ValueError, match=r"Another process .*out\.npy"),
                locked(folder / "lock", output),
            ):
                pytest.fail("there is no lock")
            if name == "removed":
                (folder / "a").unlink()
        assert list(tmp_path.rglob("*")) == (
            [folder, folder / "a"] if name == "kept" else []
        )
    with pytest.raises(KeyboardInterrupt), locked(folder / "lock", output):
        raise KeyboardInterrupt
    assert not folder.exists()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_file_system_of_windows_without_locks(tmp_path, monkeypatch, number):
    pretend_windows(monkeypatch, refuse=number)
    if number == errno.EIO:
        with pytest.raises(OSError), locked(tmp_path / "lock", tmp_path / "out.npy"):
            pytest.fail("not told of")
        return
    with locked(tmp_path / "lock", tmp_path / "out.npy"):
        assert (tmp_path / "lock").is_file()


def test_a_lock_empties_nothing(tmp_path):
    """It may be a link that somebody else has put there."""
    (tmp_path / "thesis.txt").write_text("text")
    (tmp_path / "lock").symlink_to(tmp_path / "thesis.txt")
    with locked(tmp_path / "lock", tmp_path / "out.npy"):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "text"


@pytest.mark.parametrize("number", [*NO_LOCKS, errno.EIO])
def test_a_file_system_without_locks(
    run, text_file, wanted, tmp_path, monkeypatch, number
):
    fcntl = pytest.importorskip("fcntl")

    def flock(stream, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    if number == errno.EIO:
        assert os.strerror(number) in failed(run(text_file, tmp_path / "out.npy"))
        return
    done(run(text_file, tmp_path / "out.npy"))
    assert_vectors(np.load(tmp_path / "out.npy"), wanted)


def test_a_file_system_that_keeps_what_is_open(
    run, text_file, wanted, tmp_path, monkeypatch
):
    """As those of a network do: of the lock, a file remains until it is closed."""
    output = tmp_path / "out.npy"
    folder = vector_files.partial_folder(output)
    remove = os.rmdir

    def rmdir(path, *args, **options):
        if os.path.basename(path) == folder.name:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        remove(path, *args, **options)

    monkeypatch.setattr(os, "rmdir", rmdir)
    done(run(text_file, output))
    assert_vectors(np.load(output), wanted)
    done(run(text_file, output, "--force"))
    assert_vectors(np.load(output), wanted)


# -- What is written, and where ---------------------------------------------------


def test_wrong_output(run, text_file, tmp_path, monkeypatch):
    for name in ("out", "out.csv"):
        message = failed(run(text_file, tmp_path / name))
        assert ".npy, .jsonl, .parquet" in message
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "pyarrow" else find_spec(name, *rest),
    )
    message = failed(run(text_file, tmp_path / "out.parquet"))
    assert 'pip install "spacy-modernbert[parquet]"' in message


@pytest.mark.parametrize("options", [[], ["--force"]])
def test_a_folder_where_the_file_is_to_be(run, text_file, tmp_path, options):
    """It is not replaced by force either."""
    (tmp_path / "out.npy").mkdir()
    message = failed(run(text_file, tmp_path / "out.npy", *options))
    assert "is a folder. Remove it, or choose another name" in message


def test_texts_where_the_vectors_are_to_be(run, tmp_path, wanted):
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(json.dumps({"vector": text}) for text in TEXTS))
    arguments = ("--text-key", "vector")
    message = failed(run(path, tmp_path / "out.jsonl", *arguments))
    assert "under the key 'vector'" in message and ".npy" in message
    assert not list(tmp_path.glob("out*"))
    done(run(path, tmp_path / "out.npy", *arguments))
    assert_vectors(np.load(tmp_path / "out.npy"), wanted)


def test_an_output_that_exists(run, text_file, wanted, tmp_path):
    output = tmp_path / "out.npy"
    output.write_bytes(b"mine")
    assert "--force" in failed(run(text_file, output))
    assert output.read_bytes() == b"mine"
    done(run(text_file, output, "--force"))
    assert_vectors(np.load(output), wanted)


@pytest.mark.parametrize("name", ["out.npy", "out.jsonl"])
def test_an_output_that_cannot_be_renamed(
    run, text_file, wanted, tmp_path, monkeypatch, name
):
    """As one that is mounted by itself."""
    output = tmp_path / name
    output.write_bytes(b"mine")
    replace = os.replace

    def refuse(source, target):
        if os.fspath(target) == os.fspath(output):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    done(run(text_file, output, "--force"))
    assert_vectors(read_vectors(output), wanted)
    assert not vector_files.partial_folder(output).exists()


def test_a_link_stays_one(run, text_file, wanted, tmp_path):
    # The format is told by the name that was given.
    target, link = tmp_path / "scratch" / "9f86d0", tmp_path / "out.npy"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link.symlink_to(target)
    done(run(text_file, link, "--force"))
    assert link.is_symlink() and list(target.parent.iterdir()) == [target]
    assert_vectors(np.load(target), wanted)


@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_vectors_that_are_not_finite(
    run, text_file, wanted, tmp_path, monkeypatch, suffix
):
    """As in float16, where large numbers are none. What was done before stays good."""
    output, pool, n_texts = tmp_path / f"out{suffix}", Embedder._pool, []

    def overflow(self, plan):
        vectors = pool(self, plan)
        n_texts.append(len(vectors))
        if len(n_texts) == 3:
            vectors[-1, 0] = np.inf
        return vectors

    with monkeypatch.context() as patched:
        patched.setattr(Embedder, "_pool", overflow)
        message = failed(run(text_file, output, *SMALL))
    assert f"The vector of text {sum(n_texts)} has" in message
    assert "--precision float32" in message
    state = json.loads((tmp_path / f"{output.name}.partial" / "state.json").read_text())
    assert state["n_texts"] == sum(n_texts[:2])
    done(run(text_file, output, *SMALL))
    assert_vectors(read_vectors(output), wanted)


def test_the_header_has_one_length():
    lengths = {len(vector_files._npy_header(10**n, 768)) for n in range(12)}
    assert len(lengths) == 1


def test_half_characters_beside_the_text(run, tmp_path):
    """As in what was cut after so many characters. They have no UTF-8, but JSON."""
    path, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [{"text": "Oslo", "title": "cut \ud83d"}, {"text": "Århus", "title": "ø"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done(run(path, output))
    records = read_jsonl(output)
    assert [record["title"] for record in records] == ["cut \ud83d", "ø"]
    assert "Århus" in output.read_text(encoding="utf8")
