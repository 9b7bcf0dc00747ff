"""Every `config.json` of model_type "modernbert", as one validated config.

Two dialects are in use. The old one, of transformers 4, says
`global_attn_every_n_layers`, `global_rope_theta` and `local_rope_theta`. The new
one, of transformers 5, says `layer_types` and `rope_parameters`. Either is read,
also mixed, as transformers itself writes them; where both speak of one thing, the
new one wins, as it does in transformers. Both are written.

The defaults are those of transformers' `ModernBertConfig`, because a `config.json`
may leave out what equals its default.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import numpy as np
import numpy.typing as npt

from ..checks import is_int, is_number
from ..errors import Errors

# Of fresh encoders, a `config.json` each; `base` and `large` are as published.
SIZES_FOLDER = Path(__file__).parent / "sizes"

FULL = "full_attention"
SLIDING = "sliding_attention"
LAYER_TYPES = (FULL, SLIDING)

# More than any encoder has. Without a bound, a mistyped number would fill the memory.
_MOST_LAYERS = 1000

# The longest sequence that ModernBERT was trained for.
MAX_WORDPIECES = 8192

# What to use for a checkpoint that is not ModernBERT. spacy-curated-transformers
# reads these types; spacy-transformers reads whatever has an encoder.
_CURATED_TYPES = ("albert", "bert", "camembert", "roberta", "xlm-roberta")

# Said of a file or of the program that wrote it, not of the model: not kept, since
# none of it stays true of what we write. `auto_map` would name remote code.
_FILE_KEYS = frozenset(
    [
        "_attn_implementation_autoset",
        "_name_or_path",
        "architectures",
        "auto_map",
        "dtype",
        "quantization",
        "quantization_config",
        "torch_dtype",
        "transformers_version",
    ]
)

# Read into fields of another name.
_DIALECT_KEYS = frozenset(
    [
        "global_attn_every_n_layers",
        "model_type",
        "rope_parameters",
        "rope_scaling",
        "sliding_window",
    ]
)

_SIZE_KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "local_attention",
)
_POSITIVE = (
    "global_rope_theta",
    "local_rope_theta",
    "norm_eps",
    "initializer_range",
    "initializer_cutoff_factor",
)
_TOO_LARGE = 1e38  # for float32
_TOO_MANY = 2**31  # for the integers that shapes are made of
# Fresh weights are drawn again until they are within it: closer, hardly any ever is.
_LEAST_CUTOFF = 0.1
_DROPOUTS = ("attention_dropout", "embedding_dropout", "mlp_dropout")
_FLAGS = ("attention_bias", "mlp_bias", "norm_bias")
_TOKEN_IDS = ("pad_token_id", "cls_token_id", "sep_token_id")


_RULES: Tuple[Tuple[Tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (
        _SIZE_KEYS,
        lambda v: is_int(v) and 0 < v < _TOO_MANY,
        "a positive integer, less than 2**31",
    ),
    (("num_hidden_layers",), lambda v: v <= _MOST_LAYERS, f"at most {_MOST_LAYERS}"),
    (_POSITIVE, lambda v: is_number(v) and 0 < v < _TOO_LARGE, "a positive number"),
    (
        ("initializer_cutoff_factor",),
        lambda v: v >= _LEAST_CUTOFF,
        f"at least {_LEAST_CUTOFF}",
    ),
    (_DROPOUTS, lambda v: is_number(v) and 0 <= v < 1, "a number from 0 up to 1"),
    (_FLAGS, lambda v: isinstance(v, bool), "true or false"),
    (_TOKEN_IDS, lambda v: v is None or is_int(v), "an integer or null"),
)


@dataclass(frozen=True)
class ModernBertConfig:
    """The shape and the constants of a ModernBERT encoder.

    vocab_size (int): Rows of the embedding table.
    hidden_size (int): Width of the vectors.
    intermediate_size (int): Width inside the MLP; its input projection holds it
        twice, as input and gate.
    num_hidden_layers (int): Layers.
    num_attention_heads (int): Attention heads of a layer.
    layer_types (Tuple[str, ...]): `(num_hidden_layers,)`, for each layer
        "full_attention" or "sliding_attention".
    local_attention (int): The whole window of the sliding layers, in wordpieces:
        position i sees j where `|i - j| <= local_attention // 2`.
    global_rope_theta (float): Base of the rotary embedding of the full layers.
    local_rope_theta (float): Base of that of the sliding layers.
    max_position_embeddings (int): The longest sequence the model was made for.
    norm_eps (float): Epsilon of the layer norms.
    hidden_activation (str): Activation of the MLP; "gelu" is the only one.
    attention_bias (bool): Whether the projections of attention have a bias.
    mlp_bias (bool): Whether the projections of the MLP have a bias.
    norm_bias (bool): Whether the layer norms have a bias.
    attention_dropout (float): Dropout on attention and on its output.
    embedding_dropout (float): Dropout on the embeddings.
    mlp_dropout (float): Dropout inside the MLP.
    initializer_range (float): Standard deviation of a fresh weight.
    initializer_cutoff_factor (float): Fresh weights lie within this many
        standard deviations.
    pad_token_id (Optional[int]): The wordpiece whose embedding never learns.
    cls_token_id, sep_token_id (Optional[int]): Special wordpieces.
    extra (Tuple[Tuple[str, str], ...]): Keys of the original `config.json` that
        the encoder has no use for (`id2label`, `classifier_pooling` ...), each
        with its value as JSON text, so that saving does not lose them.

    Invariants: sizes and bases are positive, and sizes fit into 31 bits, `hidden_size`
    is a multiple of `num_attention_heads`, `head_dim` is even (rotary embeddings turn
    pairs), there are at most 1,000 layers and one layer type for each, dropouts are in
    `[0, 1)`, and `pad_token_id` is None or a row of the table. Hashable.

    RAISES (ValueError): If an invariant does not hold; the message names the key
        and the value.
    """

    vocab_size: int = 50368
    hidden_size: int = 768
    intermediate_size: int = 1152
    num_hidden_layers: int = 22
    num_attention_heads: int = 12
    layer_types: Tuple[str, ...] = tuple(
        FULL if layer % 3 == 0 else SLIDING for layer in range(22)
    )
    local_attention: int = 128
    global_rope_theta: float = 160000.0
    local_rope_theta: float = 10000.0
    max_position_embeddings: int = 8192
    norm_eps: float = 1e-5
    hidden_activation: str = "gelu"
    attention_bias: bool = False
    mlp_bias: bool = False
    norm_bias: bool = False
    attention_dropout: float = 0.0
    embedding_dropout: float = 0.0
    mlp_dropout: float = 0.0
    initializer_range: float = 0.02
    initializer_cutoff_factor: float = 2.0
    pad_token_id: Optional[int] = 50283
    cls_token_id: Optional[int] = 50281
    sep_token_id: Optional[int] = 50282
    extra: Tuple[Tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for keys, holds, wanted in _RULES:
            for key in keys:
                value = getattr(self, key)
                _check(holds(value), key, value, wanted)
        activation = self.hidden_activation
        _check_supported(activation == "gelu", "hidden_activation", activation, "gelu")
        n_layers, n_heads = self.num_hidden_layers, self.num_attention_heads
        kinds = list(self.layer_types)
        wanted = f"as many entries as num_hidden_layers ({n_layers})"
        _check(len(kinds) == n_layers, "layer_types", kinds, wanted)
        for layer, kind in enumerate(kinds):
            wanted = f'"{FULL}" or "{SLIDING}"'
            _check(kind in LAYER_TYPES, f"layer_types[{layer}]", kind, wanted)
        pad = self.pad_token_id
        wanted = f"null, or from 0 up to vocab_size ({self.vocab_size})"
        _check(pad is None or 0 <= pad < self.vocab_size, "pad_token_id", pad, wanted)
        # Rotary embeddings turn pairs, so that a head is of even width.
        wanted = f"an even multiple of num_attention_heads ({n_heads})"
        fits = self.hidden_size % (2 * n_heads) == 0
        _check(fits, "hidden_size", self.hidden_size, wanted)

    @property
    def head_dim(self) -> int:
        """RETURNS (int): Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def half_window(self) -> int:
        """RETURNS (int): How far a sliding layer sees to either side."""
        return self.local_attention // 2

    @property
    def has_dropout(self) -> bool:
        """RETURNS (bool): Whether training drops anything out, anywhere."""
        return any(getattr(self, key) > 0 for key in _DROPOUTS)

    @property
    def max_wordpieces(self) -> int:
        """RETURNS (int): The longest sequence that the encoder takes. Special
        wordpieces count. The tokenizer's own limit has no say.
        """
        return min(MAX_WORDPIECES, self.max_position_embeddings)

    def rope_theta(self, layer_type: str) -> float:
        """Base of the rotary embedding of a kind of layer.

        layer_type (str): "full_attention" or "sliding_attention".
        RETURNS (float): The base.
        """
        return self.global_rope_theta if layer_type == FULL else self.local_rope_theta

    def rope_periods(self, layer_type: str) -> npt.NDArray[np.float32]:
        """Over how many wordpieces the rotary embedding of a kind of layer turns each
        pair by a radian (Su et al. 2021, https://arxiv.org/abs/2104.09864).

        layer_type (str): "full_attention" or "sliding_attention".
        RETURNS (npt.NDArray[np.float32]): `(head_dim / 2,)`, in wordpieces: computed as
            in transformers, since at position 8,191 even its last bit shows.
        """
        steps = np.arange(0, self.head_dim, 2, dtype=np.float32)
        theta = np.float32(self.rope_theta(layer_type))
        return theta ** (steps / np.float32(self.head_dim))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ModernBertConfig":
        """Read the contents of a `config.json`, in either dialect.

        data (Mapping[str, Any]): The parsed JSON.
        RETURNS (ModernBertConfig): The config.
        RAISES (ValueError): If it is another model's, or a value is missing,
            malformed or unsupported; the message names the key and the value.
        """
        _check_model_type(data.get("model_type"))
        known = {field.name for field in fields(cls)} - {"extra"}
        # A null stands for the default, but for the ids, where it means "none".
        values = {
            key: _tidy(key, value)
            for key, value in data.items()
            if key in known and (value is not None or key in _TOKEN_IDS)
        }
        values["layer_types"] = _read_layer_types(data)
        values["local_attention"] = _read_local_attention(data)
        values.update(_read_rope(data))
        if "initializer_cutoff_factor" in data and (
            data["initializer_cutoff_factor"] is None
        ):
            values["initializer_cutoff_factor"] = 3.0  # what transformers makes of it
        dropped = known | _FILE_KEYS | _DIALECT_KEYS
        values["extra"] = tuple(
            (key, json.dumps(value, sort_keys=True))
            for key, value in sorted(data.items())
            if key not in dropped
        )
        return cls(**values)

    @property
    def extras(self) -> Dict[str, Any]:
        """RETURNS (Dict[str, Any]): What `extra` says, but for what is null."""
        found = {key: json.loads(text) for key, text in self.extra}
        return {key: value for key, value in found.items() if value is not None}

    def to_dict(self) -> Dict[str, Any]:
        """The contents of a `config.json` that transformers 4 and 5 both read.

        It describes what this package writes: the bare encoder, in float32.

        RETURNS (Dict[str, Any]): JSON-serializable. `from_dict` gives back an
            equal config. Where the layer types follow no every-n pattern, only
            the new dialect can say so, and the old key is left out.
        """
        data: Dict[str, Any] = {key: json.loads(text) for key, text in self.extra}
        for field in fields(self):
            if field.name != "extra":
                data[field.name] = getattr(self, field.name)
        data["layer_types"] = list(self.layer_types)
        every = every_n(self.layer_types)
        if every is not None:
            data["global_attn_every_n_layers"] = every
        data["rope_parameters"] = {
            kind: {"rope_theta": self.rope_theta(kind), "rope_type": "default"}
            for kind in LAYER_TYPES
        }
        data["model_type"] = "modernbert"
        data["architectures"] = ["ModernBertModel"]
        data["torch_dtype"] = "float32"
        return dict(sorted(data.items()))


