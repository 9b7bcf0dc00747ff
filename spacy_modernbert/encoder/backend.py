"""The switch that picks an encoder."""

import json
import os
from contextlib import contextmanager
from typing import (
    Any,
    Collection,
    Iterator,
    Mapping,
    Optional,
    Tuple,
    Union,
)

from ..errors import Errors
from ..types import Floats
from .availability import (
    BACKENDS,
    PREDICTING,
    check_backend,
    choose,
    find_onnx_provider,
    multiplies_bfloat16,
    require,
)
from .config import ModernBertConfig
from .protocol import Encoder
from .quantize import DEFAULT_GROUP_SIZE, GROUP_SIZES
from .telemetry import import_openvino

PRECISIONS = ("auto", "float32", "bfloat16", "float16")

# NVIDIA's cards from Ampere on.
BFLOAT16_CAPABILITY = (8, 0)

# Overrides the `backend` of a config, so that a pipeline can be opened on another
# machine without changing its config.
BACKEND_VARIABLE = "SPACY_MODERNBERT_BACKEND"


def check_precision(precision: str) -> None:
    """RAISES (ValueError): If there is none of that name."""
    if precision not in PRECISIONS:
        raise ValueError(
            Errors.UNKNOWN_PRECISION.format(
                value=precision, known=", ".join(PRECISIONS)
            )
        )


def check_quantization(quantization: Optional[Mapping[str, Any]]) -> None:
    """RAISES (ValueError): If no backend knows it."""
    if quantization is not None and (
        not isinstance(quantization, Mapping)
        or quantization.keys() - {"bits", "group_size"}
        or quantization.get("bits") not in (4, 8)
        or quantization.get("group_size", DEFAULT_GROUP_SIZE) not in GROUP_SIZES
    ):
        raise ValueError(Errors.BAD_QUANTIZATION.format(value=quantization))


def resolve_backend(
    backend: str,
    *,
    to_train: bool,
    precision: str = "auto",
    quantization: Optional[Mapping[str, Any]] = None,
    among: Collection[str] = BACKENDS,
    heed_variable: bool = True,
) -> str:
    """The backend that is meant.

    backend (str): "auto" or the name of one. The environment variable
        `SPACY_MODERNBERT_BACKEND` wins.
    to_train (bool): Whether the encoder must train, too.
    precision (str): "auto" or the name of a precision, which "auto" heeds.
    quantization (Optional[Mapping[str, Any]]): None, or one that some backend knows.
        "auto" takes no backend without it.
    among (Collection[str]): What "auto" may take, including "cpu".
    heed_variable (bool): Whether the environment variable wins. It should not where
        the caller named the backend, rather than a config: then that one is meant.
    RETURNS (str): The name of one that can run here.
    RAISES (ValueError): If the name is unknown, or the backend cannot run here, or
        cannot train and has to.
    """
    with naming_variable(heed_variable) as variable:
        backend = check_backend(variable or backend)
        if backend == "auto":
            able = [each for each in among if _quantizes(each, quantization)]
            choice = choose(
                to_train=to_train,
                precision=precision,
                quantized=quantization is not None,
                among=able,
            )
            return choice.backend
        if to_train and backend in PREDICTING:
            raise ValueError(Errors.BACKEND_CANNOT_TRAIN.format(value=backend))
        return require(backend)


@contextmanager
def naming_variable(heed_variable: bool = True) -> Iterator[Optional[str]]:
    """Within this context, errors say so if it was the environment variable that named
    the backend.

    heed_variable (bool): Whether the environment variable wins: see `resolve_backend`.
    YIELDS (Optional[str]): The backend that it names, where it wins.
    RAISES (ValueError): In the place of one that is raised within.
    """
    variable = os.environ.get(BACKEND_VARIABLE) if heed_variable else None
    try:
        yield variable
    except ValueError as error:
        if not variable:
            raise
        message = Errors.BACKEND_OF_VARIABLE.format(
            error=error, variable=BACKEND_VARIABLE, value=variable
        )
        raise ValueError(message) from error


