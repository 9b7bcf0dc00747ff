"""The safetensors format, read and written one tensor at a time.

A file is eight bytes with the length of the header, the header (JSON: for each
tensor its dtype, shape and place), and the tensors' bytes end to end
(https://github.com/huggingface/safetensors#format). The safetensors library copies
every tensor on its way in and out, and cannot hand bfloat16 to NumPy; here a tensor
goes straight from the file into its array, and straight from its array into the
file. A file is read, not mapped: mapped pages would count as resident memory beside
the arrays they are copied to, and on Windows would keep the file from being replaced.
"""

import io
import json
import math
import struct
import sys
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import (
    Any,
    BinaryIO,
    Callable,
    Collection,
    Dict,
    Iterator,
    Mapping,
    NoReturn,
    Tuple,
    Union,
)

import numpy as np
import numpy.typing as npt

from ..checks import is_int
from ..errors import Errors
from ..types import Floats

Words = npt.NDArray[np.uint32]
Shape = Tuple[int, ...]
Source = Union[Path, bytes]

# The dtypes that can be read, and what NumPy reads them as. It has no bfloat16,
# which is the upper half of a float32.
FLOAT_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}

# Words of 32 bits, into which quantized weights are packed.
WORDS_DTYPE = "U32"
_NUMPY_DTYPES = {**FLOAT_DTYPES, WORDS_DTYPE: "<u4"}

# The longest header that the safetensors library accepts.
_MAX_HEADER = 100_000_000

