"""Safetensors files, read one tensor at a time by the safetensors library.

NumPy has no bfloat16, so tensors come through torch. A file is read, not mapped: mapped
pages would count as resident memory beside the arrays that they are copied to.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import (
    Any,
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
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors_numpy

from ..errors import Errors
from ..types import Floats

Words = npt.NDArray[np.uint32]
Shape = Tuple[int, ...]
Source = Union[Path, bytes]

# The dtypes that are read as float32, as the format calls them.
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")
# Words of 32 bits, into which quantized weights are packed.
WORDS_DTYPE = "U32"

# Those that are written, and come in bytes.
_NUMPY_DTYPES = {"F32": np.float32, "F16": np.float16, WORDS_DTYPE: np.uint32}


@dataclass(frozen=True)
class TensorEntry:
    """A tensor in a file, or in the bytes of one.

    dtype (str): As the format calls it: "F32", "BF16" ...
    shape (Shape): The shape.
    read (Callable[[], NDArray]): Reads it, each time into an array that is the caller's
        own: C-contiguous, writable, and float32 if it holds floats. RAISES (ValueError)
        if the file has been damaged since.
    """

    dtype: str
    shape: Shape
    read: Callable[[], npt.NDArray[Any]]


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

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_entries(source: Source) -> Dict[str, TensorEntry]:
    """The table of contents of a safetensors file.

    source (Source): The file, or its bytes, as `to_bytes` makes them.
    RETURNS (Dict[str, TensorEntry]): The tensors in it, by name.
    RAISES (ValueError): If the file is corrupt or cut short.
    """
    if isinstance(source, bytes):
        return _read_bytes(source)
    # Open for as long as any of its tensors may be read: where another file takes its
    # place meanwhile, all of them are of this one.
    try:
        file = safe_open(source, framework="pt", backend="pread")
    except SafetensorError as error:
        _refuse(source, error)
    parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    return {
        name: TensorEntry(
            part.get_dtype(),
            tuple(part.get_shape()),
            partial(_read_tensor, file, source, name),
        )
        for name, part in parts.items()
    }


def read_tensors(entries: Mapping[str, TensorEntry]) -> OnDemand:
    """Tensors in files, each read when it is asked for, and each time again. So weights
    may be put to use without a copy, and reading a whole checkpoint costs no more
    memory than the weights. The files must not be written to while the tensors are in
    use; others may take their places.

    entries (Mapping[str, TensorEntry]): Where each tensor stands.
    RETURNS (OnDemand): The tensors.
    """
    return OnDemand(entries, lambda name: entries[name].read())


def write_tensors(
    path: Path,
    shapes: Mapping[str, Shape],
    tensors: Mapping[str, npt.NDArray[Any]],
    *,
    dtype: str = "F32",
    layout: str = "pt",
) -> None:
    """Write a safetensors file.

    path (Path): Where to write.
    shapes (Mapping[str, Shape]): What to write.
    tensors (Mapping[str, NDArray]): The tensors, each asked for once. Not copied if
        they are C-contiguous and of the type that is written. Those of uint32 are
        words, and the others floats.
    dtype (str): What floats are written as, "F32" or "F16".
    layout (str): Which framework's layout the file has, "pt" or "mlx": transformers
        refuses one that does not say.
    RAISES (ValueError): If a tensor is missing or has another shape.
    RAISES (OSError): If the file cannot be written.
    """
    arrays = _gather(shapes, tensors, dtype)
    try:
        safetensors_numpy.save_file(arrays, path, metadata={"format": layout})
    except SafetensorError as error:  # whatever the system says
        raise OSError(
            Errors.TENSORS_NOT_WRITTEN.format(path=path, why=error)
        ) from error


def to_bytes(
    shapes: Mapping[str, Shape],
    tensors: Mapping[str, npt.NDArray[Any]],
    *,
    layout: str = "pt",
) -> bytes:
    """RETURNS (bytes): What `write_tensors` writes to a file."""
    arrays = _gather(shapes, tensors, "F32")
    return safetensors_numpy.save(arrays, metadata={"format": layout})


def describe(source: Source) -> str:
    """RETURNS (str): What messages call a source."""
    return "The serialized encoder" if isinstance(source, bytes) else f"'{source}'"


def _gather(
    shapes: Mapping[str, Shape],
    tensors: Mapping[str, npt.NDArray[Any]],
    dtype: str,
) -> Dict[str, npt.NDArray[Any]]:
    arrays = {}
    for name, shape in shapes.items():
        if name not in tensors:
            raise ValueError(Errors.TENSORS_INCOMPLETE.format(name=name))
        tensor = np.asarray(tensors[name])
        if tensor.shape != tuple(shape):
            raise ValueError(
                Errors.TENSORS_BAD_SHAPE.format(
                    name=name, found=tensor.shape, wanted=tuple(shape)
                )
            )
        is_packed = tensor.dtype == _NUMPY_DTYPES[WORDS_DTYPE]
        kind = _NUMPY_DTYPES[WORDS_DTYPE if is_packed else dtype]
        arrays[name] = np.ascontiguousarray(tensor, kind)
    return arrays


def _read_bytes(data: bytes) -> Dict[str, TensorEntry]:
    try:
        arrays = safetensors_numpy.load(data)
    except (SafetensorError, KeyError) as error:  # KeyError: a dtype NumPy has not
        _refuse(data, error)
    names = {np.dtype(kind): name for name, kind in _NUMPY_DTYPES.items()}
    return {
        name: TensorEntry(
            names.get(array.dtype, str(array.dtype)), array.shape, partial(_own, array)
        )
        for name, array in arrays.items()
    }


def _read_tensor(file: safe_open, path: Path, name: str) -> npt.NDArray[Any]:
    try:
        tensor = file.get_tensor(name)
    except SafetensorError as error:
        _refuse(path, error)
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _own(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    is_float = np.issubdtype(array.dtype, np.floating)
    return array.astype(np.float32 if is_float else array.dtype)


def _refuse(source: Source, error: Exception) -> NoReturn:
    message = Errors.TENSORS_CORRUPT.format(where=describe(source), why=error)
    raise ValueError(message) from error
