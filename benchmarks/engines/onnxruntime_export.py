"""transformers' dense model, exported to ONNX and run by ONNX Runtime."""

import os
import warnings
from pathlib import Path
from typing import List, Sequence

# Before ONNX Runtime is imported.
from spacy_modernbert.encoder import telemetry  # noqa: F401
from spacy_modernbert.types import Floats

from ..documents import Ids
from ..points import Peer, Unavailable
from . import Encode

_OPSET = 17


def make(peer: Peer, folder: Path, threads: int) -> Encode:
    try:
        import onnx  # noqa: F401  (the exporter needs it)
        import onnxruntime
    except ImportError as error:
        raise Unavailable(f"{error.name} is not installed") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    path = export(folder)
    if peer.precision == "int8":
        path = quantize(path)
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )

    def encode(documents: Sequence[Ids]) -> List[Floats]:
        return [session.run(None, {"ids": ids[None]})[0][0] for ids in documents]

    return encode


def export(folder: Path) -> Path:
    """RETURNS (Path): The exported model, beside the checkpoint. Made if not there."""
    path = folder.with_name(f"{folder.name}.onnx")
    if not path.is_file():
        fresh = path.with_suffix(f".{os.getpid()}.onnx")
        _convert(folder, fresh)
        fresh.rename(path)
    return path


def quantize(path: Path) -> Path:
    """RETURNS (Path): The model with 8-bit weights, by ONNX Runtime's own dynamic
    quantization, beside the other. Made if not there.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantized = path.with_suffix(".int8.onnx")
    if not quantized.is_file():
        fresh = path.with_suffix(f".int8.{os.getpid()}.onnx")
        quantize_dynamic(path, fresh, per_channel=True, weight_type=QuantType.QInt8)
        fresh.rename(quantized)
    return quantized


def _convert(folder: Path, path: Path) -> None:
    import torch

    from .dense_graph import load_dense_graph, traced_input

    graph = load_dense_graph(folder, additive=True)
    dynamic = {"ids": {1: "length"}, "hidden": {1: "length"}}
    with torch.no_grad(), warnings.catch_warnings():
        # That it is the older of torch's exporters, which needs no further package.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            (traced_input(graph),),
            path,
            input_names=["ids"],
            output_names=["hidden"],
            dynamic_axes=dynamic,
            opset_version=_OPSET,
            dynamo=False,
        )
