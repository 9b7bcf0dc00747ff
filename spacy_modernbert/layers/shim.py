"""The Thinc Shim that owns an Encoder: where it comes from, its steps, its bytes."""

import gc
import json
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Optional

import numpy as np
import srsly
from thinc.api import Optimizer, Shim

from ..documents.wordpieces import WordpieceTokenizer
from ..encoder.backend import make_encoder
from ..encoder.checkpoint import (
    TOKENIZER,
    load_config,
    open_tensors,
    read_tokenizer_config,
    read_tokenizer_json,
    replacing_checkpoint,
    tensors_from_bytes,
    tensors_to_bytes,
    write_checkpoint,
)
from ..encoder.config import ModernBertConfig
from ..encoder.hub import resolve
from ..encoder.identity import identify, is_identified
from ..encoder.protocol import Encoder
from ..errors import Errors, Warnings
from .budget import Budget
from .optimizer import find_params, step_encoder
from .settings import EncoderSettings
from .workers import note_unpickled

Tensors = Mapping[str, np.ndarray]

# What the bytes of a shim may say of the encoder.
_NONE = "none"
_HERE = "here"
_APART = "apart"
# What else is in them then.
_FIELDS: Dict[str, Dict[str, type]] = {
    _NONE: {},
    _HERE: {"config": str, "tokenizer": str, "tokenizer_config": str, "tensors": bytes},
    _APART: {"identity": bytes},
}

