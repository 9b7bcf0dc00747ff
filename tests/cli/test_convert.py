"""`python -m spacy modernbert convert`: quantized checkpoints, and the way back."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file

from spacy_modernbert.encoder.checkpoint import load_config, open_tensors
from spacy_modernbert.encoder.quantize import QuantizedTensors, Scheme
from spacy_modernbert.encoder.torch.encoder import TorchEncoder

from ..commands import done, failed, invoke
from ..util import contents, make_checkpoint

FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Not to be changed."""
    folder = tmp_path_factory.mktemp("convert") / "source"
    sizes = {"hidden_size": 64, "intermediate_size": 128, "initializer_range": 0.05}
    return make_checkpoint(folder, **sizes)


def run(*arguments):
    return invoke("convert", *arguments)


def convert(*arguments):
    return done(run(*arguments))


def fail(*arguments):
    return failed(run(*arguments))


def as_written(folder):
    """What is in a folder, and which files these are, whenever they were read."""
    states = {path.name: path.stat() for path in folder.glob("*")}
    files = {name: (each.st_ino, each.st_mtime_ns) for name, each in states.items()}
    return contents(folder), files


def number(pattern, words):
    return float(re.search(pattern, words).group(1))


@pytest.mark.parametrize("bits, cosine, share", [(8, 0.999, 30), (4, 0.9, 18)])
def test_it_says_what_it_cost(source, tmp_path, bits, cosine, share):
    words = convert(source, tmp_path / "out", "--bits", bits)
    assert number(r"least ([\d.]+)", words) >= cosine
    assert 0 < number(r"largest difference ([\d.e-]+)", words) < 1
    assert number(r"([\d.]+)% of float32", words) <= share
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    tensors = open_tensors(tmp_path / "out", load_config(source))
    assert isinstance(tensors, QuantizedTensors)
    assert set(tensors.schemes.values()) == {Scheme(bits, 64)}
    for name in FILES[2:]:
        copied = (tmp_path / "out" / name).read_text("utf8")
        assert copied == (source / name).read_text("utf8")


def test_the_way_back(source, tmp_path):
    """In float32, what the quantized weights stand for."""
    convert(source, tmp_path / "eight", "--group-size", 32)
    words = convert(tmp_path / "eight", tmp_path / "floats", "--bits", 32)
    assert "least 1.000000" in words and "100" in words
    config = load_config(tmp_path / "floats")
    found = open_tensors(tmp_path / "floats", config)
    assert not isinstance(found, QuantizedTensors) and config == load_config(source)
    for name, tensor in open_tensors(tmp_path / "eight", config).items():
        np.testing.assert_array_equal(found[name], tensor)
    # What is quantized already may be quantized otherwise.
    words = convert(tmp_path / "eight", tmp_path / "four", "--bits", 4)
    assert number(r"least ([\d.]+)", words) >= 0.9


def test_it_compares_in_float32_whatever_pipelines_run_on(
    source, tmp_path, monkeypatch
):
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "tpu")
    assert number(r"least ([\d.]+)", convert(source, tmp_path / "out")) >= 0.999


def test_nothing_is_replaced_unless_forced(source, tmp_path):
    out = tmp_path / "out"
    convert(source, out)
    before = (out / "model.safetensors").read_bytes()
    assert "--force" in fail(source, out, "--bits", 4)
    assert (out / "model.safetensors").read_bytes() == before
    convert(source, out, "--bits", 4, "--force")
    assert (out / "model.safetensors").stat().st_size < len(before)
    (out / "notes.txt").write_text("mine")
    assert "holds other files (notes.txt)" in fail(source, out, "--force")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--bits", 7], "cannot be converted to 7 bits"),
        (["--group-size", 48], "in groups of 48"),
    ],
)
def test_what_cannot_be(source, tmp_path, options, message):
    assert message in fail(source, tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_it_says_what_groups_there_are(source, tmp_path):
    """And nothing of the bits, of which this command has fewer than MLX."""
    words = fail(source, tmp_path / "out", "--bits", 4, "--group-size", 48)
    assert "--group-size 32, 64 or 128" in words and "bits" not in words


@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_written_that_cannot_be_compared(
    source, tmp_path, monkeypatch, force
):
    def encode(encoder, batch):
        raise MemoryError("too little of it")

    out = tmp_path / "out"
    if force:
        convert(source, out)
    before = as_written(out)
    with monkeypatch.context() as patch:
        patch.setattr(TorchEncoder, "encode", encode)
        assert "too little of it" in fail(source, out, "--bits", 4, "--force")
    assert as_written(out) == before
    assert list(tmp_path.iterdir()) == [out] * force
    convert(source, out, "--bits", 4, *["--force"] * force)


def test_what_is_no_multiple_of_a_group_stays_as_it_is(source, tmp_path):
    words = convert(source, tmp_path / "out", "--group-size", 128)
    assert number(r"([\d.]+)% of float32", words) > 50
    tensors = open_tensors(tmp_path / "out", load_config(source))
    assert set(tensors.schemes) == {f"layers.{i}.mlp.Wo.weight" for i in range(3)}


def test_onto_itself(source):
    assert "onto itself" in fail(source, source, "--force")


def test_no_source(tmp_path):
    assert "There is no folder" in fail(tmp_path / "nowhere", tmp_path / "out")


def test_a_missing_shard_of_a_head(tmp_path):
    """Which is not needed, and has no size either."""
    folder = make_checkpoint(tmp_path / "sharded")
    shard = folder / "model-of-the-encoder.safetensors"
    (folder / "model.safetensors").rename(shard)
    places = dict.fromkeys(load_file(shard), shard.name)
    places["decoder.bias"] = "model-of-the-head.safetensors"
    places["decoder.weight"] = 7
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": places})
    )
    assert "weights before" in convert(folder, tmp_path / "out", "--group-size", 32)


def test_the_current_folder(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "weights now" in convert(source, ".")
    assert "weights now" in convert(source, ".", "--force")
    load_config(tmp_path)