def every_n(layer_types: Tuple[str, ...]) -> Optional[int]:
    """The old dialect's word for a list of layer types.

    layer_types (Tuple[str, ...]): A type for each layer.
    RETURNS (Optional[int]): The n for which layer i is full exactly where
        `i % n == 0`, or None if there is none. Layer 0 is full in all of them.
    """
    full = [layer for layer, kind in enumerate(layer_types) if kind == FULL]
    # With one full layer, any n that reaches beyond the last layer says it.
    every = full[1] if len(full) > 1 else len(layer_types)
    return every if layer_types == _pattern(every, len(layer_types)) else None


def _pattern(every: int, n_layers: int) -> Tuple[str, ...]:
    return tuple(FULL if layer % every == 0 else SLIDING for layer in range(n_layers))


def _check_model_type(found: Any) -> None:
    if found == "modernbert":
        return
    if found is None:
        raise ValueError(Errors.CONFIG_NO_MODEL_TYPE)
    if found == "modernbert-decoder":
        raise ValueError(Errors.CONFIG_IS_DECODER.format(found=found))
    message = Errors.CONFIG_OTHER_MODEL
    if found in _CURATED_TYPES:
        message = Errors.CONFIG_OTHER_MODEL_CURATED
    raise ValueError(message.format(found=found))


