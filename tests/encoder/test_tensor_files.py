import io
import json
import struct

import numpy as np
import pytest
import safetensors
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load as load_with_library
from safetensors.torch import save as save_with_library

from spacy_modernbert.encoder.tensor_files import (
    OnDemand,
    read_entries,
    read_tensors,
    write_tensors,
)

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def write(tensors) -> bytes:
    stream = io.BytesIO()
    write_tensors(stream, {k: v.shape for k, v in tensors.items()}, tensors)
    return stream.getvalue()


def read(data: bytes):
    return dict(read_tensors(read_entries(data)))


def with_header(header, tensors: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


shapes = st.lists(
    st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple), max_size=5
)


@given(shapes, st.integers(0, 100))
def test_round_trip(shapes, seed):
    rng = np.random.default_rng(seed)
    tensors = {
        f"t{i}": rng.standard_normal(shape, np.float32)
        for i, shape in enumerate(shapes)
    }
    data = write(tensors)
    for back in (read(data), load_with_library(data)):
        assert list(tensors) == sorted(back)
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(back[name], tensor)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(3,), (2, 5), (1_200_000,)])
def test_reads_every_float_dtype(dtype, shape):
    torch.manual_seed(0)
    tensor = torch.randn(shape).to(dtype)
    tensor.view(-1)[0] = float("inf")
    back = read(save_with_library({"a": tensor, "b": tensor * 2}))
    np.testing.assert_array_equal(back["a"], tensor.float().numpy())
    np.testing.assert_array_equal(back["b"], (tensor * 2).float().numpy())


def test_an_array_is_the_callers_own():
    reader = read_tensors(read_entries(write({"a": np.ones((2, 2), np.float32)})))
    first = reader["a"]
    first += 1
    assert first.flags.writeable and first.flags.c_contiguous and first.flags.owndata
    np.testing.assert_array_equal(reader["a"], np.ones((2, 2)))
    assert list(reader) == ["a"] and len(reader) == 1


def test_writes_any_layout_as_float32():
    tensor = np.arange(6, dtype=np.float64).reshape(2, 3).T
    np.testing.assert_array_equal(read(write({"a": tensor}))["a"], tensor)


def test_transformers_finds_its_metadata(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(write({"a": np.ones(3, np.float32)}))
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as opened:
        assert opened.metadata() == {"format": "pt"}


def test_tensors_are_aligned():
    for n in range(1, 20):
        data = write({"x" * n: np.ones(1, np.float32)})
        assert struct.unpack("<Q", data[:8])[0] % 8 == 0


# Errors


def test_refuses_to_write_the_wrong_shape():
    tensors = {"a": np.ones((2, 3), np.float32)}
    with pytest.raises(ValueError, match=r"tensor a has the shape \(2, 3\).*\(3, 2\)"):
        write_tensors(io.BytesIO(), {"a": (3, 2)}, tensors)
    with pytest.raises(ValueError, match="no tensor b"):
        write_tensors(io.BytesIO(), {"a": (2, 3), "b": (1,)}, tensors)


@given(st.integers(0, 171))
def test_a_file_cut_short_is_corrupt(length):
    data = write({"a": np.ones((2, 3), np.float32), "b": np.ones(4, np.float32)})
    assert len(data) == 192
    with pytest.raises(ValueError, match="not a valid safetensors file"):
        read_entries(data[:length])


def test_a_file_too_long_is_corrupt():
    with pytest.raises(ValueError, match=r"should have \d+ bytes and has"):
        read_entries(write({"a": np.ones(3, np.float32)}) + b"x")


def test_a_file_cut_after_it_was_opened(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(write({"a": np.ones(3, np.float32)}))
    reader = read_tensors(read_entries(path))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"a\.safetensors.*ends inside tensor a"):
        reader["a"]


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "header,why",
    [
        (b"", "not JSON"),
        (b"\xff\xff", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a": ' + b"1" * 5_000 + b"}", "not JSON"),
        (b"[]", "not a JSON object"),
        ({"a": 1}, "no dtype for tensor a"),
        ({"a": {}}, "no dtype for tensor a"),
        ({"a": {**ENTRY, "dtype": None}}, "no dtype for tensor a"),
        ({"a": {**ENTRY, "shape": None}}, "no shape or no place for tensor a"),
        ({"a": {**ENTRY, "shape": [-1]}}, "no shape or no place for tensor a"),
        ({"a": {**ENTRY, "shape": [True]}}, "no shape or no place for tensor a"),
        ({"a": {**ENTRY, "data_offsets": [4]}}, "no shape or no place for tensor a"),
        ({"a": {**ENTRY, "data_offsets": [4, 0]}}, "no place for tensor a"),
        ({"a": {**ENTRY, "shape": [2]}}, r"tensor a has 4 bytes for shape \[2\]"),
        ({"a": ENTRY, "b": ENTRY}, "tensor b does not start where"),
        ({"a": {**ENTRY, "data_offsets": [1, 5]}}, "tensor a does not start where"),
        (
            {"a": {**ENTRY, "dtype": "I8", "data_offsets": [4, 0]}},
            "no place for tensor a",
        ),
    ],
)
def test_corrupt_headers(header, why):
    data = with_header(header, bytes(4))
    with pytest.raises(ValueError, match=why):
        read_entries(data)
    with pytest.raises(safetensors.SafetensorError):
        load_with_library(data)


def test_names_the_file(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ValueError, match=r"model\.safetensors' is not a valid"):
        read_entries(path)


def test_other_dtypes_are_listed_but_not_read():
    entries = read_entries(save_with_library({"ids": torch.arange(3)}))
    assert entries["ids"].dtype == "I64"
    assert entries["ids"].shape == (3,)


def test_each_tensor_is_made_once():
    made = []

    def make(name):
        made.append(name)
        return np.ones(2, np.float32)

    shapes = {"a": (2,), "b": (2,)}
    write_tensors(io.BytesIO(), shapes, OnDemand(shapes, make))
    assert made == ["a", "b"]


@given(st.integers(0, 191), st.integers(1, 255))
def test_a_changed_byte_is_an_error_or_read_as_the_library_reads_it(position, bits):
    changed = bytearray(
        write({"a": np.ones((2, 3), np.float32), "b": np.ones(4, np.float32)})
    )
    changed[position] ^= bits
    data = bytes(changed)
    try:
        wanted = dict(safetensors.deserialize(data))
    except safetensors.SafetensorError as error:
        # Which dtypes there are is a matter of those who read a tensor.
        if "unknown variant" not in str(error):
            with pytest.raises(ValueError, match="not a sound safetensors file"):
                read_entries(data)
        return
    entries = read_entries(data)
    assert entries.keys() == wanted.keys()
    for name, entry in entries.items():
        assert entry.dtype == wanted[name]["dtype"]
        assert list(entry.shape) == wanted[name]["shape"]
        if entry.dtype == "F32":  # one byte makes words of floats, and no other floats
            assert read_tensors(entries)[name].tobytes() == wanted[name]["data"]