# Elements converted at a time, so that reading a tensor costs no second one.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor stands.

    source (Source): The file, or the bytes of one.
    dtype (str): As the format calls it: "F32", "BF16" ...
    shape (Shape): The shape.
    offset (int): Where its bytes start, from the start of the source.

    Invariant: when it was made, the source held the tensor's bytes from `offset` on.
    """

    source: Source
    dtype: str
    shape: Shape
    offset: int


class OnDemand(Mapping[str, Floats]):
    """Tensors that are made when they are asked for, each time again."""

    def __init__(self, names: Collection[str], make: Callable[[str], Floats]):
        """names (Collection[str]): Their names, in order.
        make (Callable[[str], Floats]): Makes one of them.
        """
        self._names = names
        self._make = make

    def __getitem__(self, name: str) -> Floats:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_tensors(entries: Mapping[str, TensorEntry]) -> OnDemand:
    """Tensors in files, each read when it is asked for.

    Every access reads the tensor again, as a float32 array that is the caller's own:
    C-contiguous, writable, and referred to by nothing else. So the weights may be
    put to use without a copy, and reading a whole checkpoint costs no more memory
    than the weights. The files must not change while the tensors are in use.

    entries (Mapping[str, TensorEntry]): Where each tensor stands.
    RETURNS (OnDemand): The tensors.
    """
    return OnDemand(entries, lambda name: read_floats(entries[name], name))


def read_floats(entry: TensorEntry, name: str) -> Floats:
    """RETURNS (Floats): The tensor of an entry of floats, as float32."""
    with _open(entry.source) as stream:
        stream.seek(entry.offset)
        return _read_floats(stream, entry, name)


def read_words(entry: TensorEntry, name: str) -> Words:
    """RETURNS (Words): The tensor of an entry of words."""
    words = np.empty(entry.shape, "<u4")
    with _open(entry.source) as stream:
        stream.seek(entry.offset)
        _read_into(stream, words.reshape(-1), entry.source, name)
    return words.astype(np.uint32, copy=False)


def read_entries(source: Source) -> Dict[str, TensorEntry]:
    """The table of contents of a safetensors file.

    source (Source): The file, or its bytes.
    RETURNS (Dict[str, TensorEntry]): Where each tensor stands, by name.
    RAISES (ValueError): If the file is corrupt or cut short.
    """
    with _open(source) as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        start, header = _read_header(stream, source, size)
    entries = {}
    ends = []
    for name, info in header.items():
        if name != "__metadata__":
            begin, end = _check_info(source, name, info)
            ends.append((begin, end, name))
            entries[name] = TensorEntry(
                source, info["dtype"], tuple(info["shape"]), start + begin
            )
    # The tensors must fill the file, without gap or overlap.
    position = 0
    for begin, end, name in sorted(ends):
        if begin != position:
            _corrupt(source, f"tensor {name} does not start where the last one ends")
        position = end
    if start + position != size:
        _corrupt(source, f"it should have {start + position} bytes and has {size}")
    return entries


def write_tensors(
    stream: BinaryIO,
    shapes: Mapping[str, Shape],
    tensors: Mapping[str, npt.NDArray[Any]],
    *,
    dtype: str = "F32",
    words: Collection[str] = (),
    layout: str = "pt",
) -> None:
    """Write a safetensors file, one tensor after the other.

    stream (BinaryIO): Where to write.
    shapes (Mapping[str, Shape]): What to write, in this order.
    tensors (Mapping[str, NDArray]): The tensors, each asked for once. Not copied if
        they are C-contiguous and of the type that is written.
    dtype (str): What floats are written as, "F32" or "F16".
    words (Collection[str]): The names of those that are words, not floats.
    layout (str): Which framework's layout the file has, "pt" or "mlx": transformers
        refuses one that does not say.
    RAISES (ValueError): If a tensor is missing or has another shape.
    """
    dtypes = {name: WORDS_DTYPE if name in words else dtype for name in shapes}
    names = set(tensors)  # `in` may make the tensor that it looks for
    stream.write(_make_header(shapes, dtypes, layout))
    for name, shape in shapes.items():
        if name not in names:
            raise ValueError(Errors.TENSORS_INCOMPLETE.format(name=name))
        tensor = np.asarray(tensors[name])
        if tensor.shape != tuple(shape):
            raise ValueError(
                Errors.TENSORS_BAD_SHAPE.format(
                    name=name, found=tensor.shape, wanted=tuple(shape)
                )
            )
        kind = _NUMPY_DTYPES[dtypes[name]]
        stream.write(np.ascontiguousarray(tensor, kind).data.cast("B"))


def _make_header(
    shapes: Mapping[str, Shape], dtypes: Mapping[str, str], layout: str
) -> bytes:
    header: Dict[str, Any] = {"__metadata__": {"format": layout}}
    position = 0
    for name, shape in shapes.items():
        end = position + np.dtype(_NUMPY_DTYPES[dtypes[name]]).itemsize * math.prod(
            shape
        )
        header[name] = {
            "dtype": dtypes[name],
            "shape": list(shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":")).encode("utf8")
    text += b" " * (-len(text) % 8)  # so that the tensors are aligned
    return struct.pack("<Q", len(text)) + text


def _open(source: Source) -> BufferedIOBase:
    if isinstance(source, bytes):
        return io.BytesIO(source)  # shares the bytes
    return open(source, "rb")


def _read_header(
    stream: BufferedIOBase, source: Source, size: int
) -> Tuple[int, Dict[str, Any]]:
    if size < 8:
        _corrupt(source, f"it has {size} bytes, fewer than the length of its header")
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > min(size - 8, _MAX_HEADER):
        _corrupt(source, f"its header should have {length} bytes, the file has {size}")
    try:
        header = json.loads(stream.read(length).decode("utf8"))
    except (ValueError, RecursionError):
        _corrupt(source, "its header is not JSON")
    if not isinstance(header, dict):
        _corrupt(source, "its header is not a JSON object")
    return 8 + length, header


def _check_info(source: Source, name: str, info: Any) -> Tuple[int, int]:
    """RETURNS (Tuple[int, int]): Where the tensor begins and ends."""
    if not isinstance(info, dict) or not isinstance(info.get("dtype"), str):
        _corrupt(source, f"its header has no dtype for tensor {name}")
    shape: Any = info.get("shape")
    offsets: Any = info.get("data_offsets")
    placed = _are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2
    if not placed or offsets[0] > offsets[1]:
        _corrupt(source, f"its header has no shape or no place for tensor {name}")
    begin, end = offsets
    n_bytes = end - begin
    if info["dtype"] in _NUMPY_DTYPES:
        dtype = np.dtype(_NUMPY_DTYPES[info["dtype"]])
        if n_bytes != math.prod(shape) * dtype.itemsize:
            _corrupt(source, f"tensor {name} has {n_bytes} bytes for shape {shape}")
    return begin, end


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(
        is_int(value) and value >= 0 for value in values
    )


def _read_floats(stream: BufferedIOBase, entry: TensorEntry, name: str) -> Floats:
    """The tensor at which the stream stands, as float32."""
    array = np.empty(entry.shape, np.float32)
    flat = array.reshape(-1)
    if entry.dtype == "F32" and sys.byteorder == "little":
        _read_into(stream, flat, entry.source, name)
        return array
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        raw = np.empty(part.shape, FLOAT_DTYPES[entry.dtype])
        _read_into(stream, raw, entry.source, name)
        if entry.dtype == "BF16":
            np.left_shift(raw, 16, out=part.view(np.uint32), dtype=np.uint32)
        else:
            part[:] = raw
    return array


def _read_into(
    stream: BufferedIOBase, array: npt.NDArray[Any], source: Source, name: str
) -> None:
    # A file may have been cut since its header was read.
    if stream.readinto(array.data.cast("B")) != array.nbytes:
        _corrupt(source, f"it ends inside tensor {name}")


def _corrupt(source: Source, why: str) -> NoReturn:
    raise ValueError(Errors.TENSORS_CORRUPT.format(where=describe(source), why=why))


def describe(source: Source) -> str:
    """RETURNS (str): What messages call a source."""
    return "The serialized encoder" if isinstance(source, bytes) else f"'{source}'"