def _read_layer_types(data: Mapping[str, Any]) -> Tuple[str, ...]:
    listed = data.get("layer_types")
    if listed is not None:
        _check(isinstance(listed, (list, tuple)), "layer_types", listed, "a list")
        return tuple(listed)
    n_layers = _default(data, "num_hidden_layers", ModernBertConfig.num_hidden_layers)
    n_layers = _tidy("num_hidden_layers", n_layers)
    every = _whole(_default(data, "global_attn_every_n_layers", 3))
    for key, value in [
        ("num_hidden_layers", n_layers),
        ("global_attn_every_n_layers", every),
    ]:
        _check(is_int(value) and value > 0, key, value, "a positive integer")
    wanted = f"at most {_MOST_LAYERS}"
    _check(n_layers <= _MOST_LAYERS, "num_hidden_layers", n_layers, wanted)
    return _pattern(every, n_layers)


def _read_local_attention(data: Mapping[str, Any]) -> Any:
    """transformers 5 also reads `sliding_window`, which is half the window."""
    whole = _whole(data.get("local_attention"))
    half = _whole(data.get("sliding_window"))
    if half is None:
        return ModernBertConfig.local_attention if whole is None else whole
    _check(is_int(half) and half > 0, "sliding_window", half, "a positive integer")
    if whole is None:
        return 2 * half
    agrees = is_int(whole) and whole // 2 == half
    _check(agrees, "sliding_window", half, f"half of local_attention ({whole})")
    return whole