_encoders_apart: ContextVar[bool] = ContextVar(
    "spacy_modernbert_encoders_apart", default=False
)


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder and what belongs to it.

    encoder (Encoder): The encoder.
    tokenizer (WordpieceTokenizer): The tokenizer whose ids it was trained on.
    tokenizer_config (Optional[Dict[str, Any]]): What transformers wants to know of
        the tokenizer. Only handed on.
    """

    encoder: Encoder
    tokenizer: WordpieceTokenizer
    tokenizer_config: Optional[Dict[str, Any]]


class EncoderShim(Shim):
    """Owns an Encoder.

    Making a shim reads no file: the encoder comes with `start` (when a pipeline is
    initialized), with `load` or with `from_bytes`. Until then, `loaded` is an error.
    Threads may share a shim to predict: that changes nothing in it, except that the
    budget shrinks if the device runs out of memory, and grows again.
    """

    def __init__(self, settings: EncoderSettings):
        """settings (EncoderSettings): What the config says."""
        super().__init__(None)
        self.settings = settings
        # Only counted, for whoever watches a training run.
        self.trained_wordpieces = 0
        self.budget = Budget(settings.max_batch_wordpieces)
        self._loaded: Optional[LoadedEncoder] = None
        # Whether it came by `start`, and whether it has been trained since it came.
        self._was_started = self._was_stepped = False
        # What an encoder is known by that is apart.
        self._identity: Optional[bytes] = None
        self._awaits_gradient = False
        self._postponed: Optional[Optimizer] = None

    @property
    def loaded(self) -> LoadedEncoder:
        """RETURNS (LoadedEncoder): The encoder and what belongs to it.
        RAISES (ValueError): If there is none yet.
        """
        if self._loaded is not None:
            return self._loaded
        if self.is_apart:
            raise ValueError(Errors.ENCODER_FOLDER_NEEDED)
        raise ValueError(Errors.ENCODER_NOT_LOADED.format(name=self.settings.name))

    def to_train(self) -> None:
        """Get ready to train. Where "auto" took a backend that predicts only, the
        encoder moves to the best that trains, and stays there.

        RAISES (ValueError): If there is none yet, or the settings name a backend that
            cannot train.
        """
        own = self.loaded
        if not own.encoder.can_train:
            encoder = self._make_encoder(
                own.encoder.config, own.encoder.tensors(), to_train=True
            )
            self._loaded = replace(own, encoder=encoder)

    @property
    def has_encoder(self) -> bool:
        """RETURNS (bool): Whether there is an encoder."""
        return self._loaded is not None

    @property
    def is_apart(self) -> bool:
        """RETURNS (bool): Whether the last bytes read say that the encoder is in a
        folder, from where it has not been loaded yet.
        """
        return self._identity is not None

    def start(self) -> None:
        """Take the encoder of the checkpoint that the settings name, from a folder
        or from the hub. If it was taken from there before, and trained since, it is
        read again, because initializing a pipeline resets all layers. One that was
        loaded with a pipeline is kept; if it was trained since, with a warning.

        RAISES (ValueError): If the checkpoint cannot be found or downloaded, or cannot
            be used.
        RAISES (OSError): If what is downloaded cannot be written.
        """
        own = self._loaded
        has_learned = own is not None and (
            self._was_stepped or own.encoder.has_gradients
        )
        if own is None or (has_learned and self._was_started):
            self.load(resolve(self.settings.name, self.settings.revision))
            self._was_started = True
            return
        if self._was_stepped:
            warnings.warn(Warnings.TRAINED_ENCODER_KEPT, stacklevel=2)
        # What was gathered for a step that is not to come.
        self._awaits_gradient, self._postponed = False, None
        if own.encoder.has_gradients:
            self._loaded = replace(own, encoder=own.encoder.copy({}))

    def load(self, folder: Path) -> None:
        """Take the encoder of a checkpoint on disk.

        folder (Path): The checkpoint.
        RAISES (ValueError): If there is none, or it cannot be used.
        """
        config = load_config(folder)
        self._load(folder, config, open_tensors(folder, config))

    def load_apart(self, folder: Path, model: Path) -> None:
        """Take the encoder that is apart, from its folder.

        folder (Path): The folder: a checkpoint.
        model (Path): The file with the bytes, for a message.
        RAISES (ValueError): As `load`, and if it is another encoder.
        """
        assert self._identity is not None
        config = load_config(folder)
        tensors = open_tensors(folder, config)
        if not is_identified(tensors, self._identity):
            raise ValueError(
                Errors.ENCODER_OTHER_WEIGHTS.format(folder=folder, model=model)
            )
        self._load(folder, config, tensors)

    def save(self, folder: Path, then: Optional[Callable[[], None]] = None) -> None:
        """Write the encoder as a checkpoint: a folder that transformers reads too.

        folder (Path): Where to write. A checkpoint that is there is replaced.
        then (Optional[Callable[[], None]]): What is to be done as soon as it is in its
            place.
        RAISES (ValueError): If there is no encoder yet, or the folder holds other
            files.
        RAISES (OSError): If the folder cannot be written.
        """
        self.finish_postponed()
        loaded = self.loaded
        with replacing_checkpoint(folder, then) as fresh:
            write_checkpoint(
                fresh,
                loaded.encoder.config,
                loaded.encoder.tensors(),
                loaded.tokenizer.to_json(),
                loaded.tokenizer_config,
            )

    def expect_gradient(self) -> None:
        """Say that a pass was made whose gradient is still to come."""
        # First take the step that was postponed until the last pass had its gradient.
        self.finish_postponed()
        self._awaits_gradient = True

    def gradient_came(self) -> None:
        """Say that the gradient of the last pass has come."""
        self._awaits_gradient = False
        self.finish_postponed()

    def finish_update(self, optimizer: Optimizer) -> None:
        """Step every weight, by the gradients gathered since the last time.

        `nlp.update(examples, sgd=optimizer)` calls this for a `transformer` before
        its listeners have sent their gradient back. A step at that moment would use
        the gradient of the previous batch, and change the weights that the gradient
        still to come was computed for. So it is postponed until that has come.

        optimizer (Optimizer): Knows a weight by the key `(shim.id, name)`.
        """
        self._postponed = optimizer
        if not self._awaits_gradient:
            self.finish_postponed()

    def finish_postponed(self) -> None:
        """Take the step that was postponed, if one was."""
        optimizer, self._postponed = self._postponed, None
        if optimizer is None or self._loaded is None:
            return
        encoder = self._loaded.encoder
        # There is none if the encoder is not trained, or a batch had nothing to learn.
        if encoder.has_gradients:
            step_encoder(
                encoder,
                optimizer,
                owner=self.id,
                layer_lr_decay=self.settings.layer_lr_decay,
            )
            self._was_stepped = True

    @contextmanager
    def use_params(self, params: Mapping[Any, Any]) -> Iterator[None]:
        """Run by other weights for a while, such as the averages of an optimizer
        that was made with `use_averages = true`.

        params (Mapping[Any, Any]): Weights by the optimizer's keys. What has no key
            here stays as it is: see `find_params`.
        """
        self.finish_postponed()
        own = self._loaded
        others = {} if own is None else find_params(params, self.id, own.encoder)
        if own is None or not others:
            yield
            return
        self._loaded = replace(own, encoder=own.encoder.copy(others))
        try:
            yield
        finally:
            self._loaded = own

    def copy(self) -> "EncoderShim":
        """RETURNS (EncoderShim): A shim with weights and an id of its own, so that
        an optimizer tells the two apart.
        """
        self.finish_postponed()
        copied = EncoderShim(self.settings)
        if self._loaded is not None:
            encoder = self._loaded.encoder.copy({})
            copied._loaded = replace(self._loaded, encoder=encoder)
        copied._was_started = self._was_started
        copied._was_stepped = self._was_stepped
        return copied

    def __deepcopy__(self, memo: Dict[int, Any]) -> "EncoderShim":
        return memo.setdefault(id(self), self.copy())

    def to_device(self, device_type: str, device_id: int) -> None:
        """Does nothing: the encoder's device follows from its backend, not from the
        device of Thinc's arrays.
        """

    def to_bytes(self) -> bytes:
        """RETURNS (bytes): The encoder, as msgpack of what is in the files of its
        checkpoint. Within `encoders_apart`, only that it is elsewhere, and what tells
        it from others.
        """
        self.finish_postponed()
        message: Dict[str, Any]
        if self._loaded is None:
            message = {"encoder": _NONE}
        elif _encoders_apart.get():
            identity = identify(self._loaded.encoder.tensors())
            message = {"encoder": _APART, "identity": identity}
        else:
            encoder = self._loaded.encoder
            # JSON stays JSON: msgpack has no integer as large as the length that
            # transformers writes for a tokenizer without a limit.
            message = {
                "encoder": _HERE,
                "config": json.dumps(encoder.config.to_dict()),
                "tokenizer": self._loaded.tokenizer.to_json(),
                "tokenizer_config": json.dumps(self._loaded.tokenizer_config),
                "tensors": tensors_to_bytes(encoder.tensors(), encoder.config),
            }
        return srsly.msgpack_dumps(message)

    def from_bytes(self, data: bytes) -> "EncoderShim":
        """Take the encoder out of what `to_bytes` gave.

        data (bytes): The bytes.
        RETURNS (EncoderShim): The shim itself.
        RAISES (ValueError): If they are damaged, or the encoder cannot be used. The
            shim is as it was then.
        """
        message = _read_message(data)
        if message["encoder"] == _HERE:
            config = ModernBertConfig.from_dict(_read_object(message, "config"))
            tensors = tensors_from_bytes(message["tensors"], config)
            self._set(
                config,
                tensors,
                message["tokenizer"],
                _read_object(message, "tokenizer_config"),
                "the tokenizer of the serialized encoder",
            )
        else:
            self._loaded = None
            self._forget()
            is_apart = message["encoder"] == _APART
            self._identity = message["identity"] if is_apart else None
        return self

    # Where processes are spawned and not forked, `nlp.pipe(n_process=2)` sends the
    # pipeline to them. The encoder travels as safetensors there, too.

    def __getstate__(self) -> Dict[str, Any]:
        return {
            "id": self.id,
            "settings": self.settings,
            "bytes": self.to_bytes(),
        }

    def __setstate__(self, state: Dict[str, Any]) -> None:
        EncoderShim.__init__(self, state["settings"])
        note_unpickled()
        self.from_bytes(state["bytes"])
        self.id = state["id"]
        # Optimizers tell encoders apart by their ids: none made here may get the same.
        with Shim.global_id_lock:
            Shim.global_id = max(Shim.global_id, self.id)

    def _load(self, folder: Path, config: ModernBertConfig, tensors: Tensors) -> None:
        self._set(
            config,
            tensors,
            read_tokenizer_json(folder),
            read_tokenizer_config(folder),
            str(folder / TOKENIZER),
        )

    def _set(
        self,
        config: ModernBertConfig,
        tensors: Tensors,
        tokenizer_json: str,
        tokenizer_config: Optional[Dict[str, Any]],
        source: str,
    ) -> None:
        # The source is of the tokenizer, for messages.
        tokenizer = WordpieceTokenizer.from_json(
            tokenizer_json, source, config.vocab_size
        )
        encoder = self._make_encoder(config, tensors, to_train=False)
        self._loaded = LoadedEncoder(encoder, tokenizer, tokenizer_config)
        self._forget()
        self._identity = None
        # What an optimizer remembers of the encoder before is not taken for this one's.
        with Shim.global_id_lock:
            Shim.global_id += 1
            self.id = Shim.global_id

    def _forget(self) -> None:
        """Reset what was remembered of the encoder that was here before."""
        self._awaits_gradient, self._postponed = False, None
        self._was_started = self._was_stepped = False

    def _make_encoder(
        self, config: ModernBertConfig, tensors: Tensors, *, to_train: bool
    ) -> Encoder:
        return make_encoder(
            config,
            tensors,
            backend=self.settings.backend,
            precision=self.settings.precision,
            quantization=self.settings.quantization,
            gradient_checkpointing=self.settings.gradient_checkpointing,
            frozen_layers=self.settings.frozen_layers,
            to_train=to_train,
            heed_variable=self.settings.heed_variable,
        )


def read_encoder_config(data: bytes) -> Optional[Dict[str, Any]]:
    """Read the config of the encoder from the bytes of a shim.

    data (bytes): What `to_bytes` of any shim gave, in msgpack.
    RETURNS (Optional[Dict[str, Any]]): What `ModernBertConfig.from_dict` takes; None if
        there is no encoder in them.
    """
    message = srsly.msgpack_loads(data)
    if not isinstance(message, dict) or message.get("encoder") != _HERE:
        return None
    return _read_object(_check_message(message), "config")


def _read_message(data: bytes) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): What is in the bytes of a shim, checked."""
    is_collecting = gc.isenabled()
    try:
        message = srsly.msgpack_loads(data)
    except Exception as error:  # damaged bytes can raise any
        if is_collecting:  # which msgpack leaves disabled then
            gc.enable()
        raise ValueError(Errors.ENCODER_BAD_BYTES.format(why=error)) from error
    return _check_message(message)


