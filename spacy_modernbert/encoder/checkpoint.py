"""A Hugging Face checkpoint: folder → config, tokenizer, tensors; and back.

Nothing unsafe is read: JSON and safetensors, never a pickle.
"""

import json
import re
from pathlib import Path
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    Mapping,
    Optional,
    Tuple,
)

import numpy.typing as npt

from ..atomic import check_replaceable, replacing_folder, sync_file, write_file
from ..errors import Errors
from ..types import Floats
from .config import ModernBertConfig
from .json_files import dump_json, read_json_file
from .quantize import (
    MLX_LAYOUT,
    QuantizedTensors,
    describe_quantization,
    open_quantized,
    stored_tensors,
    take_quantized,
)
from .sentences import read_sentence_pooling
from .tensor_files import (
    FLOAT_DTYPES,
    OnDemand,
    Shape,
    Source,
    TensorEntry,
    describe,
    read_entries,
    read_tensors,
    to_bytes,
    write_tensors,
)
from .weights import HEAD_PREFIX, expected_shapes

CONFIG_FILE = "config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
TENSORS = "model.safetensors"
INDEX = "model.safetensors.index.json"

# Usual names of the mask token, for a checkpoint that does not name its own.
MASK_TOKENS = ("[MASK]", "<mask>")

# Marks the folder of a pipeline, whose components' folders may hold checkpoints. As in
# `pipelines.py`, which imports this room and not the other way.
_PIPELINE_CONFIG = "config.cfg"

# What a folder may hold that `save_checkpoint` replaces.
_OWN_FILES = re.compile(
    r"config\.json|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json"
    r"|model.*\.safetensors(\.index\.json)?"
)

# mlx-rs nests the linear layer inside the quantized one.
_NESTED = ".inner."

# Where the encoder's tensors live. Whatever lives elsewhere is some task's head.
_ROOTS = ("embeddings.", "layers.", "final_norm.")

# Computed from the config; some writers save them all the same.
_COMPUTED = ".rotary_emb."


def load_config(folder: Path) -> ModernBertConfig:
    """Read the config of a checkpoint.

    folder (Path): The checkpoint.
    RETURNS (ModernBertConfig): The config.
    RAISES (ValueError): If `config.json` is absent, not JSON, or not that of a
        ModernBERT that can be run.
    """
    data = read_json(folder, CONFIG_FILE)
    return ModernBertConfig.from_dict({**data, **read_sentence_pooling(folder)})


def read_json(folder: Path, file_name: str) -> Dict[str, Any]:
    """Read a JSON file of a checkpoint.

    folder (Path): The checkpoint.
    file_name (str): The name of the file in it.
    RETURNS (Dict[str, Any]): The contents.
    RAISES (ValueError): If it is absent, or not a JSON object.
    """
    path = folder / file_name
    if not path.is_file():
        check_is_no_pipeline(folder)
        raise ValueError(
            Errors.CHECKPOINT_NO_FILE.format(folder=folder, file=file_name)
        )
    found = read_json_file(path)
    if not isinstance(found, dict):
        raise ValueError(
            Errors.CHECKPOINT_BAD_JSON.format(path=path, why="it is not an object")
        )
    return found


def check_is_no_run(folder: Path) -> None:
    """RAISES (ValueError): If a folder is what `modernbert pretrain` writes, with a
    checkpoint in it.
    """
    encoder = folder / "encoder"
    if (folder / _PIPELINE_CONFIG).is_file() and (encoder / CONFIG_FILE).is_file():
        message = Errors.CHECKPOINT_IS_RUN.format(folder=folder, encoder=encoder)
        raise ValueError(message)


def check_is_no_pipeline(folder: Path) -> None:
    """RAISES (ValueError): If a folder is that of a pipeline, or of a run of
    `modernbert pretrain`, with encoders in it.
    """
    check_is_no_run(folder)
    found = sorted(path.parent for path in folder.glob(f"*/*/{CONFIG_FILE}"))
    if found and (folder / _PIPELINE_CONFIG).is_file():
        encoders = ", ".join(f"'{path}'" for path in found)
        raise ValueError(
            Errors.CHECKPOINT_IS_PIPELINE.format(folder=folder, encoders=encoders)
        )


