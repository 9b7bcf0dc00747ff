"""ModernBERT as modules of torch, on packed sequences.

Modules and parameters have the names that they have in a checkpoint, so that no
table of names is needed.
"""

from functools import partial
from itertools import islice
from typing import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import (
    checkpoint,
    create_selective_checkpoint_contexts,
    noop_context_fn,
)

from ..config import FULL, ModernBertConfig
from .attention import AttentionPlan, attend
from .geglu import geglu, geglu_
from .host_memory import give_back
from .projection import Projection
from .rope import rotate, rotate_
from .tiled_attention import ATTEND_IN_TILES

# Attention is kept, not recomputed: the time to compute it grows with the square of the
# length, while the memory to keep it does not.
_keep_attention = partial(
    create_selective_checkpoint_contexts,
    [
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
        ATTEND_IN_TILES,
    ],
)

# From two widths, and whether there is a bias.
Project = Callable[[int, int, bool], Projection]

# Where the weights of a norm get wrong gradients if what enters it needs none: on MPS
# before torch 2.13 (https://github.com/pytorch/pytorch/issues/183825).
_NORMS_NEED_GRADIENT = ("mps",)

# Where the vector of padding gets a gradient: on MPS before torch 2.13
# (https://github.com/pytorch/pytorch/issues/103023).
_PADDING_GETS_GRADIENT = ("mps",)


class Embeddings(nn.Module):
    """The vectors that enter the first layer, normed."""

    def __init__(self, config: ModernBertConfig):
        """config (ModernBertConfig): The config."""
        super().__init__()
        # Not from a size alone: to draw numbers on the meta device imports
        # torch._dynamo, which takes seconds.
        self.tok_embeddings = nn.Embedding.from_pretrained(
            torch.empty(config.vocab_size, config.hidden_size),
            freeze=False,
            padding_idx=config.pad_token_id,
        )
        self.norm = _norm(config)
        self.drop = nn.Dropout(config.embedding_dropout)

    def forward(self, ids: Tensor) -> Tensor:
        """ids (Tensor): `(total,)` int64.
        RETURNS (Tensor): `(total, width)`.
        """
        vectors = self.tok_embeddings(ids)
        padding = self.tok_embeddings.padding_idx
        gets_gradient = ids.device.type in _PADDING_GETS_GRADIENT
        if padding is not None and gets_gradient and torch.is_grad_enabled():
            is_padding = ids == padding
            vectors = vectors.where(~is_padding[:, None], vectors.detach())
        return self.drop(self.norm(vectors))


class Attention(nn.Module):
    """The attention of a layer, with its projections."""

    def __init__(self, config: ModernBertConfig, layer_type: str, project: Project):
        """config (ModernBertConfig): The config.
        layer_type (str): "full_attention" or "sliding_attention".
        project (Project): Makes the projections.
        """
        super().__init__()
        self.layer_type = layer_type
        self.head_dim = config.head_dim
        self.dropout = config.attention_dropout
        width = config.hidden_size
        self.Wqkv = project(width, 3 * width, config.attention_bias)
        self.Wo = project(width, width, config.attention_bias)
        self.drop = nn.Dropout(config.attention_dropout)

    def forward(self, x: Tensor, plan: AttentionPlan) -> Tensor:
        """x (Tensor): `(total, width)`.
        plan (AttentionPlan): The plan of the batch.
        RETURNS (Tensor): `(total, width)`.
        """
        qkv = self.Wqkv(x).unflatten(-1, (3, -1, self.head_dim))
        turn = rotate if torch.is_grad_enabled() else rotate_
        query, key, value = turn(qkv, plan.rotations[self.layer_type]).unbind(1)
        dropout = self.dropout if self.training else 0.0
        attended = attend(self.layer_type, query, key, value, plan, dropout)
        return self.drop(self.Wo(attended.flatten(1)))


