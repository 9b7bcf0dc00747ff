"""When the backward pass recomputes what the forward pass could have kept (gradient
checkpointing: Chen et al., 2016, https://arxiv.org/abs/1604.06174).
"""

from typing import Union

import torch

from ...errors import Errors
from ..config import ModernBertConfig

# "auto" recomputes if the activations that a pass would keep are larger than this; on
# CUDA, if they are larger than this share of the memory that is free.
_AUTO_BYTES = 2 << 30
_AUTO_SHARE = 0.5


def recomputes(
    setting: Union[bool, str],
    config: ModernBertConfig,
    device: torch.device,
    dtype: torch.dtype,
    n_trained: int,
    total: int,
) -> bool:
    """Whether a pass keeps only what enters its layers.

    setting (Union[bool, str]): True, False or "auto".
    config (ModernBertConfig): The config.
    device (torch.device): Where it runs.
    dtype (torch.dtype): What it multiplies in.
    n_trained (int): How many layers are trained.
    total (int): The wordpieces of the pass.
    RETURNS (bool): Whether it recomputes the rest.
    RAISES (ValueError): If it is to and cannot.
    """
    if device.type == "mps" and config.has_dropout:
        # Torch does not restore the random numbers of MPS, so that the second time,
        # something else would be dropped out.
        if setting is True:
            raise ValueError(Errors.CHECKPOINTING_DROPS_OUT)
        return False
    if isinstance(setting, bool):
        return setting
    # Of each layer, autograd keeps about nine arrays as wide as the hidden state and
    # three as wide as the MLP.
    numbers = 9 * config.hidden_size + 3 * config.intermediate_size
    if device.type != "cuda":
        return 4 * total * n_trained * numbers > _AUTO_BYTES
    room = _AUTO_SHARE * _free_bytes(device)
    return dtype.itemsize * total * n_trained * numbers > room


def _free_bytes(device: torch.device) -> int:
    """RETURNS (int): What a GPU has left, and what torch has taken of it and not given
    to any tensor.
    """
    free, _ = torch.cuda.mem_get_info(device)
    taken = torch.cuda.memory_reserved(device)
    return int(free + taken - torch.cuda.memory_allocated(device))
