"""What a run needs to go on where it was: one safetensors file."""

import os
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from ..encoder.tensor_files import TensorReader, read_entries, write_tensors
from ..errors import Errors

_STEP = "step"
_MOMENTS = ("exp_avg", "exp_avg_sq")


def save_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> None:
    """Write the weights, the optimizer's moments and the number of steps. The file is
    written beside its place and then renamed.

    path (Path): Where to write.
    model (nn.Module): The model.
    optimizer (torch.optim.Optimizer): AdamW, of the model's parameters.
    step (int): The steps that were taken, below 2 ** 24.
    """
    tensors: Dict[str, Any] = {_STEP: np.array([step], np.float32)}
    for key, tensor in _tensors(model, optimizer):
        tensors[key] = tensor.detach().cpu().numpy()
    fresh = path.with_name(f".{path.name}.tmp")
    with open(fresh, "wb") as stream:
        shapes = {key: tensor.shape for key, tensor in tensors.items()}
        write_tensors(stream, shapes, tensors)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(fresh, path)


def load_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Read what `save_state` wrote into a model and its optimizer.

    path (Path): The file.
    model (nn.Module): A model of the same shape.
    optimizer (torch.optim.Optimizer): AdamW, of the model's parameters.
    RETURNS (int): The steps that were taken.
    RAISES (ValueError): If the file is damaged, or of another model.
    """
    entries = read_entries(path)
    found = TensorReader(entries)
    if _STEP not in entries:
        _refuse(path, "it says no step")
    step = int(found[_STEP][0])
    for parameter in model.parameters():
        # torch makes these with the first step.
        optimizer.state[parameter] = {
            "step": torch.tensor(float(step)),
            **{moment: torch.zeros_like(parameter) for moment in _MOMENTS},
        }
    with torch.no_grad():
        for key, tensor in _tensors(model, optimizer):
            if key not in entries:
                _refuse(path, f"it has no {key}")
            if entries[key].shape != tuple(tensor.shape):
                shapes = f"{entries[key].shape} and not {tuple(tensor.shape)}"
                _refuse(path, f"{key} has shape {shapes}")
            tensor.copy_(torch.from_numpy(found[key]))
    return step


def _tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> Iterator[Tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        yield f"weights.{name}", parameter
        for moment in _MOMENTS:
            if parameter in optimizer.state:
                yield f"{moment}.{name}", optimizer.state[parameter][moment]


def _refuse(path: Path, why: str) -> None:
    raise ValueError(Errors.PRETRAINING_OTHER_STATE.format(path=path, why=why))
