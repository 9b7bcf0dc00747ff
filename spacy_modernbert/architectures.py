"""Registered Thinc architectures: what a config file names."""

import importlib.util
from typing import Any, Dict, List, Optional, Union

from spacy.tokens import Doc
from spacy.util import registry
from thinc.api import Model
from thinc.types import Floats2d, Ragged

from .checks import is_number
from .errors import Errors
from .layers.encode import encode_docs
from .layers.pool import pool_tokens
from .layers.settings import EncoderSettings
from .layers.shim import EncoderShim
from .layers.standardize import standardized
from .layers.tok2vec import keep_vectors, modernbert_tok2vec
from .span_getters import SpanGetter, ensure_span_getters_registry

_BATCH_NAME = "spacy-modernbert.ModernBertModel.v1"


# Thinc resolves what a block names before the blocks within it, and there may be no
# pipeline yet, which would have imported the component.
ensure_span_getters_registry()


@registry.architectures("spacy-modernbert.Tok2VecModernBert.v1")
def Tok2VecModernBert_v1(
    name: str,
    get_spans: SpanGetter,
    pooling: Model[Ragged, Floats2d],
    revision: Optional[str] = None,
    backend: str = "auto",
    precision: str = "auto",
    quantization: Optional[Dict[str, Any]] = None,
    max_batch_wordpieces: int = 16384,
    gradient_checkpointing: Union[bool, str] = "auto",
    frozen_layers: int = 0,
    layer_lr_decay: float = 1.0,
    grad_factor: float = 1.0,
    standardize: bool = False,
) -> Model[List[Doc], List[Floats2d]]:
    """A ModernBERT encoder that belongs to one component.

    Nothing is read or downloaded before the component is initialized. A saved pipeline
    contains its encoder, and `name` is then ignored.

    name (str): The checkpoint to start from: a folder, or an id on the Hugging Face
        hub.
    get_spans (Callable[[List[Doc]], List[List[Span]]]): Where to cut long Docs:
        `spacy-modernbert.long_context_spans.v1`, or any other span getter.
    pooling (Model[Ragged, Floats2d]): Makes one vector of the wordpieces of a token,
        such as `reduce_mean.v1`.
    revision (Optional[str]): Commit, tag or branch on the hub.
    backend (str): Where the encoder runs: "auto", "cuda", "mps", "mlx", "cpu",
        "openvino" or "onnx". The last two predict only.
    precision (str): What matrices are multiplied in: "auto" (bfloat16 where the
        device multiplies it natively, else float32), "float32", "bfloat16" or
        "float16".
    quantization (Optional[Dict[str, Any]]): None, or for prediction `{"bits": 8}`:
        weights of 8 bits. MLX takes `{"bits": 8 or 4, "group_size": 64}`. The backend
        "auto" then takes only backends that support it.
    max_batch_wordpieces (int): The most wordpieces that a pass through the encoder
        holds, in training and prediction, however many Docs there are.
    gradient_checkpointing (Union[bool, str]): Recompute activations in the backward
        pass, which saves memory: True, False, or "auto" (where there are many).
    frozen_layers (int): How many of the lowest layers are not trained. If there are
        any, the embeddings are not trained either. What is frozen needs no gradient and
        no optimizer state, which saves time and memory. 0 trains all.
    layer_lr_decay (float): Lets lower layers learn more slowly, as ELECTRA and BEiT do:
        the learning rate of layer `i` (from 0) of `n` is multiplied by
        `layer_lr_decay ** (n - i)`, that of the embeddings by
        `layer_lr_decay ** (n + 1)`. The final norm, and all that is not the encoder,
        learn at the full rate. 1.0 lets all learn alike; at most 1.
    grad_factor (float): Multiplies the gradient on its way to the encoder. With 0 the
        encoder only predicts while the rest is trained, so that one that cannot train
        will do.
    standardize (bool): Centre and scale the vectors of tokens, by their mean and
        deviation in the Docs that the component is initialized with (the beginnings of
        the first ten, as spaCy gives no more). The layers above then need fewer steps
        to learn.
    RETURNS (Model[List[Doc], List[Floats2d]]): `(n_tokens, width)` for each Doc.
    RAISES (ValueError): If a value cannot be used.
    """
    settings = EncoderSettings(
        name=name,
        revision=revision,
        backend=backend,
        precision=precision,
        quantization=quantization,
        gradient_checkpointing=gradient_checkpointing,
        max_batch_wordpieces=max_batch_wordpieces,
        frozen_layers=frozen_layers,
        layer_lr_decay=layer_lr_decay,
    )
    if not is_number(grad_factor) or grad_factor < 0:
        raise ValueError(Errors.BAD_GRAD_FACTOR.format(value=grad_factor))
    tok2vec = modernbert_tok2vec(
        encode_docs(EncoderShim(settings), get_spans), pool_tokens(pooling, grad_factor)
    )
    return standardized(tok2vec) if standardize else tok2vec