def resolve_settings(
    backend: str,
    precision: str,
    quantization: Optional[Mapping[str, Any]],
    *,
    to_train: bool,
    heed_variable: bool = True,
) -> Tuple[str, str]:
    """The backend and the precision that are meant, checked with the quantization.

    backend, precision (str): "auto" or names.
    quantization (Optional[Mapping[str, Any]]): None, or one that some backend knows.
    to_train, heed_variable (bool): See `resolve_backend`.
    RETURNS (Tuple[str, str]): The name of a backend, and that of a precision.
    RAISES (ValueError): If the backend cannot run here, or has no such precision or
        quantization.
    """
    backend = resolve_backend(
        backend,
        to_train=to_train,
        precision=precision,
        quantization=quantization,
        heed_variable=heed_variable,
    )
    # Only here, where it is known who chose the backend. Encoders are given the result.
    with naming_variable(heed_variable):
        precision = resolve_precision(precision, backend)
        require_quantization(quantization, backend, precision)
    return backend, precision


def resolve_precision(precision: str, backend: str) -> str:
    """The precision that is meant.

    precision (str): "auto" or the name of one. "auto" is bfloat16 where the device
        multiplies it natively, else float32.
    backend (str): A backend that can run here, not "auto".
    RETURNS (str): The name of one.
    RAISES (ValueError): If the backend has none of that name here.
    """
    if precision == "auto":
        prefers_bfloat16 = backend == "cuda" or (
            backend in ("cpu", "openvino") and multiplies_bfloat16()
        )
        if prefers_bfloat16 and "bfloat16" in known_precisions(backend):
            return "bfloat16"
        return "float32"
    if precision == "float32":  # which all have
        return precision
    known = known_precisions(backend)
    if precision not in known:
        raise ValueError(
            Errors.PRECISION_UNAVAILABLE.format(
                backend=backend, value=precision, known=", ".join(("auto", *known))
            )
        )
    return precision


def known_precisions(backend: str) -> Tuple[str, ...]:
    """The precisions that a backend has on this machine, even if some are slow.

    backend (str): A backend that can run here, not "auto".
    RETURNS (Tuple[str, ...]): The names, "float32" first.
    """
    if backend == "onnx":
        floats = ("float32", "float16")
        return tuple(each for each in floats if find_onnx_provider(each))
    if backend == "openvino":
        # Without "BF16", it would silently compute in float32.
        able = import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return ("float32", "bfloat16") if "BF16" in able else ("float32",)
    has_bfloat16 = True
    if backend == "cuda":
        import torch

        # Of the current GPU, which the encoder is made on.
        capability = torch.cuda.get_device_capability()
        has_bfloat16 = capability >= BFLOAT16_CAPABILITY
    elif backend == "mps":
        import torch

        has_bfloat16 = torch.backends.mps.is_macos_or_newer(14, 0)
    return tuple(each for each in PRECISIONS[1:] if each != "bfloat16" or has_bfloat16)


def require_quantization(
    quantization: Optional[Mapping[str, Any]], backend: str, precision: str
) -> None:
    """Check that a backend has a quantization.

    quantization (Optional[Mapping[str, Any]]): None, or one that some backend knows.
    backend (str): The name of a backend, not "auto".
    precision (str): The name of a precision that it has here, not "auto".
    RAISES (ValueError): If it has none such.
    """
    if quantization is None:
        return
    if not _quantizes(backend, quantization):
        known = [q for q in (None, {"bits": 8}) if _quantizes(backend, q)]
        others = [each for each in BACKENDS[1:] if _quantizes(each, quantization)]
        raise ValueError(
            Errors.QUANTIZATION_UNAVAILABLE.format(
                backend=backend,
                value=json.dumps(dict(quantization)),
                known=" or ".join(map(json.dumps, known)),
                others=", ".join(map(repr, others)),
            )
        )
    if backend == "onnx" and precision != "float32":
        raise ValueError(
            Errors.QUANTIZED_PRECISION.format(backend=backend, value=precision)
        )