def read_tokenizer_json(folder: Path) -> str:
    """Read the tokenizer of a checkpoint.

    folder (Path): The checkpoint.
    RETURNS (str): The text of `tokenizer.json`.
    RAISES (ValueError): If there is none, or it is not UTF-8.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        raise ValueError(Errors.CHECKPOINT_NO_TOKENIZER.format(folder=folder))
    try:
        return path.read_text(encoding="utf8")
    except UnicodeDecodeError as err:
        raise ValueError(Errors.CHECKPOINT_BAD_JSON.format(path=path, why=err)) from err


def read_tokenizer_config(folder: Path) -> Optional[Dict[str, Any]]:
    """Read what transformers wants to know about the tokenizer, to hand it on.

    folder (Path): The checkpoint.
    RETURNS (Optional[Dict[str, Any]]): The contents of `tokenizer_config.json`,
        with what only `special_tokens_map.json` says; None if there is neither.
    RAISES (ValueError): If either is not a JSON object.
    """
    found: Dict[str, Any] = {}
    for file_name in (SPECIAL_TOKENS_FILE, TOKENIZER_CONFIG):
        if (folder / file_name).is_file():
            found.update(read_json(folder, file_name))
    # It would name remote code.
    found.pop("auto_map", None)
    return found or None


def open_tensors(folder: Path, config: ModernBertConfig) -> Mapping[str, Floats]:
    """Open the encoder's tensors in a checkpoint, in one file or in shards.

    folder (Path): The checkpoint.
    config (ModernBertConfig): Its config.
    RETURNS (Mapping[str, Floats]): The tensors, by the names of `expected_shapes`, with
        or without `model.` in the file. Each is read when it is asked for. Tensors of
        a head are left out. If some are quantized, `QuantizedTensors`.
    RAISES (ValueError): If a file is absent, corrupt or cut short, or if the tensors
        are not those of the config. Only the headers are read for that.
    """
    entries, source = _read_entries(folder, _is_of_encoder)
    return _select(entries, config, source)


def read_all_entries(folder: Path) -> Dict[str, TensorEntry]:
    """Where each tensor of a checkpoint stands, those of a head included.

    folder (Path): The checkpoint.
    RETURNS (Dict[str, TensorEntry]): By the names in the file.
    RAISES (ValueError): If a file is absent, corrupt or cut short.
    """
    entries, _ = _read_entries(folder, lambda name: True)
    return entries


def save_checkpoint(
    folder: Path,
    config: ModernBertConfig,
    tensors: Mapping[str, Floats],
    tokenizer_json: str,
    tokenizer_config: Optional[Mapping[str, Any]] = None,
    *,
    head: Optional[Mapping[str, Floats]] = None,
    dtype: str = "F32",
) -> None:
    """Write a checkpoint that transformers' `AutoModel` and `AutoTokenizer` read.

    Everything is written to a new folder beside the old one, and takes its place
    when it is complete: if anything fails, the old one is still there. Tensors that are
    NumPy's, and float32, are not copied.

    folder (Path): Where to write. If it exists, it may only hold files of a
        checkpoint, and is replaced.

    The others are those of `write_checkpoint`.

    RAISES (ValueError): If the folder holds other files, or as `write_checkpoint`.
    """
    with replacing_checkpoint(folder) as fresh:
        write_checkpoint(
            fresh,
            config,
            tensors,
            tokenizer_json,
            tokenizer_config,
            head=head,
            dtype=dtype,
        )


def write_checkpoint(
    folder: Path,
    config: ModernBertConfig,
    tensors: Mapping[str, Floats],
    tokenizer_json: str,
    tokenizer_config: Optional[Mapping[str, Any]] = None,
    *,
    head: Optional[Mapping[str, Floats]] = None,
    dtype: str = "F32",
) -> None:
    """Fill an empty folder with a checkpoint.

    folder (Path): The folder: see `replacing_checkpoint`.
    config (ModernBertConfig): The config.
    tensors (Mapping[str, Floats]): The tensors of `expected_shapes`, float32. If they
        are `QuantizedTensors`, the checkpoint is quantized, too: MLX's loaders read
        it, as does `open_tensors`, and transformers does not.
    tokenizer_json (str): The text of `tokenizer.json`.
    tokenizer_config (Optional[Mapping[str, Any]]): The contents of
        `tokenizer_config.json`, as the original had it. If None, they are made from
        the config and the tokenizer.
    head (Optional[Mapping[str, Floats]]): The head for masked language modelling, by
        the names of transformers' `ModernBertForMaskedLM`. The checkpoint is then one
        for that class.
    dtype (str): What the tensors are written as, "F32" or "F16".
    RAISES (ValueError): If a tensor is missing or has another shape.
    """
    data = _describe(config, tensors)
    data["torch_dtype"] = {"F32": "float32", "F16": "float16"}[dtype]
    shapes: Mapping[str, Shape] = expected_shapes(config)
    if head is not None:
        data["architectures"] = ["ModernBertForMaskedLM"]
        # The head shares the embedding table, whatever the source checkpoint says.
        data["tie_word_embeddings"] = True
        shapes = {
            **{HEAD_PREFIX + name: shape for name, shape in shapes.items()},
            **{name: tensor.shape for name, tensor in head.items()},
        }
        encoder = tensors
        tensors = OnDemand(
            shapes,
            lambda name: (
                head[name] if name in head else encoder[name.removeprefix(HEAD_PREFIX)]
            ),
        )
    write_file(folder / CONFIG_FILE, dump_json(data))
    write_tokenizer(folder, config, tokenizer_json, tokenizer_config)
    shapes, arrays, layout = _lay_out(shapes, tensors)
    write_tensors(folder / TENSORS, shapes, arrays, dtype=dtype, layout=layout)
    sync_file(folder / TENSORS)


def replacing_checkpoint(
    folder: Path, then: Optional[Callable[[], None]] = None
) -> ContextManager[Path]:
    """RETURNS (ContextManager[Path]): What fills the folder of a checkpoint beside its
    place: see `replacing_folder`.
    """
    return replacing_folder(folder, _OWN_FILES, then)


def write_tokenizer(
    folder: Path,
    config: ModernBertConfig,
    tokenizer_json: str,
    tokenizer_config: Optional[Mapping[str, Any]],
) -> None:
    """Write a tokenizer that transformers' `AutoTokenizer` reads, of version 4 or 5.

    folder (Path): Where to write: see `replacing_folder`.
    config (ModernBertConfig): The config of its encoder.
    tokenizer_json (str): The text of `tokenizer.json`.
    tokenizer_config (Optional[Mapping[str, Any]]): See `write_checkpoint`.
    """
    if tokenizer_config is None:
        tokenizer_config = _make_tokenizer_config(config, tokenizer_json)
    write_file(folder / TOKENIZER, tokenizer_json.encode("utf8"))
    write_file(folder / TOKENIZER_CONFIG, dump_json(_portable(tokenizer_config)))


def check_folder(folder: Path) -> None:
    """Check that a checkpoint can be saved in a folder, before there is one to save.

    folder (Path): The folder. The one around it is made if it does not exist.
    RAISES (ValueError): If it holds other files, or is a file.
    RAISES (OSError): If it cannot be written.
    """
    check_replaceable(folder, _OWN_FILES)


def tensors_to_bytes(tensors: Mapping[str, Floats], config: ModernBertConfig) -> bytes:
    """Serialize the encoder's tensors.

    tensors (Mapping[str, Floats]): The tensors of `expected_shapes`, float32.
    config (ModernBertConfig): The config.
    RETURNS (bytes): What `save_checkpoint` writes as `model.safetensors`.
    RAISES (ValueError): If a tensor is missing or has another shape.
    """
    shapes, arrays, layout = _lay_out(expected_shapes(config), tensors)
    return to_bytes(shapes, arrays, layout=layout)


def tensors_from_bytes(data: bytes, config: ModernBertConfig) -> Mapping[str, Floats]:
    """The inverse of `tensors_to_bytes`.

    data (bytes): The contents of a safetensors file.
    config (ModernBertConfig): The config.
    RETURNS (Mapping[str, Floats]): The tensors, as `open_tensors` gives them.
    RAISES (ValueError): As for `open_tensors`, and if these are no bytes: the name of
        a file, say, which is not for a serialized model to choose.
    """
    if not isinstance(data, bytes):
        why = f"its tensors are a {type(data).__name__}, and not bytes"
        raise ValueError(Errors.TENSORS_CORRUPT.format(where=describe(b""), why=why))
    return _select(read_entries(data), config, data)


def _lay_out(
    shapes: Mapping[str, Shape], tensors: Mapping[str, Floats]
) -> Tuple[Mapping[str, Shape], Mapping[str, npt.NDArray[Any]], str]:
    """RETURNS (Tuple[Mapping[str, Shape], Mapping[str, NDArray], str]): How tensors
    stand in a file: the shapes that there should be, the arrays, and whose layout this
    is.
    """
    if isinstance(tensors, QuantizedTensors):
        return *stored_tensors(tensors), MLX_LAYOUT
    return shapes, tensors, "pt"


def _is_of_encoder(name: str) -> bool:
    return name.removeprefix(HEAD_PREFIX).startswith(_ROOTS)


def _read_entries(
    folder: Path, is_wanted: Callable[[str], bool]
) -> Tuple[Dict[str, TensorEntry], Path]:
    """RETURNS (Tuple[Dict[str, TensorEntry], Path]): The entries of a checkpoint, those
    that are wanted at least, and the file that names them.
    """
    if (folder / TENSORS).is_file():
        return read_entries(folder / TENSORS), folder / TENSORS
    if (folder / INDEX).is_file():
        return _read_shards(folder, is_wanted), folder / INDEX
    raise ValueError(Errors.CHECKPOINT_NO_TENSORS.format(folder=folder))


def _read_shards(
    folder: Path, is_wanted: Callable[[str], bool]
) -> Dict[str, TensorEntry]:
    """The wanted entries in all shards. Shards of nothing else are not opened."""
    places = read_json(folder, INDEX).get("weight_map")
    if not isinstance(places, dict):
        raise ValueError(
            Errors.CHECKPOINT_BAD_JSON.format(
                path=folder / INDEX, why="it has no weight_map"
            )
        )
    shards: Dict[str, Dict[str, TensorEntry]] = {}
    entries = {}
    for name, file_name in places.items():
        if not is_wanted(name):
            continue
        file_name = str(file_name)
        if file_name not in shards:
            shards[file_name] = read_entries(_find_shard(folder, file_name))
        if name not in shards[file_name]:
            raise ValueError(
                Errors.CHECKPOINT_NOT_IN_SHARD.format(
                    folder=folder, shard=file_name, name=name
                )
            )
        entries[name] = shards[file_name][name]
    return entries


def _find_shard(folder: Path, file_name: str) -> Path:
    """RETURNS (Path): A shard: a file of the folder itself, whatever the index says."""
    if Path(file_name).name != file_name:
        raise ValueError(
            Errors.CHECKPOINT_SHARD_ELSEWHERE.format(
                folder=folder, shard=file_name, index=INDEX
            )
        )
    if not (folder / file_name).is_file():
        raise ValueError(
            Errors.CHECKPOINT_NO_SHARD.format(folder=folder, shard=file_name)
        )
    return folder / file_name


def _select(
    entries: Mapping[str, TensorEntry], config: ModernBertConfig, source: Source
) -> Mapping[str, Floats]:
    """The encoder's tensors, by our names, in our order, all there."""
    where = describe(source)
    found: Dict[str, TensorEntry] = {}
    for name, entry in entries.items():
        ours = name.removeprefix(HEAD_PREFIX).replace(_NESTED, ".")
        if ours.startswith(_ROOTS) and _COMPUTED not in ours:
            if ours in found:
                raise ValueError(Errors.CHECKPOINT_TWICE.format(where=where, name=ours))
            found[ours] = entry
    return open_entries(found, expected_shapes(config), where)


