"""ModernBERT with its head for masked language modelling, in torch.

Parameters have the names that they have in transformers' `ModernBertForMaskedLM`, which
is the oracle: an encoder that was pretrained here can be trained on there, and the
other way round.
"""

from functools import partial
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..encoder.config import ModernBertConfig
from ..encoder.head import head_shapes
from ..encoder.rounding import round_up
from ..encoder.torch.attention import AttentionPlan, plan_attention
from ..encoder.torch.flash import FlashAttention, find_flash_attention
from ..encoder.torch.model import ModernBert, Project
from ..encoder.torch.projection import Projection, cast
from ..encoder.torch.shapes import counts_shapes, round_batch
from ..encoder.torch.transfer import to_device
from ..encoder.weights import HEAD_PREFIX
from .masking import MaskedBatch


class PredictionHead(nn.Module):
    """From the last hidden state to what is compared with the embedding table."""

    def __init__(self, config: ModernBertConfig, project: Project):
        super().__init__()
        width = config.hidden_size
        has_bias = "head.dense.bias" in head_shapes(config)
        self.dense = project(width, width, has_bias)
        self.norm = nn.LayerNorm(width, eps=config.norm_eps, bias=config.norm_bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden (Tensor): `(n_masked, width)`.
        RETURNS (Tensor): `(n_masked, width)` float32.
        """
        return self.norm(F.gelu(self.dense(hidden)).float())


class Decoder(nn.Module):
    """Scores of all wordpieces. The weights are those of the embedding table."""

    def __init__(self, config: ModernBertConfig, dtype: torch.dtype):
        super().__init__()
        self._dtype = dtype
        has_bias = "decoder.bias" in head_shapes(config)
        self.bias: Optional[nn.Parameter] = None
        if has_bias:
            self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, table: Tensor) -> Tensor:
        """hidden (Tensor): `(n_masked, width)`.
        table (Tensor): `(vocab_size, width)`, the embedding table.
        RETURNS (Tensor): `(n_masked, vocab_size)`, the scores.
        """
        return cast(table, self.bias, self._dtype)(hidden)


class MaskedLM(nn.Module):
    """Weights are kept and stepped in float32, whatever is multiplied in. Whoever steps
    them calls `weights_changed`.
    """

    def __init__(
        self,
        config: ModernBertConfig,
        dtype: torch.dtype,
        flash: Optional[FlashAttention] = None,
    ):
        super().__init__()
        self.config = config
        self._dtype = dtype
        self._flash = flash
        project = partial(Projection, dtype=dtype, prepare=cast)
        self.model = ModernBert(config, 0, project)
        self.head = PredictionHead(config, project)
        self.decoder = Decoder(config, dtype)

    def forward(
        self,
        ids: Tensor,
        plan: AttentionPlan,
        positions: Tensor,
        recompute: bool = False,
    ) -> Tensor:
        """ids (Tensor): `(total,)` int64.
        plan (AttentionPlan): The plan of the batch.
        positions (Tensor): `(n_masked,)` int64, those of the masked wordpieces. Scores
            are computed there only: all of them would be many times the hidden state.
        recompute (bool): See `ModernBert`.
        RETURNS (Tensor): `(n_masked, vocab_size)`, the scores.
        """
        hidden = self.model(ids, plan, recompute)[positions]
        return self.decoder(self.head(hidden), self.table)

    @property
    def table(self) -> Tensor:
        """RETURNS (Tensor): `(vocab_size, hidden_size)`, the embedding table."""
        return self.model.embeddings.tok_embeddings.weight

    def score(
        self, masked: MaskedBatch, recompute: bool = False
    ) -> Tuple[Tensor, Tensor]:
        """Predict the masked wordpieces.

        masked (MaskedBatch): The batch.
        recompute (bool): See `ModernBert`.
        RETURNS (Tuple[Tensor, Tensor]): The sum of the cross-entropies in nats, and how
            many wordpieces were predicted correctly; both on the device.
        """
        device = self.table.device
        batch, positions = masked.batch, masked.positions
        n_masked = len(positions)
        if counts_shapes(device, self._dtype):
            batch = round_batch(batch)
            positions = np.pad(positions, (0, round_up(n_masked) - n_masked))
        ids, selected, targets = (
            to_device(array, device) for array in (batch.ids, positions, masked.targets)
        )
        # Flash attention drops nothing out.
        drops_out = self.training and self.config.attention_dropout > 0
        kernel = None if drops_out else self._flash
        plan = plan_attention(batch, self.config, device, kernel)
        scores = self(ids, plan, selected, recompute)[:n_masked].float()
        loss = F.cross_entropy(scores, targets, reduction="sum")
        return loss, (scores.argmax(-1) == targets).sum()

    @classmethod
    def from_tensors(
        cls,
        config: ModernBertConfig,
        tensors: Mapping[str, Any],
        head: Mapping[str, Any],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> "MaskedLM":
        """config (ModernBertConfig): The config.
        tensors (Mapping[str, NDArray]): The encoder's weights.
        head (Mapping[str, NDArray]): The head's weights.
        device (torch.device): Where to run.
        dtype (torch.dtype): What matrices are multiplied in.
        RETURNS (MaskedLM): The model.
        """
        flash = find_flash_attention(device, dtype, config.head_dim, to_train=True)
        with torch.device("meta"):
            model = cls(config, dtype, flash)
        model.to_empty(device=device)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                in_encoder = name.startswith(HEAD_PREFIX)
                source = tensors if in_encoder else head
                weights = source[name.removeprefix(HEAD_PREFIX)]
                parameter.copy_(torch.from_numpy(np.asarray(weights, np.float32)))
        return model

    def weights_changed(self) -> None:
        """Discard the forms for predicting, which were made of older weights."""
        self.model.weights_changed()
        self.head.dense.weights_changed()

    def tensors(self) -> Dict[str, Any]:
        """RETURNS (Dict[str, NDArray]): The encoder's weights, by their names in
        transformers' `ModernBertModel`. On the CPU they are views.
        """
        return dict(_arrays(self.model))

    def head_tensors(self) -> Dict[str, Any]:
        """RETURNS (Dict[str, NDArray]): The head's weights, likewise, by their names in
        `ModernBertForMaskedLM`.
        """
        return {
            name: array
            for name, array in _arrays(self)
            if not name.startswith(HEAD_PREFIX)
        }


def _arrays(module: nn.Module) -> Iterator[Tuple[str, Any]]:
    for name, parameter in module.named_parameters():
        yield name, parameter.detach().cpu().numpy()
