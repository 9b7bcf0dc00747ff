"""`python -m spacy modernbert export-onnx`: an encoder as files of ONNX."""

import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Iterator, Mapping, Optional

import numpy as np
import typer
from spacy.util import load_config as load_pipeline_config
from wasabi import msg

from ..atomic import replacing_folder, write_file
from ..encoder.availability import require
from ..encoder.backend import make_encoder
from ..encoder.checkpoint import (
    CONFIG,
    dump_json,
    load_config,
    open_tensors,
    read_tokenizer_config,
    read_tokenizer_json,
    resolve,
    write_tokenizer,
)
from ..encoder.config import ModernBertConfig
from ..encoder.tensor_files import Floats
from ..errors import Errors
from ..pipelines import CONFIG as PIPELINE_CONFIG
from ..pipelines import ENCODER_FOLDER, find_encoder_blocks, find_pipeline
from ..types import PackedBatch

# What a folder may hold that is replaced.
_OWN_FILES = re.compile(
    r"model\.onnx(\.data)?|config\.json|tokenizer\.json|tokenizer_config\.json"
)

# The lengths that are compared: within the sliding window, beyond it, and beyond
# several.
_LENGTHS = (7, 130, 700)

# How far the exported encoder may be off in float32, of the largest number in it.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Parity:
    """How an exported encoder compares with torch, on random wordpieces.

    cosine (float): The smallest between two vectors of one wordpiece.
    error (float): The largest difference between two numbers.
    largest (float): The largest number, of torch.
    """

    cosine: float
    error: float
    largest: float


def export_onnx(
    source: str = typer.Argument(
        ...,
        help="A checkpoint (a folder or a Hugging Face hub id), or the folder or "
        "package of a pipeline",
        show_default=False,
    ),
    output: Path = typer.Argument(  # noqa: B008
        ..., help="Folder for the files", show_default=False
    ),
    bits: Optional[int] = typer.Option(None, help="8 for weights of 8 bits"),
    component: Optional[str] = typer.Option(
        None, help="The component, where several of the pipeline have an encoder"
    ),
    revision: Optional[str] = typer.Option(
        None, help="Commit, tag or branch on the hub"
    ),
) -> None:
    """Write an encoder as model.onnx and model.onnx.data, with its config and its
    tokenizer, and compare what ONNX Runtime makes of it with torch.

    Pipelines with backend = "onnx" need no such files.
    """
    try:
        if bits not in (None, 8):
            raise ValueError(Errors.ONNX_BITS.format(value=bits))
        require("onnx")
        with open_checkpoint(source, component, revision) as folder:
            parity = export(folder, output, bits)
    except (MemoryError, OSError, ValueError) as error:
        msg.fail(str(error), exits=1)
    size = sum(path.stat().st_size for path in output.glob("model.onnx*"))
    msg.good(
        f"{output}: {size / 1e6:,.1f} MB; against torch, cosine {parity.cosine:.6f} "
        f"at least, error {parity.error:.1e} at most (of {parity.largest:.1f})"
    )


@contextmanager
def open_checkpoint(
    source: str, component: Optional[str], revision: Optional[str]
) -> Iterator[Path]:
    """Find what to export.

    source (str): A folder of a checkpoint or of a pipeline, the package of a pipeline,
        or a hub id.
    component (Optional[str]): The component of a pipeline.
    revision (Optional[str]): Commit, tag or branch on the hub.
    YIELDS (Path): The folder of a checkpoint, which may be gone afterwards.
    RAISES (ValueError): If there is none, or there are several.
    """
    pipeline = find_pipeline(source)
    if pipeline is None:
        yield resolve(source, revision)
        return
    pipeline_config = load_pipeline_config(pipeline / PIPELINE_CONFIG, interpolate=True)
    blocks = find_encoder_blocks(pipeline_config)
    chosen = [each for each in blocks if component in (None, each.component)]
    if len(chosen) != 1:
        found = ", ".join(each.component for each in blocks) or "none"
        raise ValueError(
            Errors.PIPELINE_ENCODERS.format(folder=source, value=component, found=found)
        )
    folder = pipeline / chosen[0].component / ENCODER_FOLDER
    if folder.is_dir():
        yield folder
        return
    # That of a component of spaCy's own, or of one that others listen to, is among its
    # weights.
    from ..embeddings import load_shim

    # Only to be saved, by what everybody has.
    settings = {"backend": "cpu", "precision": "float32", "quantization": None}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / ENCODER_FOLDER
        load_shim(pipeline, pipeline_config, chosen[0], settings).save(folder)
        yield folder


def export(folder: Path, output: Path, bits: Optional[int]) -> Parity:
    """Write the files, and put them in their place once they have been compared.

    folder (Path): A checkpoint.
    output (Path): Where to write. If it exists, it may only hold files of an export,
        and is replaced.
    bits (Optional[int]): 8, or None for float32.
    RETURNS (Parity): How they compare.
    RAISES (ValueError): If the checkpoint is not sound, the folder holds other files,
        or the numbers are not those of torch.
    """
    # Needs the extra, which `info` and `--help` do without.
    from ..encoder.onnx_files import write_model

    config = load_config(folder)
    tensors = open_tensors(folder, config)
    tokenizer_json = read_tokenizer_json(folder)
    tokenizer_config = read_tokenizer_config(folder)
    with replacing_folder(output, _OWN_FILES) as fresh:
        model = write_model(fresh, config, tensors, bits)
        write_file(fresh / CONFIG, dump_json(config.to_dict()))
        write_tokenizer(fresh, config, tokenizer_json, tokenizer_config)
        parity = compare(model, config, tensors)
        # Negated, so that what is no number is too far.
        if bits is None and not parity.error <= _TOLERANCE * max(1.0, parity.largest):
            raise ValueError(Errors.EXPORT_DIFFERS.format(error=parity.error))
    return parity


def compare(
    model: Path, config: ModernBertConfig, tensors: Mapping[str, Floats]
) -> Parity:
    """Run an exported encoder, and the same in torch.

    model (Path): The graph.
    config (ModernBertConfig): The config.
    tensors (Mapping[str, NDArray]): The weights.
    RETURNS (Parity): How they compare.
    """
    from ..encoder.onnx_encoder import open_session, run_session

    batch = _draw_batch(config)
    found = run_session(open_session(model), batch)
    encoder = make_encoder(
        config, tensors, backend="cpu", precision="float32", heed_variable=False
    )
    wanted = encoder.encode(batch)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    return Parity(
        cosine=float(((found * wanted).sum(axis=1) / norms).min()),
        error=float(np.abs(found - wanted).max()),
        largest=float(np.abs(wanted).max()),
    )


def _draw_batch(config: ModernBertConfig) -> PackedBatch:
    lengths = [min(length, config.max_wordpieces) for length in _LENGTHS]
    ids = np.random.default_rng(0).integers(0, config.vocab_size, sum(lengths))
    return PackedBatch(ids, np.cumsum([0, *lengths], dtype=np.int32))
