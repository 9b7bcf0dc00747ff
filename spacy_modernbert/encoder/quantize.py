"""Weights of 8 bits or fewer, in the layout in which MLX checkpoints are published.

A row of a weight is cut into groups. In a group, each number w is kept as an integer q
of a few bits, such that `w = scale * q + bias` as nearly as can be. Three tensors take
the place of `X.weight`:

    X.weight  (rows, width * bits / 32) uint32, the integers, from low bits to high
    X.scales  (rows, width / group_size), a number for each group
    X.biases  (rows, width / group_size), likewise (`X.bias` is something else)

The oracle is MLX (`mx.quantize`, mode "affine"), and the results are the same to the
bit. Nothing here needs MLX, so that any backend can use such a checkpoint.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple

import numpy as np
import numpy.typing as npt

from ..errors import Errors
from ..types import Floats
from .tensor_files import (
    FLOAT_DTYPES,
    WORDS_DTYPE,
    OnDemand,
    Shape,
    TensorEntry,
    Words,
    read_tensors,
)
from .weights import HEAD_PREFIX

BITS = (2, 3, 4, 5, 6, 8)
GROUP_SIZES = (32, 64, 128)

# Where none is named, as in MLX.
DEFAULT_GROUP_SIZE = 64

# Rows are worked on so many numbers at a time, each of which is a uint64 meanwhile.
_CHUNK = 1 << 20

# That of MLX, whose checkpoints are all of a model with a head.
MLX_LAYOUT = "mlx"


@dataclass(frozen=True)
class Scheme:
    """How a weight is quantized.

    bits (int): Of an integer.
    group_size (int): Neighbours in a row that share a scale and a bias.

    RAISES (ValueError): If MLX does not have it.
    """

    bits: int
    group_size: int

    def __post_init__(self) -> None:
        if self.bits not in BITS or self.group_size not in GROUP_SIZES:
            raise ValueError(
                Errors.BAD_SCHEME.format(bits=self.bits, group_size=self.group_size)
            )

    def fits(self, shape: Shape) -> bool:
        """RETURNS (bool): Whether a tensor of some shape can be quantized."""
        return len(shape) == 2 and shape[1] % self.group_size == 0

    def stored_shapes(self, shape: Shape) -> Tuple[Shape, Shape]:
        """RETURNS (Tuple[Shape, Shape]): Of a weight of some shape that fits, the shape
        of the packed integers, and that of the scales and of the biases.
        """
        rows, width = shape
        return (rows, width * self.bits // 32), (rows, width // self.group_size)


@dataclass(frozen=True)
class QuantizedTensor:
    """A quantized weight.

    words (Words): `(rows, width * bits / 32)` uint32, the packed integers.
    scales, biases (Floats): `(rows, width / group_size)` float32.
    scheme (Scheme): How it is quantized.
    """

    words: Words
    scales: Floats
    biases: Floats
    scheme: Scheme

    def dequantize(self) -> Floats:
        """RETURNS (Floats): `(rows, width)` float32, the weight that it stands for."""
        rows, n_groups = self.scales.shape
        width = n_groups * self.scheme.group_size
        weights = np.empty((rows, width), np.float32)
        for part in _row_chunks(rows, width):
            integers = _unpack(self.words[part], self.scheme.bits)
            grouped = integers.reshape(-1, n_groups, self.scheme.group_size)
            scaled = grouped.astype(np.float32) * self.scales[part, :, None]
            scaled += self.biases[part, :, None]
            weights[part] = scaled.reshape(-1, width)
        return weights


def quantize(weights: Floats, scheme: Scheme) -> QuantizedTensor:
    """Quantize a weight.

    weights (Floats): `(rows, width)` float32, of a shape that fits the scheme.
    scheme (Scheme): How.
    RETURNS (QuantizedTensor): The quantized weight.
    """
    rows, width = weights.shape
    words_shape, scales_shape = scheme.stored_shapes((rows, width))
    words = np.empty(words_shape, np.uint32)
    scales = np.empty(scales_shape, np.float32)
    biases = np.empty(scales_shape, np.float32)
    for part in _row_chunks(rows, width):
        grouped = weights[part].reshape(-1, scales_shape[1], scheme.group_size)
        scales[part], biases[part] = _fit(grouped, scheme.bits)
        scaled = (grouped - biases[part, :, None]) / scales[part, :, None]
        largest = 2**scheme.bits - 1
        integers = np.clip(np.rint(scaled), 0, largest).astype(np.uint64)
        words[part] = _pack(integers.reshape(-1, width), scheme.bits)
    return QuantizedTensor(words, scales, biases, scheme)


def _fit(grouped: Floats, bits: int) -> Tuple[Floats, Floats]:
    """The scale and the bias of each group, such that the end that is farther from 0 is
    met exactly, and 0 too if it is inside: weights that are 0 stay so.

    grouped (Floats): `(rows, n_groups, group_size)`.
    RETURNS (Tuple[Floats, Floats]): Each `(rows, n_groups)`.
    """
    low, high = grouped.min(axis=-1), grouped.max(axis=-1)
    step = np.maximum((high - low) / np.float32(2**bits - 1), np.float32(1e-7))
    from_low = np.abs(low) > np.abs(high)
    edge = np.where(from_low, low, high)
    scale = np.where(from_low, step, -step)
    n_steps = np.rint(edge / scale)
    is_near_zero = n_steps == 0
    scale = np.where(is_near_zero, scale, edge / np.where(is_near_zero, 1, n_steps))
    return scale, np.where(is_near_zero, np.float32(0), edge)


# Eight integers fill as many bytes as each has bits, whatever that is.


def _pack(integers: npt.NDArray[np.uint64], bits: int) -> Words:
    rows = integers.shape[0]
    shifts = np.arange(8, dtype=np.uint64) * np.uint64(bits)
    eights = (integers.reshape(rows, -1, 8) << shifts).sum(axis=-1, dtype=np.uint64)
    as_bytes = eights.astype("<u8").view(np.uint8).reshape(rows, -1, 8)[:, :, :bits]
    packed = np.ascontiguousarray(as_bytes).reshape(rows, -1)
    return packed.view("<u4").astype(np.uint32, copy=False)


def _unpack(words: Words, bits: int) -> npt.NDArray[np.uint64]:
    rows = words.shape[0]
    as_bytes = words.astype("<u4", copy=False).view(np.uint8).reshape(rows, -1, bits)
    eights = np.zeros((*as_bytes.shape[:2], 8), np.uint8)
    eights[:, :, :bits] = as_bytes
    shifts = np.arange(8, dtype=np.uint64) * np.uint64(bits)
    return (eights.view("<u8") >> shifts & np.uint64(2**bits - 1)).reshape(rows, -1)


def _row_chunks(rows: int, width: int) -> Iterator[slice]:
    step = max(1, _CHUNK // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, start + step)


class QuantizedTensors(OnDemand):
    """The tensors of an encoder, some of them quantized.

    As a mapping it has all of them in float32, each made when it is asked for: a
    backend without quantized weights needs to know nothing of this class.

    schemes (Mapping[str, Scheme]): How each quantized one is quantized.
    """

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        schemes: Mapping[str, Scheme],
        quantized: Callable[[str], QuantizedTensor],
        plain: Callable[[str], Floats],
    ):
        """shapes (Mapping[str, Shape]): The shapes of all, in order.
        schemes (Mapping[str, Scheme]): How each quantized one is quantized.
        quantized (Callable[[str], QuantizedTensor]): Gives one of these, as it is.
        plain (Callable[[str], Floats]): Gives one of the others.
        """
        super().__init__(shapes, plain)
        self.shapes = shapes
        self.schemes = schemes
        self.quantized = quantized

    def __getitem__(self, name: str) -> Floats:
        if name in self.schemes:
            return self.quantized(name).dequantize()
        return super().__getitem__(name)


def choose_schemes(shapes: Mapping[str, Shape], scheme: Scheme) -> Dict[str, Scheme]:
    """Which weights to quantize: as MLX does, all whose rows are whole groups, of
    projections and of the embeddings.

    shapes (Mapping[str, Shape]): The tensors.
    scheme (Scheme): How.
    RETURNS (Dict[str, Scheme]): The scheme, for each of them.
    RAISES (ValueError): If it fits none.
    """
    schemes = {name: scheme for name, shape in shapes.items() if scheme.fits(shape)}
    if not schemes:
        raise ValueError(Errors.SCHEME_FITS_NONE.format(group_size=scheme.group_size))
    return schemes


def quantize_tensors(
    tensors: Mapping[str, Floats], shapes: Mapping[str, Shape], scheme: Scheme
) -> QuantizedTensors:
    """Quantize the tensors of an encoder.

    tensors (Mapping[str, Floats]): The tensors. What is quantized in this way already
        stays as it is, and what is in another way is quantized again.
    shapes (Mapping[str, Shape]): Their shapes.
    scheme (Scheme): How.
    RETURNS (QuantizedTensors): The same, quantized; each when it is asked for.
    RAISES (ValueError): If the scheme fits none of them.
    """

    def quantized(name: str) -> QuantizedTensor:
        if isinstance(tensors, QuantizedTensors) and (
            tensors.schemes.get(name) == scheme
        ):
            return tensors.quantized(name)
        return quantize(tensors[name], scheme)

    return QuantizedTensors(
        shapes,
        choose_schemes(shapes, scheme),
        quantized=quantized,
        plain=lambda name: tensors[name],
    )


# -- Files -------------------------------------------------------------------------


@dataclass(frozen=True)
class QuantizedEntry:
    """A quantized weight in a file.

    words, scales, biases (TensorEntry): Where its three tensors stand.
    scheme (Scheme): How it is quantized.
    """

    words: TensorEntry
    scales: TensorEntry
    biases: TensorEntry
    scheme: Scheme

    def read(self) -> QuantizedTensor:
        """RETURNS (QuantizedTensor): The weight."""
        return QuantizedTensor(
            self.words.read(), self.scales.read(), self.biases.read(), self.scheme
        )


def take_quantized(
    entries: Dict[str, TensorEntry], shapes: Mapping[str, Shape], where: str
) -> Dict[str, QuantizedEntry]:
    """Take the quantized weights out of the table of contents of a file.

    How each is quantized follows from its shapes alone. So config.json is not read: it
    gives exceptions for single layers, and other ways to quantize, under various names.

    entries (Dict[str, TensorEntry]): The table. What is taken is removed.
    shapes (Mapping[str, Shape]): The tensors that are asked for.
    where (str): What messages call the file.
    RETURNS (Dict[str, QuantizedEntry]): The quantized weights.
    RAISES (ValueError): If one is quantized in another way than the one read here.
    """
    found = {}
    for name, shape in shapes.items():
        if name in entries and entries[name].dtype == WORDS_DTYPE and len(shape) == 2:
            words = entries.pop(name)
            parts = []
            for part in part_names(name):
                entry = entries.pop(part, None)
                if entry is None or entry.dtype not in FLOAT_DTYPES:
                    raise ValueError(
                        Errors.QUANTIZED_OTHERWISE.format(
                            where=where, name=name, part=part
                        )
                    )
                parts.append(entry)
            scales, biases = parts
            scheme = _read_scheme(shape, words.shape, scales.shape)
            if scheme is None or biases.shape != scales.shape:
                raise ValueError(
                    Errors.QUANTIZED_BAD_SHAPE.format(
                        where=where,
                        name=name,
                        found=", ".join(
                            str(entry.shape) for entry in (words, scales, biases)
                        ),
                        wanted=shape,
                    )
                )
            found[name] = QuantizedEntry(words, scales, biases, scheme)
    return found


def open_quantized(
    entries: Mapping[str, TensorEntry],
    quantized: Mapping[str, QuantizedEntry],
    shapes: Mapping[str, Shape],
) -> QuantizedTensors:
    """RETURNS (QuantizedTensors): The tensors of a file, some of which are quantized.
    Each is read when it is asked for.
    """
    return QuantizedTensors(
        shapes,
        {name: entry.scheme for name, entry in quantized.items()},
        quantized=lambda name: quantized[name].read(),
        plain=read_tensors(entries).__getitem__,
    )


def stored_tensors(
    tensors: QuantizedTensors,
) -> Tuple[Dict[str, Shape], Dict[str, npt.NDArray[Any]]]:
    """Lay tensors out as they stand in a safetensors file of MLX.

    tensors (QuantizedTensors): The tensors, each asked for once.
    RETURNS (Tuple[Dict[str, Shape], Dict[str, NDArray]]): The shapes that there should
        be, and the arrays.
    """
    shapes: Dict[str, Shape] = {}
    arrays: Dict[str, npt.NDArray[Any]] = {}
    for name, shape in tensors.shapes.items():
        stored = HEAD_PREFIX + name
        if name in tensors.schemes:
            scales, biases = (HEAD_PREFIX + part for part in part_names(name))
            shapes[stored], shapes[scales] = tensors.schemes[name].stored_shapes(shape)
            shapes[biases] = shapes[scales]
            tensor = tensors.quantized(name)
            arrays[stored] = tensor.words
            arrays[scales], arrays[biases] = tensor.scales, tensor.biases
        else:
            shapes[stored], arrays[stored] = shape, tensors[name]
    return shapes, arrays


def describe_quantization(tensors: QuantizedTensors) -> Dict[str, Any]:
    """What MLX's loaders want to read of it in config.json.

    tensors (QuantizedTensors): The tensors.
    RETURNS (Dict[str, Any]): The most usual scheme; and for each weight that has
        another one, by the path of its module, that one, or False if it has none.
    """
    ((usual, _),) = Counter(tensors.schemes.values()).most_common(1)
    block: Dict[str, Any] = {**_describe_scheme(usual), "mode": "affine"}
    for name, shape in tensors.shapes.items():
        scheme = tensors.schemes.get(name)
        if scheme != usual and len(shape) == 2:
            path = (HEAD_PREFIX + name).removesuffix(".weight")
            block[path] = _describe_scheme(scheme) if scheme else False
    return block


def _describe_scheme(scheme: Scheme) -> Dict[str, int]:
    return {"group_size": scheme.group_size, "bits": scheme.bits}


def _read_scheme(shape: Shape, words: Shape, scales: Shape) -> Optional[Scheme]:
    """RETURNS (Optional[Scheme]): How a weight of some shape was quantized, if this
    gave integers and scales of these shapes; None if nothing gives such ones.
    """
    for bits in BITS:
        for group_size in GROUP_SIZES:
            scheme = Scheme(bits, group_size)
            if scheme.fits(shape) and scheme.stored_shapes(shape) == (words, scales):
                return scheme
    return None


def part_names(name: str) -> Tuple[str, str]:
    """RETURNS (Tuple[str, str]): What stands beside a weight if it is quantized."""
    path = name.removesuffix("weight")
    return f"{path}scales", f"{path}biases"