def open_entries(
    found: Dict[str, TensorEntry], shapes: Mapping[str, Shape], where: str
) -> Mapping[str, Floats]:
    """Open tensors, some of which may be quantized.

    found (Dict[str, TensorEntry]): Where each stands, by name. Those of quantized
        weights are taken out.
    shapes (Mapping[str, Shape]): The shape of each that there should be.
    where (str): What messages call the file.
    RETURNS (Mapping[str, Floats]): The tensors of `shapes`, float32, each read when it
        is asked for. If some are quantized, `QuantizedTensors`.
    RAISES (ValueError): If one is absent, not expected, or of another shape or dtype.
    """
    quantized = take_quantized(found, shapes, where)
    plain = {name: shapes[name] for name in shapes if name not in quantized}
    missing = [name for name in plain if name not in found]
    if missing:
        raise ValueError(
            Errors.CHECKPOINT_MISSING.format(
                where=where, n=len(missing), total=len(shapes), name=missing[0]
            )
        )
    unexpected = [name for name in found if name not in plain]
    if unexpected:
        raise ValueError(
            Errors.CHECKPOINT_UNEXPECTED.format(
                where=where, n=len(unexpected), name=unexpected[0]
            )
        )
    for name, shape in plain.items():
        entry = found[name]
        if entry.shape != shape:
            raise ValueError(
                Errors.CHECKPOINT_BAD_SHAPE.format(
                    where=where, name=name, found=entry.shape, wanted=shape
                )
            )
        if entry.dtype not in FLOAT_DTYPES:
            raise ValueError(
                Errors.CHECKPOINT_BAD_DTYPE.format(
                    where=where,
                    name=name,
                    found=entry.dtype,
                    wanted=", ".join(FLOAT_DTYPES),
                )
            )
    if quantized:
        return open_quantized(found, quantized, shapes)
    return read_tensors({name: found[name] for name in shapes})


