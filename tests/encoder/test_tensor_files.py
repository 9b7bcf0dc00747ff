import signal

import numpy as np
import pytest
import safetensors
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from spacy_modernbert.encoder.tensor_files import (
    OnDemand,
    read_entries,
    read_tensors,
    to_bytes,
    write_tensors,
)

from ..scripts import run_script

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("files") / "a.safetensors"


def write(path, tensors, **options):
    write_tensors(path, {k: v.shape for k, v in tensors.items()}, tensors, **options)


def read(source):
    return dict(read_tensors(read_entries(source)))


shapes = st.lists(
    st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple), max_size=5
)


@given(shapes, st.integers(0, 100), st.sampled_from(["F32", "F16"]))
def test_round_trip(path, shapes, seed, dtype):
    rng = np.random.default_rng(seed)
    tensors = {
        f"t{i}": rng.standard_normal(shape, np.float32).astype(np.float16)
        for i, shape in enumerate(shapes)
    }
    write(path, tensors, dtype=dtype)
    assert all(entry.dtype == dtype for entry in read_entries(path).values())
    whole = to_bytes({k: v.shape for k, v in tensors.items()}, tensors)
    for back in (read(path), read(whole)):
        assert sorted(back) == list(tensors)
        for name, tensor in tensors.items():
            assert back[name].dtype == np.float32
            np.testing.assert_array_equal(back[name], tensor)


def test_bytes_are_those_of_a_file(path):
    tensors = {"b": np.ones(3, np.float32), "a": np.arange(4, dtype=np.uint32)}
    write(path, tensors, layout="mlx")
    sizes = {name: tensor.shape for name, tensor in tensors.items()}
    whole = to_bytes(sizes, tensors, layout="mlx")
    assert whole == path.read_bytes()
    for source in (path, whole):
        words = read_entries(source)["a"]
        assert words.dtype == "U32" and words.shape == (4,)
        assert words.read().dtype == np.uint32
        np.testing.assert_array_equal(words.read(), tensors["a"])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(3,), (2, 5)])
def test_reads_every_float_dtype(path, dtype, shape):
    torch.manual_seed(0)
    tensor = torch.randn(shape).to(dtype)
    tensor.view(-1)[0] = float("inf")
    save_file({"a": tensor, "b": tensor * 2}, path)
    back = read(path)
    np.testing.assert_array_equal(back["a"], tensor.float().numpy())
    np.testing.assert_array_equal(back["b"], (tensor * 2).float().numpy())


@pytest.mark.parametrize("is_file", [False, True])
def test_an_array_is_the_callers_own(path, is_file):
    tensors = {"a": np.ones((2, 2), np.float32)}
    write(path, tensors)
    reader = read_tensors(read_entries(path if is_file else path.read_bytes()))
    first = reader["a"]
    first += 1
    assert first.flags.writeable and first.flags.c_contiguous
    np.testing.assert_array_equal(reader["a"], np.ones((2, 2)))
    assert list(reader) == ["a"] and len(reader) == 1


def test_writes_any_layout_as_float32(path):
    tensor = np.arange(6, dtype=np.float64).reshape(2, 3).T
    write(path, {"a": tensor})
    np.testing.assert_array_equal(read(path)["a"], tensor)


def test_transformers_finds_its_metadata(path):
    write(path, {"a": np.ones(3, np.float32)})
    with safetensors.safe_open(path, "pt") as opened:
        assert opened.metadata() == {"format": "pt"}


def test_other_dtypes_are_listed(path):
    save_file({"ids": torch.arange(3)}, path)
    entries = read_entries(path)
    assert entries["ids"].dtype == "I64"
    assert entries["ids"].shape == (3,)


def test_each_tensor_is_made_once(path):
    made = []

    def make(name):
        made.append(name)
        return np.ones(2, np.float32)

    sizes = {"a": (2,), "b": (2,)}
    write_tensors(path, sizes, OnDemand(sizes, make))
    assert made == ["a", "b"]


# Errors


def test_refuses_to_write_the_wrong_shape(tmp_path):
    tensors = {"a": np.ones((2, 3), np.float32)}
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match=r"tensor a has the shape \(2, 3\).*\(3, 2\)"):
        write_tensors(path, {"a": (3, 2)}, tensors)
    with pytest.raises(ValueError, match="no tensor b"):
        write_tensors(path, {"a": (2, 3), "b": (1,)}, tensors)
    assert not path.exists()


@given(st.integers(0, 171))
def test_a_file_cut_short_is_corrupt(path, length):
    tensors = {"a": np.ones((2, 3), np.float32), "b": np.ones(4, np.float32)}
    write(path, tensors)
    data = path.read_bytes()
    assert len(data) > 171
    path.write_bytes(data[:length])
    for source in (path, data[:length]):
        with pytest.raises(ValueError, match="not a valid safetensors file"):
            read_entries(source)


def test_a_file_too_long_is_corrupt(path):
    write(path, {"a": np.ones(3, np.float32)})
    data = path.read_bytes() + b"x"
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(ValueError, match="not a valid safetensors file"):
            read_entries(source)


def test_a_file_cut_after_it_was_opened(path):
    write(path, {"a": np.ones(3, np.float32)})
    reader = read_tensors(read_entries(path))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"a\.safetensors' is not a valid"):
        reader["a"]


@pytest.mark.parametrize(
    "data", [b"PK\x03\x04" + bytes(100), b"\x02" + bytes(7) + b"[]"]
)
def test_what_is_no_safetensors_file(path, data):
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.safetensors' is not a valid"):
        read_entries(path)
    with pytest.raises(ValueError, match="The serialized encoder is not a valid"):
        read_entries(data)


def test_an_absent_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.safetensors"):
        read_entries(tmp_path / "absent.safetensors")


def test_all_tensors_are_of_one_file(path):
    """Where another one takes its place while they are read, as when a pipeline is
    saved and loaded at once.
    """
    names = ["a", "b"]
    write(path, {name: np.zeros(3, np.float32) for name in names})
    tensors = read_tensors(read_entries(path))
    assert not tensors["a"].any()
    other = path.with_name("other.safetensors")
    write(other, {name: np.ones(3, np.float32) for name in names})
    other.replace(path)
    assert not tensors["b"].any()
    assert all(tensor.all() for tensor in read(path).values())


def test_a_disk_that_is_full(path):
    script = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from spacy_modernbert.encoder.tensor_files import write_tensors
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_tensors(Path(sys.argv[1]), {"a": (9999,)}, {"a": np.ones(9999, np.float32)})
except OSError as error:
    assert "cannot be written" in str(error), error
else:
    raise AssertionError
"""
    if not hasattr(signal, "SIGXFSZ"):
        pytest.skip("limits the size of files as POSIX systems can")
    run_script(script, path)