def _quantizes(backend: str, quantization: Optional[Mapping[str, Any]]) -> bool:
    if quantization is None or backend == "mlx":
        return True
    return backend not in ("cuda", "mps") and dict(quantization) == {"bits": 8}


def make_encoder(
    config: ModernBertConfig,
    tensors: Mapping[str, Floats],
    *,
    backend: str = "auto",
    precision: str = "auto",
    quantization: Optional[Mapping[str, Any]] = None,
    gradient_checkpointing: Union[bool, str] = "auto",
    frozen_layers: int = 0,
    to_train: bool = False,
    heed_variable: bool = True,
) -> Encoder:
    """An encoder on the device that the backend names.

    config (ModernBertConfig): The config.
    tensors (Mapping[str, Floats]): The weights. They are copied, one at a time.
    backend (str): "auto" or the name of a backend: see `resolve_backend`.
    precision (str): "auto", "float32", "bfloat16" or "float16": what matrices are
        multiplied in. "auto" takes bfloat16 where the device multiplies it natively.
    quantization (Optional[Mapping[str, Any]]): None, or `{"bits": 8}`, and for MLX
        `{"bits": 8 | 4, "group_size": 64}`.
    gradient_checkpointing (Union[bool, str]): True, False or "auto".
    frozen_layers (int): How many of the lowest layers are not trained. If there are
        any, the embeddings are not trained either.
    to_train (bool): Whether it must train. If not, "auto" takes what predicts the
        fastest.
    heed_variable (bool): Whether the environment variable wins over the backend.
    RETURNS (Encoder): The encoder.
    RAISES (ValueError): If a name is unknown, the backend cannot run here or has no
        such precision or quantization, or more layers are to be frozen than there are.
    """
    check_precision(precision)
    if frozen_layers > config.num_hidden_layers:
        raise ValueError(
            Errors.TOO_MANY_FROZEN.format(
                value=frozen_layers, n_layers=config.num_hidden_layers
            )
        )
    backend, precision = resolve_settings(
        backend,
        precision,
        quantization,
        to_train=to_train,
        heed_variable=heed_variable,
    )
    # Each backend is imported when it is taken: none needs the libraries of another.
    if backend == "openvino":
        from .openvino.encoder import OpenVinoEncoder

        return OpenVinoEncoder(
            config, tensors, precision=precision, quantization=quantization
        )
    if backend == "onnx":
        from .onnx.encoder import OnnxEncoder

        return OnnxEncoder(
            config, tensors, precision=precision, quantization=quantization
        )
    if backend == "mlx":
        from .mlx.encoder import MLXEncoder

        # It checkpoints gradients always, which costs it nothing.
        return MLXEncoder(
            config,
            tensors,
            precision=precision,
            quantization=quantization,
            frozen_layers=frozen_layers,
        )

    from .torch.encoder import TorchEncoder

    return TorchEncoder(
        config,
        tensors,
        device=_torch_device(backend),
        precision=precision,
        quantization=quantization,
        gradient_checkpointing=gradient_checkpointing,
        frozen_layers=frozen_layers,
    )


def make_reference(config: ModernBertConfig, tensors: Mapping[str, Floats]) -> Encoder:
    """An encoder that others are compared with: in float32 on the CPU, which every
    machine has. The environment variable has no say, since it is for what pipelines run
    on: a comparison would depend on it, or fail.

    config (ModernBertConfig): The config.
    tensors (Mapping[str, Floats]): The weights. They are copied, one at a time.
    RETURNS (Encoder): The encoder.
    """
    return make_encoder(
        config, tensors, backend="cpu", precision="float32", heed_variable=False
    )


def _torch_device(backend: str) -> Any:
    import torch

    if backend == "cuda":
        # Of several GPUs, the one that spaCy's `--gpu-id` chose.
        return torch.device(backend, torch.cuda.current_device())
    return torch.device(backend)
