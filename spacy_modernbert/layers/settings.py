"""What the config of a pipeline says of its encoder."""

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Union

from ..checks import is_int, is_number
from ..encoder.availability import check_backend
from ..encoder.backend import check_precision, check_quantization
from ..errors import Errors


@dataclass(frozen=True)
class EncoderSettings:
    """What the config of a pipeline says of its encoder.

    name (str): The checkpoint to start from: a folder, or a hub id.
    revision (Optional[str]): Commit, tag or branch on the hub.
    backend (str): "auto" or the name of a backend.
    precision (str): "auto" or the name of a precision.
    quantization (Optional[Mapping[str, Any]]): None, or how weights are quantized.
    gradient_checkpointing (Union[bool, str]): True, False or "auto".
    max_batch_wordpieces (int): The most wordpieces that a pass holds.
    frozen_layers (int): How many of the lowest layers are not trained.
    layer_lr_decay (float): How much more slowly each lower layer learns: see
        `encoder.steps.lr_scale`.
    heed_variable (bool): Whether the environment variable wins over the backend. It
        does not where a caller named that, and not a config.

    These are never saved with the weights: a pipeline runs by the settings that it
    is loaded with.

    RAISES (ValueError): If a value cannot be used.
    """

    name: str
    revision: Optional[str] = None
    backend: str = "auto"
    precision: str = "auto"
    quantization: Optional[Mapping[str, Any]] = None
    gradient_checkpointing: Union[bool, str] = "auto"
    max_batch_wordpieces: int = 16384
    frozen_layers: int = 0
    layer_lr_decay: float = 1.0
    heed_variable: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ValueError(Errors.BAD_NAME.format(value=self.name))
        revision = self.revision
        if revision is not None and (not isinstance(revision, str) or not revision):
            raise ValueError(Errors.BAD_REVISION.format(value=revision))
        check_backend(self.backend)
        check_precision(self.precision)
        check_quantization(self.quantization)
        n_wordpieces = self.max_batch_wordpieces
        if not is_int(n_wordpieces) or n_wordpieces < 1:
            raise ValueError(Errors.BAD_BATCH_WORDPIECES.format(value=n_wordpieces))
        checkpointing = self.gradient_checkpointing
        if not isinstance(checkpointing, bool) and checkpointing != "auto":
            raise ValueError(Errors.BAD_CHECKPOINTING.format(value=checkpointing))
        if not is_int(self.frozen_layers) or self.frozen_layers < 0:
            raise ValueError(Errors.BAD_FROZEN_LAYERS.format(value=self.frozen_layers))
        decay = self.layer_lr_decay
        if not is_number(decay) or not 0 < decay <= 1:
            raise ValueError(Errors.BAD_LAYER_LR_DECAY.format(value=decay))