class MLP(nn.Module):
    """The feed-forward part of a layer: GeGLU between two projections."""

    def __init__(self, config: ModernBertConfig, project: Project):
        """config (ModernBertConfig): The config.
        project (Project): Makes the projections.
        """
        super().__init__()
        inner, width = config.intermediate_size, config.hidden_size
        self.Wi = project(width, 2 * inner, config.mlp_bias)
        self.Wo = project(inner, width, config.mlp_bias)
        self.drop = nn.Dropout(config.mlp_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x (Tensor): `(total, width)`.
        RETURNS (Tensor): `(total, width)`.
        """
        gated = (geglu if torch.is_grad_enabled() else geglu_)(self.Wi(x))
        return self.Wo(self.drop(gated))


class Layer(nn.Module):
    """The residual stream and the norms are float32, whatever is multiplied in."""

    def __init__(self, config: ModernBertConfig, index: int, project: Project):
        """config (ModernBertConfig): The config.
        index (int): Which layer, from 0.
        project (Project): Makes the projections.
        """
        super().__init__()
        # What enters the first layer was normed by the embeddings.
        self.attn_norm = _norm(config) if index > 0 else nn.Identity()
        self.attn = Attention(config, config.layer_types[index], project)
        self.mlp_norm = _norm(config)
        self.mlp = MLP(config, project)

    def forward(self, x: Tensor, plan: AttentionPlan) -> Tensor:
        """x (Tensor): `(total, width)`. Overwritten where no gradient is asked for.
        plan (AttentionPlan): The plan of the batch.
        RETURNS (Tensor): `(total, width)`.
        """
        add = torch.add if torch.is_grad_enabled() else Tensor.add_
        x = add(x, self.attn(self.attn_norm(x), plan))
        return add(x, self.mlp(self.mlp_norm(x)))


class ModernBert(nn.Module):
    """The encoder: wordpieces to the last hidden state."""

    def __init__(self, config: ModernBertConfig, frozen_layers: int, project: Project):
        """config (ModernBertConfig): The config.
        frozen_layers (int): How many of the lowest layers are not trained. If there are
            any, the embeddings are not trained either.
        project (Project): Makes the projections.
        """
        super().__init__()
        self.frozen_layers = frozen_layers
        self.layer_types = config.layer_types
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(
            Layer(config, index, project) for index in range(config.num_hidden_layers)
        )
        self.final_norm = _norm(config)

    def prepare(self) -> None:
        """Prepare the weights for prediction now, so that their memory counts as that
        of the encoder and not of a pass.
        """
        for projection in self._projections():
            projection.prepared()

    def weights_changed(self) -> None:
        """Discard what was made of older weights: it is made again when needed."""
        for projection in self._projections():
            # Those of frozen layers stay as they are, and are run without gradients.
            if projection.weight.requires_grad:
                projection.weights_changed()

    def _projections(self) -> Iterator[Projection]:
        return (each for each in self.modules() if isinstance(each, Projection))

    def forward(
        self, ids: Tensor, plan: AttentionPlan, recompute: bool = False
    ) -> Tensor:
        """ids (Tensor): `(total,)` int64.
        plan (AttentionPlan): The plan of the batch.
        recompute (bool): Keep only what enters each layer and, on the CPU, what global
            attention gives, and recompute the rest in the backward pass (gradient
            checkpointing).
        RETURNS (Tensor): `(total, width)`, the last hidden state.
        """
        if self.frozen_layers == 0:
            x = self.embeddings(ids)
        else:
            with torch.no_grad():
                x = self.embeddings(ids)
                for layer in islice(self.layers, self.frozen_layers):
                    x = layer(x, plan)
            if torch.is_grad_enabled() and ids.device.type in _NORMS_NEED_GRADIENT:
                x.requires_grad_()
        layers = zip(self.layers, self.layer_types, strict=True)
        on_host = ids.device.type == "cpu"
        for layer, layer_type in islice(layers, self.frozen_layers, None):
            if not recompute:
                x = layer(x, plan)
                continue
            keeps = on_host and layer_type == FULL
            context = _keep_attention if keeps else noop_context_fn
            x = checkpoint(layer, x, plan, use_reentrant=False, context_fn=context)
            if on_host:
                # Of this layer; and of the one above it, on the way back.
                give_back()
                x.register_hook(lambda d_x: give_back())
        return self.final_norm(x)


def _norm(config: ModernBertConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.norm_bias)