def _read_rope(data: Mapping[str, Any]) -> Dict[str, float]:
    """Both bases, in whichever dialect they are said."""
    scaling = data.get("rope_scaling")
    if scaling is not None:
        _check_plain_rope("rope_scaling", scaling)
    parameters = _default(data, "rope_parameters", {})
    by_kind = isinstance(parameters, Mapping) and set(parameters) <= set(LAYER_TYPES)
    wanted = f'an object with the keys "{FULL}" and "{SLIDING}"'
    _check(by_kind, "rope_parameters", parameters, wanted)
    for kind, values in parameters.items():
        if values is not None:
            _check_plain_rope(f"rope_parameters.{kind}", values)
    full = data.get("global_rope_theta")
    sliding = data.get("local_rope_theta", ModernBertConfig.local_rope_theta)
    full = (parameters.get(FULL) or {}).get("rope_theta", full)
    sliding = (parameters.get(SLIDING) or {}).get("rope_theta", sliding)
    if full is None:
        full = ModernBertConfig.global_rope_theta
    if sliding is None:  # which in transformers means: as in the full layers
        sliding = full
    return {
        "global_rope_theta": _tidy("global_rope_theta", full),
        "local_rope_theta": _tidy("local_rope_theta", sliding),
    }


def _check_plain_rope(key: str, values: Any) -> None:
    """No scaling and no partial rotation: ModernBERT has neither."""
    _check(isinstance(values, Mapping), key, values, "an object")
    kind = values.get("rope_type", values.get("type", "default"))
    _check_supported(kind == "default", f"{key}.rope_type", kind, "default")
    part = values.get("partial_rotary_factor", 1)
    _check_supported(part in (None, 1), f"{key}.partial_rotary_factor", part, 1)


def _default(data: Mapping[str, Any], key: str, default: Any) -> Any:
    value = data.get(key)
    return default if value is None else value


def _tidy(key: str, value: Any) -> Any:
    """JSON writers disagree on 1 and 1.0: one number, one type."""
    if key in _SIZE_KEYS:
        return _whole(value)
    if key in _POSITIVE + _DROPOUTS and is_int(value) and abs(value) < _TOO_LARGE:
        return float(value)
    return value


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _check(ok: bool, key: str, value: Any, wanted: str) -> None:
    if not ok:
        raise ValueError(
            Errors.CONFIG_BAD_VALUE.format(key=key, value=_shown(value), wanted=wanted)
        )


def _check_supported(ok: bool, key: str, value: Any, wanted: Any) -> None:
    """Refuse what only other models have: without it, vectors would be wrong."""
    if not ok:
        raise ValueError(
            Errors.CONFIG_UNSUPPORTED.format(
                key=key, value=_shown(value), wanted=_shown(wanted)
            )
        )


def _shown(value: Any) -> str:
    return json.dumps(value, default=repr)
