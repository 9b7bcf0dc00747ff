"""What a run needs to be resumed: one safetensors file."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, Mapping, NoReturn, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from ..atomic import replacing
from ..encoder.tensor_files import TensorEntry, Words, read_entries, write_tensors
from ..errors import Errors
from ..types import Ints
from .optimizers import Muon

Optimizers = Sequence[torch.optim.Optimizer]

_STEP = "step"

# What optimizers keep of each parameter. The count of AdamW is of steps that had a
# gradient, which may be fewer than those of the run.
_COUNT = "step"
_OF_ADAMW = ("exp_avg", "exp_avg_sq", _COUNT)
_OF_MUON = ("momentum_buffer",)
# What the names of it begin with in the file.
_KEPT_PREFIXES = tuple(f"{name}." for name in (*_OF_ADAMW, *_OF_MUON))


@dataclass(frozen=True)
class Digests:
    """Fingerprints of what a run was given: SHA-256, each `(8,)` uint32.

    encoder (Words): Of the encoder that it began with.
    train (Words): Of the wordpieces that it learns from.
    dev (Words): Of those that are held out.
    """

    encoder: Words
    train: Words
    dev: Words


@dataclass(frozen=True)
class Resumed:
    """What a state says of the steps before.

    step (int): How many were taken.
    has_other_train (bool): Whether other texts were learned from.
    has_other_dev (bool): Whether other texts were held out.
    """

    step: int
    has_other_train: bool
    has_other_dev: bool


def digest_encoder(texts: Iterable[str], tensors: Mapping[str, Any]) -> Words:
    """A fingerprint of an encoder.

    texts (Iterable[str]): Its config and tokenizer.
    tensors (Mapping[str, NDArray]): Its weights.
    RETURNS (Words): `(8,)` uint32, a SHA-256.
    """
    found = hashlib.sha256("\0".join(texts).encode("utf8"))
    for name in sorted(tensors):
        found.update(np.ascontiguousarray(tensors[name], np.float32).data)
    return np.frombuffer(found.digest(), np.uint32)


def digest_texts(ids: Sequence[Ints]) -> Words:
    """A fingerprint of texts.

    ids (Sequence[Ints]): The wordpieces of each.
    RETURNS (Words): `(8,)` uint32, a SHA-256.
    """
    found = hashlib.sha256()
    for each in ids:
        found.update(len(each).to_bytes(8, "little"))
        found.update(np.ascontiguousarray(each, np.int64).data)
    return np.frombuffer(found.digest(), np.uint32)


def save_state(
    path: Path, model: nn.Module, optimizers: Optimizers, step: int, digests: Digests
) -> None:
    """Write the weights, what the optimizers keep and the number of steps. The file is
    written beside its place and then renamed.

    path (Path): Where to write.
    model (nn.Module): The model.
    optimizers (Sequence[torch.optim.Optimizer]): What steps the model's parameters.
    step (int): The steps that were taken, below 2 ** 24.
    digests (Digests): Of what the run was given.
    """
    tensors: Dict[str, Any] = {
        _STEP: np.array([step], np.float32),
        **vars(digests),
    }
    for key, tensor in _tensors(model, optimizers):
        tensors[key] = tensor.detach().cpu().numpy()
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    with replacing(path) as fresh:
        write_tensors(fresh, shapes, tensors)


def load_state(
    path: Path, model: nn.Module, optimizers: Optimizers, digests: Digests
) -> Resumed:
    """Read what `save_state` wrote into a model and its optimizers.

    path (Path): The file.
    model (nn.Module): A model of the same shape.
    optimizers (Sequence[torch.optim.Optimizer]): What steps the model's parameters.
    digests (Digests): Of what this run is given.
    RETURNS (Resumed): What it says of the steps before.
    RAISES (ValueError): If the file is damaged, not a saved state, or that of another
        model or optimizer.
    """
    entries = read_entries(path)
    for key in (_STEP, *vars(digests)):
        if key not in entries:
            raise ValueError(Errors.PRETRAINING_NO_STATE.format(path=path, key=key))
    is_other = {
        key: not np.array_equal(entries[key].read(), digest)
        for key, digest in vars(digests).items()
    }
    if is_other["encoder"]:
        _refuse(path, "the config, tokenizer or weights that it began with differ")
    step = _read_step(path, entries[_STEP])
    # If they have kept nothing, no step has had anything to learn from yet.
    if any(key.startswith(_KEPT_PREFIXES) for key in entries):
        for optimizer in optimizers:
            _init_kept(optimizer)
    with torch.no_grad():
        for key, tensor in _tensors(model, optimizers):
            if key not in entries:
                _refuse(path, f"it has no {key}")
            if entries[key].shape != tuple(tensor.shape):
                shapes = f"{entries[key].shape} and not {tuple(tensor.shape)}"
                _refuse(path, f"{key} has shape {shapes}")
            tensor.copy_(torch.from_numpy(entries[key].read()))
    return Resumed(step, is_other["train"], is_other["dev"])


def _read_step(path: Path, entry: TensorEntry) -> int:
    """RETURNS (int): The steps that a state says were taken."""
    if entry.shape == (1,):
        (step,) = entry.read().tolist()
        if math.isfinite(step):
            return int(step)
    key = f"{_STEP} that is a number"
    raise ValueError(Errors.PRETRAINING_NO_STATE.format(path=path, key=key))


def _init_kept(optimizer: torch.optim.Optimizer) -> None:
    """Make what an optimizer makes with its first step."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                # On the parameter's device, as a fused step needs the count, too.
                key: torch.zeros((), device=parameter.device)
                if key == _COUNT
                else torch.zeros_like(parameter)
                for key in _kept_by(optimizer)
            }


def _kept_by(optimizer: torch.optim.Optimizer) -> Tuple[str, ...]:
    return _OF_MUON if isinstance(optimizer, Muon) else _OF_ADAMW


def _tensors(model: nn.Module, optimizers: Optimizers) -> Iterator[Tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        yield f"weights.{name}", parameter
        for optimizer in optimizers:
            for key in _kept_by(optimizer):
                if parameter in optimizer.state:
                    # A view: arrays without axes get one when they are written.
                    kept = torch.atleast_1d(optimizer.state[parameter][key])
                    yield f"{key}.{name}", kept


def _refuse(path: Path, why: str) -> NoReturn:
    raise ValueError(Errors.PRETRAINING_OTHER_STATE.format(path=path, why=why))