def _check_message(message: Any) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): What was in the bytes of a shim: all that it takes, of
    the right types.
    RAISES (ValueError): If something is missing, or is something else.
    """
    kind = message.get("encoder") if isinstance(message, dict) else None
    if not isinstance(kind, str) or kind not in _FIELDS:
        why = f"'encoder' should be one of {', '.join(_FIELDS)}, but is {kind!r}"
        raise ValueError(Errors.ENCODER_BAD_BYTES.format(why=why))
    for key, wanted in _FIELDS[kind].items():
        if not isinstance(message.get(key), wanted):
            found = type(message[key]).__name__ if key in message else "missing"
            why = f"{key!r} should be {wanted.__name__}, but is {found}"
            raise ValueError(Errors.ENCODER_BAD_BYTES.format(why=why))
    checked: Dict[str, Any] = message
    return checked


def _read_object(message: Mapping[str, Any], key: str) -> Any:
    """RETURNS (Any): An object that is in the bytes of a shim as JSON. That of the
    tokenizer may be None.
    """
    try:
        found = json.loads(message[key])
    except (ValueError, RecursionError) as error:
        why = f"{key!r} is not JSON: {error}"
        raise ValueError(Errors.ENCODER_BAD_BYTES.format(why=why)) from error
    is_left_out = found is None and key == "tokenizer_config"
    if not (isinstance(found, dict) or is_left_out):
        why = f"{key!r} should be a JSON object, but is {type(found).__name__}"
        raise ValueError(Errors.ENCODER_BAD_BYTES.format(why=why))
    return found


@contextmanager
def encoders_apart() -> Iterator[None]:
    """Within this context, the bytes of a model leave out its encoders, which the
    caller saves elsewhere.
    """
    token = _encoders_apart.set(True)
    try:
        yield
    finally:
        _encoders_apart.reset(token)
