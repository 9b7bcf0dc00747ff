"""`python -m spacy modernbert info`: what can run here, and what is chosen."""

import json
import os
import platform
import shutil
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import srsly
import typer
from spacy.util import get_package_version
from wasabi import msg

from ..components import import_compiled
from ..encoder.availability import (
    BACKENDS,
    PREDICTING,
    choose,
    find_memory,
    look_for,
    multiplies_bfloat16,
    multiplies_int8,
)
from ..encoder.backend import (
    BACKEND_VARIABLE,
    check_quantization,
    resolve_backend,
    resolve_precision,
    resolve_settings,
)
from ..encoder.checkpoint import CONFIG_FILE, check_is_no_run, open_tensors
from ..encoder.checkpoint import load_config as load_encoder_config
from ..encoder.config import ModernBertConfig
from ..encoder.quantize import QuantizedTensors
from ..encoder.sentences import resolve_pooling
from ..encoder.weights import count_weights
from ..errors import Errors, Missing
from ..layers.shim import read_encoder_config
from ..pipelines import (
    ENCODER_FOLDER,
    EncoderBlock,
    find_encoder_blocks,
    find_pipeline,
    read_pipeline_config,
)

# Each with the extra that installs it, where there is one.
_LIBRARIES = {
    "spacy-modernbert": "",
    "spacy": "",
    "thinc": "",
    "torch": "",
    "numba": "fast",
    "openvino": "openvino",
    "onnxruntime": "onnx",
    "onnx": "onnx",
    "mlx": "mlx",
    "triton": "",
    "flash-attn": "",
    "flash-attn-4": "",
    "spacy-transformers": "transformers",
    "pyarrow": "parquet",
}


def info(
    pipeline: Optional[str] = typer.Argument(
        None,
        help="Folder or package of a pipeline, to see what its encoders run on; or the "
        "folder of a checkpoint",
    ),
) -> None:
    """Print which backends can run here and which "auto" takes, with the device, the
    precision and the memory; and for what is missing, the command that installs it.
    """
    try:
        found = None if pipeline is None else _find(pipeline)
        _print_machine()
        _print_backends()
        _print_choice()
        if found is not None:
            found()
    except (OSError, ValueError) as error:
        msg.fail(str(error), exits=1)


def _print_machine() -> None:
    msg.divider("Machine")
    # What follows the comma is the processor.
    processor = look_for("cpu").device.partition(", ")[2]
    rows = {
        "system": platform.platform(terse=True),
        "processor": processor or platform.machine(),
        "multiplies": _describe_products(),
        "memory": find_memory("cpu"),
    }
    if look_for("cuda").device:
        rows["memory of the GPU"] = find_memory("cuda")
    _print_table(rows)
    msg.divider("Versions")
    _print_table(
        {
            "Python": platform.python_version(),
            **{name: _version(name, extra) for name, extra in _LIBRARIES.items()},
        }
    )


def _describe_products() -> str:
    natively = [
        name
        for name, is_native in (
            ("bfloat16", multiplies_bfloat16()),
            ("int8", multiplies_int8()),
        )
        if is_native
    ]
    return f"float32{''.join(f', {name}' for name in natively)} natively"


def _print_backends() -> None:
    msg.divider("Backends")
    msg.table(
        [_row(backend) for backend in BACKENDS if backend != "auto"],
        header=("backend", "device", "precision", "trains"),
        divider=True,
        max_col=48,
    )
    for backend in BACKENDS:
        missing = "" if backend == "auto" else look_for(backend).missing
        if missing:
            msg.text(f"{backend}: {missing}")
    _print_cuda()
    _print_onnx()
    msg.text(
        '8-bit weights, for predicting: quantization = {"bits": 8}. '
        + (
            "On this processor, torch multiplies them natively."
            if multiplies_int8()
            else "On this processor, torch does not: with it, they save no time."
        )
    )


