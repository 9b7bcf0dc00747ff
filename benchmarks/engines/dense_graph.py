"""transformers' model as a module that can be exported: for one document at a time.

Its own forward makes masks in ways that tracing fixes to the traced length. Here they
are made of the length that comes in; the layers are transformers' own. A single
document needs no padding, so the global layers have no mask at all: the strongest form
of a dense peer.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import ModernBertModel

# What the export is traced with. Longer than a window, so that the mask is not trivial.
TRACED_LENGTH = 193


class DenseGraph(nn.Module):
    """One document through transformers' layers.

    model (ModernBertModel): Whose layers.
    additive (bool): Whether the mask of the sliding layers is added to the scores. A
        boolean one is exported to ONNX with a search for NaN beside it.
    """

    def __init__(self, model: Any, additive: bool):
        super().__init__()
        self.model = model
        self.additive = additive
        self.half_window = model.config.local_attention // 2

    def forward(self, input_ids: Tensor) -> Tensor:
        """input_ids (Tensor): `(1, length)` int64.
        RETURNS (Tensor): `(1, length, width)`, the last hidden state.
        """
        positions = torch.arange(input_ids.shape[1])
        distance = (positions[:, None] - positions[None]).abs()
        window = (distance <= self.half_window)[None, None]
        if self.additive:
            window = torch.where(window, 0.0, torch.finfo(torch.float32).min)
        hidden = self.model.embeddings(input_ids)
        for layer in self.model.layers:
            hidden = layer(
                hidden,
                attention_mask=None,
                sliding_window_mask=window,
                position_ids=positions[None],
            )[0]
        result: Tensor = self.model.final_norm(hidden)
        return result


def load_dense_graph(folder: Path, *, additive: bool) -> DenseGraph:
    """RETURNS (DenseGraph): Of the checkpoint in a folder."""
    model = ModernBertModel.from_pretrained(folder, attn_implementation="sdpa")
    return DenseGraph(model, additive).eval()


def traced_input(graph: DenseGraph) -> Tensor:
    """RETURNS (Tensor): `(1, TRACED_LENGTH)`, wordpieces to trace with."""
    vocab_size = graph.model.config.vocab_size
    return torch.arange(TRACED_LENGTH)[None] % vocab_size
