"""A pass to predict on CUDA, in which all that stands between the matrix products is
fused into kernels of our own (`triton_kernels`).

Where they are not available, the modules of `model` compute the same.
"""

from typing import List, cast

import torch
from torch import Tensor, nn

from .attention import AttentionPlan, attend
from .kernels import load_kernels
from .model import Layer, ModernBert


def forward_fused(model: ModernBert, ids: Tensor, plan: AttentionPlan) -> Tensor:
    """Predict.

    model (ModernBert): The model.
    ids (Tensor): `(total,)` int64.
    plan (AttentionPlan): The plan of the batch.
    RETURNS (Tensor): `(total, width)`, the last hidden state.
    """
    kernels = load_kernels()
    x = model.embeddings(ids)
    normed = x
    layers = cast(List[Layer], list(model.layers))
    # A branch is added to the residual stream by the kernel that then norms the sum:
    # for the MLP, for the next layer, and at the end.
    norms = [cast(nn.LayerNorm, layer.attn_norm) for layer in layers[1:]]
    for layer, next_norm in zip(layers, [*norms, model.final_norm], strict=True):
        attn, mlp = layer.attn, layer.mlp
        qkv = attn.Wqkv(normed).unflatten(-1, (3, -1, attn.head_dim))
        rotation = plan.rotations[attn.layer_type]
        query, key, value = kernels.rotate_(qkv, rotation).unbind(1)
        attended = attend(attn.layer_type, query, key, value, plan, 0.0)
        branch = attn.Wo(attended.flatten(1))
        normed = kernels.add_and_norm(x, branch, layer.mlp_norm, branch.dtype)
        branch = mlp.Wo(kernels.geglu(mlp.Wi(normed)))
        is_last = next_norm is model.final_norm
        dtype = torch.float32 if is_last else branch.dtype
        normed = kernels.add_and_norm(x, branch, next_norm, dtype)
    hidden: Tensor = normed
    return hidden