def _row(backend: str) -> Tuple[str, str, str, str]:
    device = look_for(backend).device
    if not device:
        return backend, "-", "-", "-"
    if backend not in ("cuda", "mps"):
        device = device.partition(", ")[0]  # the processor is shown above
    trains = "no" if backend in PREDICTING else "yes"
    return backend, device, resolve_precision("auto", backend), trains


def _print_cuda() -> None:
    if not look_for("cuda").device:
        return
    import torch

    from ..encoder.torch.flash import find_flash_attention
    from ..encoder.torch.kernels import why_no_kernels

    reason = why_no_kernels()
    between = f"operations of torch, since {reason}" if reason else "kernels in Triton"
    msg.text(f"cuda: between matrix products, {between}.")
    width = 64  # of a head, as in every published encoder
    kernel = find_flash_attention(
        torch.device("cuda"), torch.bfloat16, width, to_train=False
    )
    name = f"flash attention of {kernel.name}" if kernel else "no flash attention"
    msg.text(f"cuda: {name} in half precision.")


def _print_onnx() -> None:
    if not look_for("onnx").device:
        return
    import onnxruntime

    providers = ", ".join(onnxruntime.get_available_providers())
    msg.text(f"onnx: ONNX Runtime has {providers}.")


def _print_choice() -> None:
    msg.divider("What auto takes")
    for purpose, to_train in (("to predict", False), ("to train", True)):
        choice = choose(to_train=to_train)
        precision = resolve_precision("auto", choice.backend)
        msg.text(f"{purpose}: {choice.backend} in {precision}, since {choice.why}.")
    quantization = {"bits": 8}
    backend = resolve_backend(
        "auto", to_train=False, quantization=quantization, heed_variable=False
    )
    msg.text(f"to predict with quantization = {json.dumps(quantization)}: {backend}.")
    variable = os.environ.get(BACKEND_VARIABLE)
    if variable:
        msg.warn(f"{BACKEND_VARIABLE} is {variable!r}, and wins over every config.")
    else:
        msg.text(f"{BACKEND_VARIABLE} is not set. It would win over every config.")
    msg.divider("Decoder of modernbert_ner")
    msg.text(_describe_decoder())


def _describe_decoder() -> str:
    if import_compiled("decoder"):
        return "compiled with Numba."
    # Where it is installed, but broken, a warning says so.
    advice = "" if get_package_version("numba") else f" {Missing.NUMBA}"
    return f"spaCy's own, many times slower than the compiled one.{advice}"


def _find(name: str) -> Callable[[], None]:
    """RETURNS (Callable[[], None]): Prints what there is of a name."""
    pipeline, folder = find_pipeline(name), Path(os.path.expanduser(name))
    if pipeline is not None:
        check_is_no_run(pipeline)
        return partial(_print_pipeline, pipeline)
    if (folder / CONFIG_FILE).is_file():
        return partial(_print_checkpoint, folder)
    raise ValueError(Errors.NO_PIPELINE_OR_CHECKPOINT.format(value=name))


def _print_checkpoint(folder: Path) -> None:
    msg.divider(f"Checkpoint {folder.name}")
    _print_table(_describe_checkpoint(load_encoder_config(folder), folder))


def _print_pipeline(folder: Path) -> None:
    msg.divider(f"Pipeline {folder.name}")
    config = read_pipeline_config(folder)
    blocks = find_encoder_blocks(config)
    if not blocks:
        msg.warn("None of its components has an encoder of this package.")
    for block in blocks:
        settings = config["components"][block.component]
        encoder = _find_encoder(folder / block.component)
        rows = {
            "component": block.component,
            **_describe_encoder(
                encoder, folder / block.component / ENCODER_FOLDER, block
            ),
            **_describe_settings(block),
        }
        if "set_doc_vector" in settings:
            rows["doc.vector"] = "set" if settings["set_doc_vector"] else "not set"
        rows["overridden by"] = f"{block.path}.*"
        _print_table(rows)


