"""An encoder as files of ONNX: the graph, and beside it the weights.

The weights are in a file of their own, whatever their size: a graph alone may have 2
GiB at most, and one tensor after the other needs no memory for all of them.
"""

from pathlib import Path
from typing import Mapping, Optional

import numpy as np
import onnx
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic

from ..types import Floats
from .config import ModernBertConfig
from .onnx_graph import WEIGHTS, build_graph

MODEL = "model.onnx"

# Where a tensor may start, so that it can be mapped into memory.
_ALIGNMENT = 4096


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
    bits (Optional[int]): 8 for weights of 8 bits, by ONNX Runtime's own dynamic
        quantization. None for float32.
    RETURNS (Path): The graph. Its weights are in the same folder.
    """
    path = folder / MODEL
    if bits is None:
        _write_float32(path, config, tensors)
        return path
    exact = folder / "float32"
    exact.mkdir()
    _write_float32(exact / MODEL, config, tensors)
    _quantize(exact / MODEL, path)
    for file in exact.iterdir():
        file.unlink()
    exact.rmdir()
    return path


def _write_float32(
    path: Path, config: ModernBertConfig, tensors: Mapping[str, Floats]
) -> None:
    model = build_graph(config, "float32")
    # What quantizing warns of where it is missing: there is nothing to prepare.
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    with open(path.with_name(WEIGHTS), "wb") as stream:
        for tensor in model.graph.initializer:
            if tensor.data_location != TensorProto.EXTERNAL:
                continue
            stream.write(b"\0" * (-stream.tell() % _ALIGNMENT))
            weights = np.ascontiguousarray(tensors[tensor.name], dtype="<f4")
            tensor.external_data.add(key="offset", value=str(stream.tell()))
            tensor.external_data.add(key="length", value=str(weights.nbytes))
            stream.write(weights.data.cast("B"))
    onnx.save(model, path)


def _quantize(source: Path, target: Path) -> None:
    """Weights of projections are quantized by output, the table of embeddings as a
    whole, and what enters a projection when it is computed, by the range that it has.
    """
    # Of unsigned weights and activations, no sum overflows. With signed weights some
    # do, where the processor has no instructions for it (AVX2):
    # https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=["MatMul", "Gather"],
        weight_type=QuantType.QUInt8,
        per_channel=True,
        use_external_data_format=True,
        # What the operators of ONNX Runtime give, whose types onnx cannot infer.
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )
    # The quantizer lets nobody else read the weights.
    target.with_name(WEIGHTS).chmod(target.stat().st_mode)
