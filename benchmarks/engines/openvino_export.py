"""transformers' dense model, converted to OpenVINO: the strongest peer on CPU."""

import os
from pathlib import Path
from typing import Any, List, Sequence

from spacy_modernbert.encoder.telemetry import import_openvino
from spacy_modernbert.types import Floats

from ..documents import Ids
from ..points import Peer, Unavailable
from . import Encode

_HINTS = {"float32": "f32", "bfloat16": "bf16"}


def make(peer: Peer, folder: Path, threads: int) -> Encode:
    try:
        openvino = import_openvino()
    except ImportError as error:
        raise Unavailable("openvino is not installed") from error
    core = openvino.Core()
    model = core.read_model(export(folder))
    compiled = core.compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": _HINTS[peer.precision],
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            # As in our own encoder: the process is bound to its cores already.
            "ENABLE_CPU_PINNING": False,
        },
    )
    taken = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if taken != _HINTS[peer.precision]:
        raise Unavailable(
            f"OpenVINO takes {taken} on this processor, whatever is asked"
        )
    request = compiled.create_infer_request()

    def encode(documents: Sequence[Ids]) -> List[Floats]:
        found: List[Floats] = []
        for ids in documents:
            request.infer([ids[None]])
            # A copy: the next document is written to the same place.
            found.append(request.get_output_tensor(0).data[0].copy())
        return found

    return encode


def export(folder: Path) -> Path:
    """RETURNS (Path): The exported model, beside the checkpoint. Made if not there."""
    path = folder.with_name(f"{folder.name}.openvino") / "model.xml"
    if not path.is_file():
        fresh = path.parent.with_suffix(f".{os.getpid()}")
        fresh.mkdir(parents=True)
        _convert(folder, fresh / path.name)
        fresh.rename(path.parent)
    return path


def _convert(folder: Path, path: Path) -> None:
    import torch

    from .dense_graph import load_dense_graph, traced_input

    openvino = import_openvino()
    graph = load_dense_graph(folder, additive=False)
    with torch.no_grad():
        model: Any = openvino.convert_model(graph, example_input=traced_input(graph))
    model.reshape({0: [1, -1]})
    openvino.save_model(model, path, compress_to_fp16=False)