@registry.architectures("spacy-modernbert.KeptVectors.v1")
def KeptVectors_v1(
    tok2vec: Model[List[Doc], List[Floats2d]], max_mb: Union[int, float]
) -> Model[List[Doc], List[Floats2d]]:
    """Keep the token vectors of an encoder that does not learn, between epochs and
    between evaluations, so that each document is encoded once. The vectors are those of
    prediction: dropout in a pooling layer does nothing. Nothing is kept until training
    begins, nor in a component that is frozen.

    tok2vec (Model[List[Doc], List[Floats2d]]): `Tok2VecModernBert.v1` with
        `grad_factor` 0 and a pooling layer without weights.
    max_mb (Union[int, float]): The most that is kept in memory, in megabytes. A token
        takes four bytes for each dimension of the encoder's `hidden_size`. Documents
        for which there is no room are encoded each time.
    RETURNS (Model[List[Doc], List[Floats2d]]): The same model.
    RAISES (ValueError): If the model does not have exactly one encoder, if something
        that its vectors depend on is trained, or if `max_mb` is not a number above 0.
    """
    if not is_number(max_mb) or max_mb <= 0:
        raise ValueError(Errors.BAD_KEPT_MB.format(value=max_mb))
    keep_vectors(tok2vec, int(max_mb * 1e6))
    return tok2vec


@registry.architectures(_BATCH_NAME)
def ModernBertModel_v1(
    name: str,
    get_spans: SpanGetter,
    revision: Optional[str] = None,
    backend: str = "auto",
    precision: str = "auto",
    quantization: Optional[Dict[str, Any]] = None,
    max_batch_wordpieces: int = 16384,
    gradient_checkpointing: Union[bool, str] = "auto",
    frozen_layers: int = 0,
    layer_lr_decay: float = 1.0,
) -> Model:
    """A ModernBERT encoder for spacy-transformers' component `transformer`, which
    shares it between all components that listen. The arguments are those of
    `Tok2VecModernBert_v1`.

    RETURNS (Model[List[Doc], FullTransformerBatch]): The model.
    RAISES (ValueError): If a value cannot be used.
    RAISES (ImportError): If spacy-transformers is not installed.
    """
    if importlib.util.find_spec("spacy_transformers") is None:
        raise ImportError(Errors.NEEDS_SPACY_TRANSFORMERS.format(name=_BATCH_NAME))
    # An extra: it brings transformers along, which an inline encoder does not need.
    from .layers.batch import modernbert_batch

    settings = EncoderSettings(
        name=name,
        revision=revision,
        backend=backend,
        precision=precision,
        quantization=quantization,
        gradient_checkpointing=gradient_checkpointing,
        max_batch_wordpieces=max_batch_wordpieces,
        frozen_layers=frozen_layers,
        layer_lr_decay=layer_lr_decay,
    )
    return modernbert_batch(EncoderShim(settings), get_spans)
