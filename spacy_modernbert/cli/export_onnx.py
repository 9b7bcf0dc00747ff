"""`python -m spacy modernbert export-onnx`: an encoder as files of ONNX."""

import re
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Iterator, Mapping, Optional, Tuple

import numpy as np
import typer
from spacy.cli._util import import_code
from wasabi import msg

from ..atomic import replacing_folder, write_file
from ..encoder.availability import require
from ..encoder.backend import make_reference
from ..encoder.checkpoint import (
    CONFIG_FILE,
    check_is_no_run,
    load_config,
    open_tensors,
    read_tokenizer_config,
    write_tokenizer,
)
from ..encoder.comparing import Parity, compare
from ..encoder.config import ModernBertConfig
from ..encoder.hub import resolve
from ..encoder.json_files import dump_json
from ..errors import Errors
from ..pipelines import (
    ENCODER_FOLDER,
    check_revision,
    find_encoder_blocks,
    find_pipeline,
    read_pipeline_config,
)
from ..types import Floats, PackedBatch
from .tokenizer_files import read_fitting_tokenizer

# What a folder may hold that is replaced.
_OWN_FILES = re.compile(
    r"model\.onnx(\.data)?|config\.json|tokenizer\.json|tokenizer_config\.json"
)

# The lengths that are compared: within the sliding window, beyond it, and beyond
# several.
_LENGTHS = (7, 130, 700)

# How far the exported encoder may be off in float32, as a share of the largest number.
_TOLERANCE = 1e-3


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
    bits: Optional[int] = typer.Option(None, help="8 for 8-bit weights [float32]"),
    component: Optional[str] = typer.Option(
        None, help="Which component to take, if several have an encoder"
    ),
    revision: Optional[str] = typer.Option(
        None, help="Commit, tag or branch on the hub"
    ),
    force: bool = typer.Option(
        False, "--force", "-F", help="Replace an export in OUTPUT"
    ),
    code: Optional[Path] = typer.Option(  # noqa: B008
        None, "--code", "-c", help="Python file with registered functions to import"
    ),
) -> None:
    """Write an encoder as model.onnx and model.onnx.data, with its config and its
    tokenizer, and compare its output in ONNX Runtime with torch.

    Pipelines with backend = "onnx" need no such files.
    """
    try:
        if bits not in (None, 8):
            raise ValueError(Errors.ONNX_BITS.format(value=bits))
        require("onnx")
        if any(output.glob("model.onnx*")) and not force:
            raise ValueError(Errors.ONNX_EXISTS.format(folder=output))
        import_code(code)
        with open_checkpoint(source, component, revision) as folder:
            parity = export(folder, output, bits)
    except (MemoryError, OSError, ValueError) as error:
        msg.fail(str(error), exits=1)
    size = sum(path.stat().st_size for path in output.glob("model.onnx*"))
    msg.good(
        f"{output}: {size / 1e6:,.1f} MB; against torch, cosine "
        f"{parity.least_cosine:.6f} at least, error {parity.most_error:.1e} at most"
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
    RAISES (ValueError): If there is none, or there are several; or if a component is
        asked of what is no pipeline, or a revision of what is not on the hub.
    """
    check_revision(source, revision)
    pipeline = find_pipeline(source)
    if pipeline is None:
        if component is not None:
            message = Errors.NO_COMPONENTS.format(value=component, source=source)
            raise ValueError(message)
        yield resolve(source, revision)
        return
    pipeline_config = read_pipeline_config(pipeline)
    blocks = find_encoder_blocks(pipeline_config)
    chosen = [each for each in blocks if component in (None, each.component)]
    if len(chosen) != 1:
        check_is_no_run(pipeline)
        if not blocks:
            message = Errors.PIPELINE_WITHOUT_ENCODER.format(pipeline=source)
            raise ValueError(message)
        found = ", ".join(each.component for each in blocks)
        raise ValueError(
            Errors.PIPELINE_ENCODERS.format(folder=source, value=component, found=found)
        )
    folder = pipeline / chosen[0].component / ENCODER_FOLDER
    if folder.is_dir():
        yield folder
        return
    # The encoder of one of spaCy's own components, or of one that others listen to, is
    # stored among the component's weights.
    from ..embeddings import load_shim

    # It is loaded only to be saved, so on a backend that every machine has.
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
    RETURNS (Parity): How far it agrees with torch.
    RAISES (ValueError): If the checkpoint is not sound, the folder holds other files,
        or the numbers are not those of torch.
    """
    # Needs the extra, which `info` and `--help` do without.
    from ..encoder.onnx.files import write_model

    config = load_config(folder)
    tensors = open_tensors(folder, config)
    tokenizer_json = read_fitting_tokenizer(folder, config)
    tokenizer_config = read_tokenizer_config(folder)
    with replacing_folder(output, _OWN_FILES) as fresh:
        model = write_model(fresh, config, tensors, bits)
        write_file(fresh / CONFIG_FILE, dump_json(config.to_dict()))
        write_tokenizer(fresh, config, tokenizer_json, tokenizer_config)
        found, wanted = _run_both(model, config, tensors)
        parity = compare(found, wanted)
        most = _TOLERANCE * max(1.0, float(np.abs(wanted).max()))
        # Negated, so that NaN counts as too far.
        if bits is None and not parity.most_error <= most:
            raise ValueError(Errors.EXPORT_DIFFERS.format(error=parity.most_error))
    return parity


def _run_both(
    model: Path, config: ModernBertConfig, tensors: Mapping[str, Floats]
) -> Tuple[Floats, Floats]:
    """An exported encoder's vectors of random wordpieces, and those of torch."""
    from ..encoder.onnx.encoder import open_session, run_session

    batch = _draw_batch(config)
    found = run_session(open_session(model), batch)
    return found, make_reference(config, tensors).encode(batch)


def _draw_batch(config: ModernBertConfig) -> PackedBatch:
    lengths = [min(length, config.max_wordpieces) for length in _LENGTHS]
    rng = np.random.default_rng(0)
    return PackedBatch.of([rng.integers(0, config.vocab_size, n) for n in lengths])
