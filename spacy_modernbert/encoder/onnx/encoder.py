"""ModernBERT in ONNX Runtime, to predict: on a processor, or where it has a provider.

Nothing has to be exported beforehand: the session is made of the weights in memory.
The oracle for the numbers is transformers' `ModernBertModel`.
"""

from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Union

import numpy as np
import onnxruntime as ort

from ...errors import Errors
from ...types import Floats, PackedBatch
from ..availability import find_onnx_provider, multiplies_int8
from ..config import ModernBertConfig
from ..predicting import PredictingEncoder, count_threads, current_gpu
from .graph import CU_SEQLENS, INPUT_IDS, OUTPUT, build_graph
from .quantized import quantize_graph, quantize_weights


class OnnxEncoder(PredictingEncoder[ort.InferenceSession]):
    """ModernBERT in ONNX Runtime. It predicts only. See `protocol.Encoder`.

    The weights are held twice, once by ONNX Runtime. Even if that has quantized ones,
    the exact ones are kept, so that what is saved is what was loaded.
    """

    backend = "onnx"

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
        precision (str): "float32"; on a GPU, and by CoreML, "float16". As for the
            quantization, `make_encoder` checks it.
        quantization (Optional[Mapping[str, Any]]): None, or `{"bits": 8}`: weights of
            8 bits, and what is multiplied with them rounded to as many.
        """
        self._precision = precision
        self._is_quantized = quantization is not None
        self._provider = find_onnx_provider(precision, quantized=self._is_quantized)
        # Asked now, since the thread that makes the session may have another GPU.
        on_cuda = self._provider == "CUDAExecutionProvider"
        self._gpu = current_gpu() if on_cuda else 0
        self.device = f"onnx:{self._provider}"
        super().__init__(config, tensors)

    def _make(self, n_threads: int) -> ort.InferenceSession:
        model = build_graph(self.config, self._precision)
        if self._is_quantized:
            is_signed = multiplies_int8()
            model = quantize_graph(model, is_signed)
            weights = dict(quantize_weights(self._tensors, is_signed))
        else:
            weights = {
                name: array.astype(self._precision)
                for name, array in self._tensors.items()
            }
        return open_session(
            model.SerializeToString(),
            self._provider,
            {
                name: ort.OrtValue.ortvalue_from_numpy(array)
                for name, array in weights.items()
            },
            gpu=self._gpu,
            n_threads=n_threads,
        )

    def _run(self, made: ort.InferenceSession, batch: PackedBatch) -> Floats:
        return run_session(made, batch)


def open_session(
    model: Union[Path, bytes],
    provider: str = "CPUExecutionProvider",
    weights: Optional[Mapping[str, ort.OrtValue]] = None,
    *,
    gpu: int = 0,
    n_threads: Optional[int] = None,
) -> ort.InferenceSession:
    """Let ONNX Runtime load a model.

    model (Union[Path, bytes]): The file, or its bytes.
    provider (str): The execution provider. What it cannot do, the processor does.
    weights (Optional[Mapping[str, ort.OrtValue]]): Those that are not in the model.
    gpu (int): Which of several GPUs, for a provider of CUDA.
    n_threads (Optional[int]): The threads; 0 for one on each core, None for as many as
        torch has.
    RETURNS (InferenceSession): The session.
    RAISES (ValueError): If the provider is there and cannot work.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = count_threads() if n_threads is None else n_threads
    # Threads that spin between two passes would take the processor from spaCy.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Else it plans memory for every length that occurs, and remembers the plan.
    options.enable_mem_pattern = False
    if weights:
        options.add_external_initializers(list(weights), list(weights.values()))
    session = ort.InferenceSession(
        model if isinstance(model, bytes) else str(model),
        options,
        providers=[
            (each, _provider_options(each, gpu))
            for each in dict.fromkeys((provider, "CPUExecutionProvider"))
        ],
    )
    # Without the libraries of CUDA, ONNX Runtime silently uses the processor.
    if provider not in session.get_providers():
        raise ValueError(Errors.ONNX_PROVIDER.format(provider=provider))
    return session


def run_session(session: ort.InferenceSession, batch: PackedBatch) -> Floats:
    """Run an encoder.

    session (InferenceSession): A graph of `build_graph`.
    batch (PackedBatch): The sequences, at least one.
    RETURNS (Floats): `(total, width)` float32, the last hidden state.
    """
    inputs = {
        INPUT_IDS: batch.ids.astype(np.int64),
        CU_SEQLENS: batch.cu_seqlens.astype(np.int64),
    }
    (hidden,) = session.run([OUTPUT], inputs)
    return hidden


def _provider_options(provider: str, gpu: int) -> Dict[str, str]:
    if provider != "CUDAExecutionProvider":
        return {}
    # float32 must not be multiplied in a shorter type.
    return {"device_id": str(gpu), "use_tf32": "0"}
