"""Folders and hub ids. No test reaches the network."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import errors

from spacy_modernbert.encoder.checkpoint import load_config, open_tensors
from spacy_modernbert.encoder.hub import resolve, resolve_tokenizer

from .util import make_oracle


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub of one folder. `hub.calls` says what was asked of it."""
    hub = SimpleNamespace(calls=[], ignored=[], folder=tmp_path, error=None)
    hub.is_reached = True

    def snapshot_download(name, revision, allow_patterns, ignore_patterns=None):
        hub.calls.append((name, revision, allow_patterns))
        hub.ignored.append(ignore_patterns)
        if hub.error:
            raise hub.error
        return str(hub.folder)

    def model_info(name, revision):
        if not hub.is_reached:
            raise errors.OfflineModeIsEnabled("the network is off")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub, "model_info", model_info)
    return hub


def http_error(kind):
    """As the library makes them, whatever its version wants to be made with."""
    error = kind.__new__(kind)
    error.args = ("404",)
    return error


def test_a_folder_is_used_as_it_is(folder, home, hub, monkeypatch):
    assert folder == home / "checkpoint"
    assert resolve(folder) == folder
    monkeypatch.chdir(home)
    assert resolve("checkpoint") == Path("checkpoint")
    assert resolve("~/checkpoint") == folder
    assert hub.calls == []


@pytest.mark.parametrize(
    "name",
    [
        "/no/such",
        "./no",
        "../no",
        "~/no",
        "~nobody-here/no",
        "a/b/c",
        "a/b/",
        "a\\b",
        Path("a/b"),
    ],
)
def test_what_looks_like_a_path_is_not_asked_of_the_hub(name, hub):
    with pytest.raises(ValueError, match=r"There is no folder '.*(no|such|b|c)"):
        resolve(name)
    assert hub.calls == []


def test_a_file_is_not_a_folder(folder):
    with pytest.raises(ValueError, match=r"is a file.*Try '.*checkpoint'"):
        resolve(folder / "model.safetensors")


def test_a_hub_id_is_fetched(hub, folder, oracle):
    hub.folder = folder
    assert resolve("answerdotai/ModernBERT-base", "abc") == folder
    # First the config alone.
    first, second = hub.calls
    assert first == ("answerdotai/ModernBERT-base", "abc", ["config.json"])
    assert second[:2] == ("answerdotai/ModernBERT-base", "abc")


def test_only_the_needed_files_are_fetched(hub, folder):
    hub.folder = folder
    resolve("name")
    needed = [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    wanted = huggingface_hub.utils.filter_repo_objects(
        [
            *needed,
            "pytorch_model.bin",
            "onnx/model.onnx",
            "checkpoint-1000/model.safetensors",
            "models/large.safetensors",
            "model-16bit/model.safetensors",
            "training_args.bin",
            "README.md",
        ],
        allow_patterns=hub.calls[-1][-1],
        ignore_patterns=hub.ignored[-1],
    )
    assert list(wanted) == needed


def test_a_tokenizer_is_fetched_alone(hub, folder):
    hub.folder = folder
    assert resolve_tokenizer("answerdotai/ModernBERT-base") == folder
    assert [call[2] for call in hub.calls] == [
        ["config.json"],
        ["config.json", "tokenizer.json"],
    ]


def test_a_tokenizer_on_the_disk(hub, folder, home):
    assert folder == home / "checkpoint"
    assert resolve_tokenizer(str(folder)) == folder
    assert resolve_tokenizer(folder / "config.json") == folder / "config.json"
    assert resolve_tokenizer("~/checkpoint") == folder
    with pytest.raises(ValueError, match="absent"):
        resolve_tokenizer("./absent")
    assert not hub.calls


def test_no_weights_are_fetched_of_another_model(hub, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="model_type 'bert'"):
        resolve("google-bert/bert-base-uncased")
    assert len(hub.calls) == 1


def test_a_repository_without_safetensors(hub, tmp_path):
    make_oracle().config.save_pretrained(tmp_path)
    folder = resolve("owner/name")
    with pytest.raises(ValueError, match=r"no model\.safetensors"):
        open_tensors(folder, load_config(folder))


@pytest.mark.parametrize("name", ["config", "tokenizer", "model"])
def test_what_was_fetched_in_part_without_network(hub, folder, name):
    """The library gives what it has, and says nothing of what it has not."""
    hub.folder, hub.is_reached = folder, False
    assert resolve("owner/name") == folder
    for path in folder.glob(f"{name}.*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"not be downloaded .*the network is off"):
        resolve("owner/name")
    if name == "model":
        assert resolve_tokenizer("owner/name") == folder


@pytest.mark.parametrize("kind", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_cannot_be_written(hub, kind):
    """Which the network has nothing to do with."""
    hub.error = OSError(kind, os.strerror(kind), "/hub/file")
    with pytest.raises(OSError, match="'/hub/file'"):
        resolve("owner/name")


def test_errors_of_httpx(hub):
    """Of the hub's library from version 1 on. They are no OSErrors."""
    hub.error = type("ReadError", (Exception,), {"__module__": "httpx"})("cut short")
    with pytest.raises(ValueError, match=r"hub \(ReadError: cut short\)"):
        resolve("owner/name")
    hub.error = LookupError("a mistake of somebody")
    with pytest.raises(LookupError):
        resolve("owner/name")


def test_errors_of_hf_xet(hub):
    """They are all of one kind."""
    hub.error = RuntimeError("Data processing error: CAS service error : timeout")
    with pytest.raises(ValueError, match=r"hub \(RuntimeError: .*timeout\)"):
        resolve("owner/name")


@pytest.mark.parametrize(
    ("is_windows", "said"),
    [
        (False, "No space left on device (os error 28)"),
        (True, "There is not enough space on the disk. (os error 112)"),
    ],
)
def test_a_full_disk_by_hf_xet(hub, monkeypatch, is_windows, said):
    hub.error = RuntimeError(f"IO Error: {said}")
    monkeypatch.setattr("spacy_modernbert.encoder.hub._IS_WINDOWS", is_windows)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as found:
        resolve("owner/name")
    assert found.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    "kind,message",
    [
        (errors.GatedRepoError, "'owner/name' on the .* hub is gated"),
        (errors.RepositoryNotFoundError, "'owner/name' is neither a folder"),
        (errors.RevisionNotFoundError, "'owner/name' .* has no revision 'v9'"),
        (errors.LocalEntryNotFoundError, "'owner/name' is not a folder.*hf download"),
        (errors.OfflineModeIsEnabled, "HF_HUB_OFFLINE"),
        (errors.HfHubHTTPError, "could not be downloaded from the Hugging Face hub"),
        (ConnectionError, r"hub \(ConnectionError: 404\)"),
        (errors.HFValidationError, "There is no folder"),
    ],
)
def test_errors_of_the_hub(hub, kind, message):
    hub.error = http_error(kind)
    with pytest.raises(ValueError, match=message):
        resolve("owner/name", revision="v9")


def test_without_network(monkeypatch, tmp_path):
    """The real library, which is told that there is no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="'owner/name' is not a folder here"):
        resolve("owner/name")
    with pytest.raises(ValueError, match=r"There is no folder '.*not an id!'"):
        resolve("not an id!")
