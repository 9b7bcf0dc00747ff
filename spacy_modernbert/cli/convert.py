"""`python -m spacy modernbert convert`: quantize checkpoints, or convert them back."""

from pathlib import Path
from typing import Mapping, Optional

import numpy as np
import typer
from wasabi import msg

from ..atomic import same_place
from ..documents.wordpieces import WordpieceTokenizer
from ..encoder.backend import make_reference
from ..encoder.checkpoint import (
    CONFIG_FILE,
    INDEX,
    TENSORS,
    load_config,
    open_tensors,
    read_json,
    read_tokenizer_config,
    read_tokenizer_json,
    replacing_checkpoint,
    write_checkpoint,
)
from ..encoder.comparing import Parity, compare
from ..encoder.config import ModernBertConfig
from ..encoder.hub import resolve
from ..encoder.quantize import (
    DEFAULT_GROUP_SIZE,
    GROUP_SIZES,
    Scheme,
    quantize_tensors,
)
from ..encoder.tensor_files import OnDemand
from ..encoder.weights import count_weights, expected_shapes
from ..errors import Errors
from ..types import Floats, PackedBatch
from .tokenizer_files import read_fitting_tokenizer

_FLOAT_BITS = 32
_BITS = (4, 8, _FLOAT_BITS)

# What the hidden states are compared on: this text, and as many random wordpieces.
_TEXT = """\
On the evening of 12 March 1894 the steamer Aurora left Bergen for Lisbon with forty
passengers, a cargo of dried fish and two pianos. Captain Ida Holm, who had taken over
the ship from her uncle only a week before, wrote in the log that the glass was falling
and that the cook, a Mr. Falk of Port Said, refused to serve soup in such weather. By
midnight the wind had gone round to the north-west; at 3.40 a.m. the second mate saw
the light of Lindesnes, and nobody has seen the Aurora since. What was found of her,
years later and 2,000 miles away, was one of the pianos. It was hardly out of tune.
"""


def convert(
    source: str = typer.Argument(
        ...,
        help="Checkpoint: a folder or a Hugging Face hub id",
        show_default=False,
    ),
    output: Path = typer.Argument(  # noqa: B008
        ..., help="Folder for the new checkpoint", show_default=False
    ),
    bits: int = typer.Option(
        8, help="Bits per weight: 8 or 4; 32 converts back to float32"
    ),
    group_size: int = typer.Option(
        DEFAULT_GROUP_SIZE,
        help="How many weights share a scale: 32, 64 or 128; unused with 32 bits",
    ),
    revision: Optional[str] = typer.Option(
        None, help="Commit, tag or branch on the hub"
    ),
    force: bool = typer.Option(
        False, "--force", "-F", help="Replace a checkpoint in OUTPUT"
    ),
) -> None:
    """Write a checkpoint with quantized weights, in the layout that the MLX community
    uses, and print its size and the error that quantizing causes. It loads with any
    backend: MLX takes it as it is, the others load it in float32.
    """
    try:
        scheme = None
        if bits not in _BITS:
            raise ValueError(Errors.BAD_CONVERT_BITS.format(value=bits))
        if bits != _FLOAT_BITS:
            if group_size not in GROUP_SIZES:
                raise ValueError(Errors.BAD_CONVERT_GROUP_SIZE.format(value=group_size))
            scheme = Scheme(bits, group_size)
        before = resolve(source, revision)
        config = load_config(before)
        check_place(before, output, force=force)
        # It is put in its place once it has been compared.
        with replacing_checkpoint(output) as fresh:
            convert_checkpoint(before, config, fresh, scheme)
            parity = compare_checkpoints(before, fresh, config)
            old_size, size = find_size(before), find_size(fresh)
    except (MemoryError, OSError, ValueError) as error:
        msg.fail(str(error), exits=1)
    in_floats = 4 * count_weights(config)
    msg.table(
        {
            "cosine of hidden states": f"mean {parity.mean_cosine:.6f}, "
            f"least {parity.least_cosine:.6f}",
            "largest difference": f"{parity.most_error:.2g}",
            "weights before": f"{old_size / 1e6:,.1f} MB",
            "weights now": f"{size / 1e6:,.1f} MB, {size / in_floats:.1%} of float32",
        }
    )
    msg.good(f"{output}: {bits} bits")


def check_place(source: Path, output: Path, *, force: bool) -> None:
    """Check that a new checkpoint may be put where it is to be.

    source (Path): The checkpoint.
    output (Path): Folder for the new one.
    force (bool): Whether to replace a checkpoint that is in the folder.
    RAISES (ValueError): If it may not.
    """
    if same_place(output, source):
        raise ValueError(Errors.CONVERT_ONTO_ITSELF.format(folder=output))
    if (output / CONFIG_FILE).exists() and not force:
        raise ValueError(Errors.CHECKPOINT_EXISTS.format(folder=output))


def convert_checkpoint(
    source: Path, config: ModernBertConfig, output: Path, scheme: Optional[Scheme]
) -> None:
    """Write a checkpoint with other weights: the encoder and its tokenizer.

    source (Path): The checkpoint.
    config (ModernBertConfig): Its config.
    output (Path): Folder for the new one: see `write_checkpoint`.
    scheme (Optional[Scheme]): How to quantize all weights that can be; None to have
        all in float32.
    RAISES (ValueError): If the checkpoint is not sound, or no weight can be quantized
        in that way.
    """
    tensors = open_tensors(source, config)
    tokenizer_json = read_fitting_tokenizer(source, config)
    shapes = expected_shapes(config)
    converted: Mapping[str, Floats]
    if scheme is None:
        # No longer `QuantizedTensors`, which would be written as they are stored.
        converted = OnDemand(shapes, tensors.__getitem__)
    else:
        converted = quantize_tensors(tensors, shapes, scheme)
    write_checkpoint(
        output,
        config,
        converted,
        tokenizer_json,
        read_tokenizer_config(source),
    )


def compare_checkpoints(
    source: Path, converted: Path, config: ModernBertConfig
) -> Parity:
    """Compare two checkpoints by what their encoders make of some text and of random
    wordpieces.

    source, converted (Path): The checkpoints, of one config and tokenizer.
    config (ModernBertConfig): The config.
    RETURNS (Parity): How far what is converted agrees with what it is made of.
    """
    batch = _make_batch(read_tokenizer_json(source), config)
    wanted, found = (
        make_reference(config, open_tensors(folder, config)).encode(batch)
        for folder in (source, converted)
    )
    return compare(found, wanted)


def _make_batch(tokenizer_json: str, config: ModernBertConfig) -> PackedBatch:
    tokenizer = WordpieceTokenizer.from_json(tokenizer_json)
    (pieces,) = tokenizer([_TEXT])
    text = np.array([*tokenizer.prefix_ids, *pieces.ids, *tokenizer.suffix_ids])
    text = text[: config.max_wordpieces]
    noise = np.random.default_rng(0).integers(0, config.vocab_size, text.size)
    return PackedBatch.of([text, noise])


def find_size(folder: Path) -> int:
    """RETURNS (int): The bytes of the files with the weights. A shard of nothing but a
    head may be missing.
    """
    if (folder / TENSORS).is_file():
        return (folder / TENSORS).stat().st_size
    shards = read_json(folder, INDEX)["weight_map"].values()
    # Those of a head alone were never looked at, and may be called anything.
    names = {name for name in shards if isinstance(name, str)}
    return sum(path.stat().st_size for path in folder.iterdir() if path.name in names)