def _find_encoder(component: Path) -> Optional[ModernBertConfig]:
    """RETURNS (Optional[ModernBertConfig]): The config of the encoder of a component,
    in a folder of its own or within its model; None if it has none yet.
    """
    if (component / ENCODER_FOLDER).is_dir():
        return load_encoder_config(component / ENCODER_FOLDER)
    if not (component / "model").is_file():
        return None
    try:
        model = srsly.read_msgpack(component / "model")
        shims = [data for node in model["shims"] for data in node if data]
        config = next(filter(None, map(read_encoder_config, shims)), None)
    except Exception as error:  # a damaged file can raise any
        raise ValueError(
            Errors.BAD_PIPELINE_MODEL.format(path=component / "model", error=error)
        ) from error
    return None if config is None else ModernBertConfig.from_dict(config)


def _describe_encoder(
    config: Optional[ModernBertConfig], folder: Path, block: EncoderBlock
) -> Dict[str, str]:
    start = str(block.settings.get("name"))
    if config is None:
        return {"encoder": f"none yet: {start} when it is initialized"}
    return {"started from": start, **_describe_checkpoint(config, folder)}


def _describe_checkpoint(config: ModernBertConfig, folder: Path) -> Dict[str, str]:
    n_weights = count_weights(config)
    return {
        "encoder": f"{config.num_hidden_layers} layers, {config.hidden_size} wide, "
        f"a vocabulary of {config.vocab_size:,}",
        "context": f"up to {config.max_wordpieces:,} wordpieces",
        "weights": f"{n_weights:,}, {4 * n_weights / 1e6:,.1f} MB in float32"
        f"{_describe_quantization(folder, config)}",
        "pooling": _describe_pooling(config),
    }


def _describe_pooling(config: ModernBertConfig) -> str:
    try:
        return f"{resolve_pooling('auto', config)}, for vectors of texts"
    except ValueError as error:
        return str(error)


def _describe_quantization(folder: Path, config: ModernBertConfig) -> str:
    if not folder.is_dir():
        return ""
    tensors = open_tensors(folder, config)  # reads headers only
    if not isinstance(tensors, QuantizedTensors):
        return ""
    bits = sorted({scheme.bits for scheme in tensors.schemes.values()})
    return f"; quantized to {', '.join(map(str, bits))} bits"


def _describe_settings(block: EncoderBlock) -> Dict[str, str]:
    settings: Mapping[str, Any] = block.settings
    spans = block.spans
    return {
        **_describe_device(
            settings.get("backend", "auto"),
            settings.get("precision", "auto"),
            settings.get("quantization"),
        ),
        "window": f"{spans.get('window', '-')} wordpieces, "
        f"{spans.get('overlap', '-')} shared"
        if spans
        else "as another span getter cuts documents",
        "a pass holds": f"{settings.get('max_batch_wordpieces', '-')} wordpieces",
    }


def _describe_device(
    backend: str, precision: str, quantization: Optional[Mapping[str, Any]]
) -> Dict[str, str]:
    said = {
        "backend": backend,
        "precision": precision,
        "quantization": "none" if quantization is None else str(quantization),
    }
    try:
        check_quantization(quantization)
        predicts_on, multiplies_in = resolve_settings(
            backend, precision, quantization, to_train=False
        )
    except ValueError as error:
        # Reporting this is what the command is for, so it does not fail.
        return {**said, "cannot run": str(error)}
    return {
        **said,
        "backend": _describe_choice(backend, predicts_on),
        "precision": _describe_choice(precision, multiplies_in),
    }


def _describe_choice(said: str, meant: str) -> str:
    return said if said == meant else f"{said}, which is {meant} here"


def _print_table(rows: Mapping[str, str]) -> None:
    msg.table(dict(rows), max_col=_columns())


def _columns() -> int:
    return shutil.get_terminal_size((80, 24)).columns


def _version(library: str, extra: str) -> str:
    """RETURNS (str): The version, or how to get one."""
    missing = f'-  (pip install "spacy-modernbert[{extra}]")' if extra else "-"
    return get_package_version(library) or missing
