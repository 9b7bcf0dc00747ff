"""`python -m spacy modernbert info`: what is here, and what is picked of it."""

import importlib.metadata
import math
import os
import platform
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import typer
from spacy.util import get_package_path, is_package, load_config
from wasabi import msg

from ..encoder.availability import (
    BACKENDS,
    PREDICTING,
    choose,
    find_memory,
    look_for,
)
from ..encoder.backend import BACKEND_VARIABLE, resolve_backend, resolve_precision
from ..encoder.checkpoint import load_config as load_encoder_config
from ..encoder.checkpoint import open_tensors
from ..encoder.config import ModernBertConfig
from ..encoder.quantize import QuantizedTensors
from ..encoder.weights import expected_shapes
from ..errors import Errors

_LIBRARIES = (
    "spacy-modernbert",
    "spacy",
    "thinc",
    "torch",
    "numba",
    "openvino",
    "onnxruntime",
    "mlx",
    "flash-attn",
    "spacy-transformers",
)
_ARCHITECTURES = "spacy-modernbert."


def info(
    pipeline: Optional[str] = typer.Argument(
        None, help="Folder or package of a pipeline, to see what its encoders run on"
    ),
) -> None:
    """Print which backends can run here and which "auto" takes, with the device, the
    precision and the memory; and for what is missing, the command that installs it.
    """
    try:
        _print_machine()
        if pipeline is not None:
            _print_pipeline(_find(pipeline))
    except (OSError, ValueError) as error:
        msg.fail(str(error), exits=1)


def _print_machine() -> None:
    msg.divider("Versions")
    msg.table(
        {
            "Python": f"{platform.python_version()}, {platform.platform()}",
            **{name: _version(name) for name in _LIBRARIES},
        }
    )
    msg.divider("Backends")
    msg.table(
        [_row(backend) for backend in BACKENDS if backend != "auto"],
        header=("backend", "device", "memory", "precision", "trains"),
        divider=True,
    )
    for backend in BACKENDS:
        missing = "" if backend == "auto" else look_for(backend).missing
        if missing:
            msg.text(f"{backend}: {missing}")
    msg.divider("What auto takes")
    for purpose, to_train in (("to predict", False), ("to train", True)):
        choice = choose(to_train=to_train)
        msg.text(f"{purpose}: {choice.backend}, since {choice.why}.")
    if os.environ.get(BACKEND_VARIABLE):
        msg.warn(
            f"{BACKEND_VARIABLE} is {os.environ[BACKEND_VARIABLE]!r}, and wins over "
            "every config."
        )
    _print_decoder()


def _row(backend: str) -> Tuple[str, str, str, str, str]:
    device = look_for(backend).device
    if not device:
        return backend, "-", "-", "-", "-"
    trains = "no" if backend in PREDICTING else "yes"
    precision = resolve_precision("auto", backend)
    return backend, device, find_memory(backend), precision, trains


def _print_decoder() -> None:
    msg.divider("Decoder of modernbert_ner")
    if _version("numba") == "-":
        msg.text(
            "spaCy's own. The compiled one is many times as quick: "
            "pip install 'spacy-modernbert[fast]'"
        )
    else:
        msg.text("compiled with Numba")


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def _find(pipeline: str) -> Path:
    if is_package(pipeline):
        root = get_package_path(pipeline)
        found = sorted(root.glob("*/config.cfg"))
        folder = found[0].parent if found else root
    else:
        folder = Path(pipeline)
    if not (folder / "config.cfg").is_file():
        raise ValueError(Errors.NO_PIPELINE.format(value=pipeline))
    return folder


def _print_pipeline(folder: Path) -> None:
    config = load_config(folder / "config.cfg")
    found = list(_find_architectures(config.get("components", {})))
    msg.divider(f"Pipeline {folder}")
    if not found:
        msg.warn("None of its components has an encoder of this package.")
    for component, settings in found:
        msg.table(
            {
                "component": component,
                **_describe_encoder(folder / component / "encoder"),
                **_describe_settings(settings),
            }
        )


def _find_architectures(
    components: Dict[str, Any],
) -> Iterator[Tuple[str, Dict[str, Any]]]:
    for name, component in components.items():
        blocks: List[Any] = [component]
        while blocks:
            block = blocks.pop()
            if str(block.get("@architectures", "")).startswith(_ARCHITECTURES):
                yield name, block
            blocks.extend(each for each in block.values() if isinstance(each, dict))


def _describe_encoder(folder: Path) -> Dict[str, str]:
    if not folder.is_dir():
        return {"encoder": "within the bytes of the component"}
    config = load_encoder_config(folder)
    n_weights = sum(map(math.prod, expected_shapes(config).values()))
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {
        "encoder": f"{config.num_hidden_layers} layers, {config.hidden_size} wide, "
        f"{config.vocab_size:,} wordpieces",
        "weights": f"{n_weights:,}{_describe_quantization(folder, config)}",
        "on disk": f"{size / 1e6:,.1f} MB",
    }


def _describe_quantization(folder: Path, config: ModernBertConfig) -> str:
    tensors = open_tensors(folder, config)  # reads headers only
    if not isinstance(tensors, QuantizedTensors):
        return ""
    bits = sorted({scheme.bits for scheme in tensors.schemes.values()})
    return f", quantized to {', '.join(map(str, bits))} bits"


def _describe_settings(settings: Dict[str, Any]) -> Dict[str, str]:
    backend = settings.get("backend", "auto")
    precision = settings.get("precision", "auto")
    runs_on = resolve_backend(backend, to_train=False)
    spans = settings.get("get_spans", {})
    return {
        "backend": f"{backend}, which is {runs_on} here",
        "precision": f"{precision}, which is {resolve_precision(precision, runs_on)}",
        "quantization": str(settings.get("quantization")),
        "window": f"{spans.get('window', '-')} wordpieces, "
        f"{spans.get('overlap', '-')} shared",
        "a pass holds": f"{settings.get('max_batch_wordpieces', '-')} wordpieces",
    }
