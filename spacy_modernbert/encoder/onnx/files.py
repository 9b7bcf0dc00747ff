"""An encoder as files of ONNX: the graph, and beside it the weights.

The weights are in a file of their own, whatever their size: the file of a graph may
have 2 GiB at most, and weights that are written one by one need not be in memory all at
once.
"""

from pathlib import Path
from typing import Any, Iterable, Mapping, Optional, Tuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from ...types import Floats
from ..config import ModernBertConfig
from .graph import WEIGHTS, build_graph
from .quantized import quantize_graph, quantize_weights

MODEL = "model.onnx"

# Where a large tensor may start, so that it can be mapped into memory, and which are
# large: as ONNX Runtime writes them.
_ALIGNMENT = 4096
_LARGE = 1 << 20


def write_model(
    folder: Path,
    config: ModernBertConfig,
    tensors: Mapping[str, Floats],
    bits: Optional[int] = None,
) -> Path:
    """Write the files of an encoder.

    folder (Path): An empty folder.
    config (ModernBertConfig): The config.
    tensors (Mapping[str, Floats]): The weights, each asked for once.
    bits (Optional[int]): 8 for matrix products and an embedding table in 8 bits. None
        for float32.
    RETURNS (Path): The graph. Its weights are in the same folder.
    """
    model = build_graph(config, "float32")
    weights: Iterable[Tuple[str, npt.NDArray[Any]]] = tensors.items()
    if bits is not None:
        # Unsigned, since nobody knows what processor they are for.
        model = quantize_graph(model, is_signed=False)
        weights = quantize_weights(tensors, is_signed=False)
    path = folder / MODEL
    _write_weights(path.with_name(WEIGHTS), model, weights)
    onnx.save(model, path)
    return path


def _write_weights(
    path: Path,
    model: onnx.ModelProto,
    weights: Iterable[Tuple[str, npt.NDArray[Any]]],
) -> None:
    """Write the weights of a graph, and into the graph where each of them stands."""
    tensors = {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
    }
    with open(path, "wb") as stream:
        for name, array in weights:
            tensor = tensors[name]
            dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            array = np.ascontiguousarray(array, dtype=dtype.newbyteorder("<"))
            if array.nbytes >= _LARGE:
                stream.write(b"\0" * (-stream.tell() % _ALIGNMENT))
            tensor.external_data.add(key="offset", value=str(stream.tell()))
            tensor.external_data.add(key="length", value=str(array.nbytes))
            stream.write(array.data.cast("B"))