def _describe(
    config: ModernBertConfig, tensors: Mapping[str, Floats]
) -> Dict[str, Any]:
    """The contents of config.json. How weights are quantized is in it twice: MLX's
    loaders read `quantization`, and the hub shows `quantization_config`.
    """
    data = config.to_dict()
    if isinstance(tensors, QuantizedTensors):
        block = describe_quantization(tensors)
        data.update(quantization=block, quantization_config=block)
    return data


def _make_tokenizer_config(
    config: ModernBertConfig, tokenizer_json: str
) -> Dict[str, Any]:
    """What transformers needs to know about a tokenizer, beside tokenizer.json."""
    added = json.loads(tokenizer_json).get("added_tokens", [])
    by_id = {token["id"]: token["content"] for token in added}
    special = {token["content"] for token in added if token.get("special")}
    tokens = {
        "cls_token": by_id.get(config.cls_token_id),
        "sep_token": by_id.get(config.sep_token_id),
        "pad_token": by_id.get(config.pad_token_id),
        "unk_token": next((t for t in ("[UNK]", "<unk>") if t in special), None),
        "mask_token": next((t for t in MASK_TOKENS if t in special), None),
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.max_wordpieces,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **{key: token for key, token in tokens.items() if token is not None},
    }


def _portable(tokenizer_config: Mapping[str, Any]) -> Dict[str, Any]:
    """In the words of transformers 4, which transformers 5 reads too."""
    portable = dict(tokenizer_config)
    # It would name remote code. What came by bytes may still have it.
    portable.pop("auto_map", None)
    if portable.get("tokenizer_class") == "TokenizersBackend":
        portable["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(portable.get("extra_special_tokens"), list):
        portable["additional_special_tokens"] = portable.pop("extra_special_tokens")
    return portable
