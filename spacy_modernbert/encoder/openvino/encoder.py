"""ModernBERT by OpenVINO, on the CPU. It predicts only.

OpenVINO makes its own form of the weights. The arrays that the graph was made from stay
beside it: they are what is saved, and what another backend takes over.
"""

from dataclasses import dataclass
from math import gcd
from typing import Any, Mapping, Optional

import numpy as np
import openvino as ov

from ...types import Floats, PackedBatch
from ..availability import has_amx
from ..config import ModernBertConfig
from ..predicting import PredictingEncoder
from .batch import BlockShape, group_by_length, make_inputs
from .graph import Graph

_TYPES = {"float32": ov.Type.f32, "bfloat16": ov.Type.bf16}

# At least this many inputs of a product share a scale, if there are as many, since each
# group costs a sum of its own in float32.
_MIN_GROUP = 128

# The size of a group if the widths of an encoder have no such divisor in common.
_USUAL_GROUP = 256

# What the plugin's kernels want the size of a group to be a multiple of. With other
# sizes it quantizes no activations.
_SIMD = 16


@dataclass(frozen=True)
class ElementTypes:
    """What is computed in which type.

    compiled (ov.Type): What the float32 of the graph is compiled as.
    attention (ov.Type): The type that attention is computed in. Compiling leaves
        bfloat16 as it is.
    quantized (bool): Whether projections have their weights in int8.
    group_size (int): How many inputs of a projection share a scale, where the plugin
        quantizes them, too; 0 where it does not.
    """

    compiled: ov.Type
    attention: ov.Type
    quantized: bool
    group_size: int

    @classmethod
    def of(
        cls, config: ModernBertConfig, precision: str, *, quantized: bool
    ) -> "ElementTypes":
        """config (ModernBertConfig): The config.
        precision (str): "float32" or "bfloat16".
        quantized (bool): Whether weights are int8.
        RETURNS (ElementTypes): The quickest for this processor.
        """
        element_type = _TYPES[precision]
        # The plugin quantizes activations only in graphs of float32, and then
        # multiplies int8 by VNNI and not by tiles (AMX). Tiles in bfloat16 are faster
        # than that: so with AMX, int8 weights are converted to bfloat16 on the way.
        if not quantized or (precision == "bfloat16" and has_amx()):
            return cls(element_type, ov.Type.f32, quantized, 0)
        return cls(ov.Type.f32, element_type, True, _group_size(config))


def _group_size(config: ModernBertConfig) -> int:
    widths = (config.hidden_size, config.intermediate_size)
    shared = gcd(*widths)
    if shared < _MIN_GROUP or shared % _SIMD:
        # The last group of some projection is smaller.
        shared = min(_USUAL_GROUP, *widths)
    return shared // _SIMD * _SIMD


class OpenVinoEncoder(PredictingEncoder[ov.CompiledModel]):
    """ModernBERT by OpenVINO. See `protocol.Encoder`.

    The graph is compiled when it is first run: so a process that is forked before that
    costs nothing, and one that is forked afterwards compiles its own.
    """

    backend = "openvino"
    device = "openvino:CPU"

    def __init__(
        self,
        config: ModernBertConfig,
        tensors: Mapping[str, Any],
        *,
        precision: str = "float32",
        quantization: Optional[Mapping[str, Any]] = None,
    ):
        """config (ModernBertConfig): The config.
        tensors (Mapping[str, Any]): The weights, each read once and copied.
        precision (str): "float32" or, if the processor has it, "bfloat16". As for the
            quantization, `make_encoder` checks it.
        quantization (Optional[Mapping[str, Any]]): None, or `{"bits": 8}`.
        """
        self._types = ElementTypes.of(
            config, precision, quantized=quantization is not None
        )
        super().__init__(config, tensors)

    def _make(self, n_threads: int) -> ov.CompiledModel:
        types = self._types
        graph = Graph(
            self.config,
            self._tensors,
            quantized=types.quantized,
            attention=types.attention,
        )
        model = graph.build(*BlockShape.shape_of(self.config))
        properties = {
            "INFERENCE_PRECISION_HINT": types.compiled,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": types.group_size,
            "INFERENCE_NUM_THREADS": n_threads,
            # One request at a time on all threads. More would each need memory.
            "NUM_STREAMS": 1,
            # Where a process is bound to cores, or has siblings, the system knows
            # better.
            "ENABLE_CPU_PINNING": False,
        }
        return ov.Core().compile_model(model, "CPU", properties)

    def _run(self, made: ov.CompiledModel, batch: PackedBatch) -> Floats:
        hidden = np.empty((batch.total, self.config.hidden_size), dtype=np.float32)
        # Each call has a request of its own: threads share only the graph.
        request = made.create_infer_request()
        for group in group_by_length(batch.lengths):
            inputs = make_inputs(batch, group, self.config)
            outputs = request.infer(inputs, share_inputs=True, share_outputs=True)
            rows = outputs[0].reshape(*inputs["ids"].shape, -1)
            for row, index in zip(rows, group, strict=True):
                start, end = batch.cu_seqlens[index : index + 2]
                hidden[start:end] = row[: end - start]
        return hidden
