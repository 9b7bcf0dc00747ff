"""A small checkpoint of the real architecture and file layout, and texts for it."""

import importlib
import json
import os
import pickle
import platform
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

import numpy as np
import pytest
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import registry
from thinc.api import Model
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

import spacy_modernbert.components  # noqa: F401  (makes the registry of span getters)
from spacy_modernbert.encoder.availability import look_for
from spacy_modernbert.encoder.checkpoint import save_checkpoint
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.protocol import Encoder, EncoderOutOfMemory
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.layers.encode import find_layers, get_shim
from spacy_modernbert.types import PackedBatch, TokenRows

ROOT = Path(__file__).parents[1]
# Data beside the repository; tests that need it skip where it is missing.
SHARED = ROOT / ".." / "shared"
PUBLISHED = SHARED / "tokenizers" / "modernbert"
SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]

PEOPLE = ["Anna Berg", "Tomas Lind", "Greta Holm", "Ida Falk", "Nils Storm"]
PLACES = ["Oslo", "Bergen", "Lisbon", "New York", "Port Said"]


def make_text(seed: int, n_sentences: int = 4) -> str:
    """RETURNS (str): Sentences in which some of `PEOPLE` and `PLACES` occur."""
    rng = random.Random(seed)
    verbs = ["went to", "came from", "wrote a letter to", "never saw", "dreamt of"]
    return " ".join(
        f"{rng.choice(PEOPLE)} {rng.choice(verbs)} {rng.choice(PLACES)}, they say."
        for _ in range(n_sentences)
    )


# Not those of `make_examples`, from which pipelines here learn.
TEXTS = [make_text(seed, 3) for seed in range(100, 110)]


def make_example(nlp: Language, text: str) -> Example:
    """RETURNS (Example): The text with its people and places as entities."""
    found = [
        (text.index(name, start), name, label)
        for label, names in (("PERSON", PEOPLE), ("PLACE", PLACES))
        for name in names
        for start in _starts(text, name)
    ]
    entities = sorted((start, start + len(name), label) for start, name, label in found)
    return Example.from_dict(nlp.make_doc(text), {"entities": entities})


def make_examples(nlp: Language, n: int, n_sentences: int = 4) -> List[Example]:
    """RETURNS (List[Example]): Examples of `make_text`."""
    return [make_example(nlp, make_text(seed, n_sentences)) for seed in range(n)]


def make_tokenizer(vocab_size: int = 512) -> Tokenizer:
    """RETURNS (Tokenizer): Byte-level BPE in the layout of the published one: NFC, no
    space put before the text, offsets that are not trimmed, `[CLS] A [SEP]`.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=False, trim_offsets=False
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        [make_text(seed) for seed in range(50)],
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=SPECIAL,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def make_config(**changes: Any) -> ModernBertConfig:
    """RETURNS (ModernBertConfig): A tiny one, changed. Its weights are larger than
    fresh ones, so that words make a difference.
    """
    return ModernBertConfig.from_dict(
        {
            "model_type": "modernbert",
            "vocab_size": 512,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "local_attention": 32,
            "initializer_range": 0.2,
            "cls_token_id": 1,
            "sep_token_id": 2,
            "pad_token_id": 3,
            **changes,
        }
    )


def make_checkpoint(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """RETURNS (Path): The folder, with a checkpoint in it."""
    config = make_config(**changes)
    tokenizer = make_tokenizer(min(config.vocab_size, 512))
    save_checkpoint(folder, config, init_tensors(config, seed), tokenizer.to_str())
    return folder


def tok2vec_config(
    checkpoint: Path, window: int = 512, overlap: int = 32, **changes: Any
) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): The config of an inline encoder."""
    return {
        "@architectures": "spacy-modernbert.Tok2VecModernBert.v1",
        "name": str(checkpoint),
        "backend": "cpu",
        "get_spans": {
            "@span_getters": "spacy-modernbert.long_context_spans.v1",
            "window": window,
            "overlap": overlap,
        },
        "pooling": {"@layers": "reduce_mean.v1"},
        **changes,
    }


def kept_config(checkpoint: Path) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): That of one which is not trained, and whose vectors are
    kept.
    """
    return {
        "@architectures": "spacy-modernbert.KeptVectors.v1",
        "max_mb": 10,
        "tok2vec": tok2vec_config(checkpoint, grad_factor=0.0),
    }


def entities(docs: Iterable[Doc]) -> List[List[Any]]:
    """RETURNS (List[List[Any]]): Start, end and label of the entities of each Doc."""
    return [[(ent.start, ent.end, ent.label_) for ent in doc.ents] for doc in docs]


def some_entities(docs: Iterable[Doc]) -> List[List[Any]]:
    """RETURNS (List[List[Any]]): Those of `entities`, of which there are some: what
    finds nothing is the same wherever it runs.
    """
    found = entities(docs)
    assert any(found), "no entities"
    return found


def _starts(text: str, name: str) -> List[int]:
    starts = []
    start = text.find(name)
    while start >= 0:
        starts.append(start)
        start = text.find(name, start + 1)
    return starts


class CountingEncoder:
    """Passes all on to an encoder, and keeps the sizes of the passes.

    encoded, trained (List[int]): The wordpieces of each pass, without and with the
        way back.
    held (int): Passes whose gradient is still waited for; `most_held` at most.
    """

    def __init__(self, encoder: Encoder):
        self.encoder = encoder
        self.config = encoder.config
        self.device = encoder.device
        self.can_train = encoder.can_train
        self.step = encoder.step
        self.update = encoder.update
        self.tensors = encoder.tensors
        self.encoded: List[int] = []
        self.trained: List[int] = []
        self.held = 0
        self.most_held = 0

    @property
    def has_gradients(self) -> bool:
        return self.encoder.has_gradients

    def encode(self, batch: PackedBatch) -> np.ndarray:
        self.encoded.append(batch.total)
        return self.encoder.encode(batch)

    def encode_tokens(self, batch: PackedBatch, rows: TokenRows) -> np.ndarray:
        self.encoded.append(batch.total)
        return self.encoder.encode_tokens(batch, rows)

    def encode_train(self, batch: PackedBatch) -> Any:
        self.trained.append(batch.total)
        self.held += 1
        self.most_held = max(self.held, self.most_held)
        output, backprop = self.encoder.encode_train(batch)

        def counted_backprop(d_output: np.ndarray) -> None:
            self.held -= 1
            backprop(d_output)

        return output, counted_backprop


class SmallDevice(CountingEncoder):
    """An encoder on a device with memory for passes of so many wordpieces.

    refused (List[int]): The wordpieces of the passes that were too large.
    """

    def __init__(
        self, encoder: Encoder, memory: int, memory_back: Optional[int] = None
    ):
        super().__init__(encoder)
        self.memory = memory
        self.memory_back = memory if memory_back is None else memory_back
        self.refused: List[int] = []

    def encode(self, batch: PackedBatch) -> np.ndarray:
        self._check(batch, self.memory)
        return super().encode(batch)

    def encode_tokens(self, batch: PackedBatch, rows: TokenRows) -> np.ndarray:
        self._check(batch, self.memory)
        return super().encode_tokens(batch, rows)

    def encode_train(self, batch: PackedBatch) -> Any:
        self._check(batch, self.memory)
        output, backprop = super().encode_train(batch)

        def checked_backprop(d_output: np.ndarray) -> None:
            if batch.total > self.memory_back:
                self.held -= 1
            self._check(batch, self.memory_back)
            backprop(d_output)

        return output, checked_backprop

    def _check(self, batch: PackedBatch, memory: int) -> None:
        if batch.total > memory:
            self.refused.append(batch.total)
            raise EncoderOutOfMemory(f"no memory for {batch.total}")


def put_on_small_device(model: Model, *memory: int) -> SmallDevice:
    """RETURNS (SmallDevice): What a model that is initialized now runs on."""
    (layer,) = find_layers(model)
    shim = get_shim(layer)
    small = SmallDevice(shim.loaded.encoder, *memory)
    shim._loaded = replace(shim.loaded, encoder=small)
    return small


def count_passes(model: Model) -> CountingEncoder:
    """RETURNS (CountingEncoder): What a model that is initialized now runs on."""
    (layer,) = find_layers(model)
    shim = get_shim(layer)
    counting = CountingEncoder(shim.loaded.encoder)
    shim._loaded = replace(shim.loaded, encoder=counting)
    return counting


def gradients_of(encoder: Any) -> Dict[str, np.ndarray]:
    """RETURNS (Dict[str, np.ndarray]): The gradients that an encoder has gathered so
    far, copied, by name; 0 where there are none.
    """
    encoder = getattr(encoder, "encoder", encoder)
    if encoder.device.startswith("mlx"):
        found = {name: np.array(each) for name, each in encoder._gradients.items()}
    else:
        found = {
            name: parameter.grad.cpu().numpy().copy()
            for name, parameter in encoder._model.named_parameters()
            if parameter.grad is not None
        }
    return {
        name: found.get(name, np.zeros_like(tensor))
        for name, tensor in encoder.tensors().items()
    }


def gradients_of_model(model: Model) -> Dict[str, np.ndarray]:
    """RETURNS (Dict[str, np.ndarray]): Those of the encoder of a model, which is
    initialized.
    """
    (layer,) = find_layers(model)
    return gradients_of(get_shim(layer).loaded.encoder)


def assert_same_gradients(
    found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]
) -> None:
    """Each within 1e-4 of its largest value, and none of them 0 throughout."""
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        largest = np.abs(gradient).max()
        assert largest > 0, name
        np.testing.assert_allclose(
            found[name], gradient, rtol=0, atol=1e-4 * largest, err_msg=name
        )


def make_tok2vec(checkpoint: Path, **changes: Any) -> Model:
    """RETURNS (Model): An inline encoder, initialized."""
    config = {"model": tok2vec_config(checkpoint, **changes)}
    model = registry.resolve(config)["model"]
    return model.initialize()


def make_vectors(n: int = 5) -> np.ndarray:
    """RETURNS (np.ndarray): `(n, 8)`, always the same."""
    return np.random.default_rng(0).standard_normal((n, 8)).astype(np.float32)


def whole(docs: Sequence[Doc]) -> List[List[Span]]:
    """A span getter: each Doc is one span."""
    return [[doc[:]] for doc in docs]


def pickled(value: Any) -> Any:
    """RETURNS (Any): What another process gets that a value is sent to."""
    return pickle.loads(pickle.dumps(value))


def contents(folder: Path) -> Optional[Dict[str, bytes]]:
    """RETURNS (Optional[Dict[str, bytes]]): The bytes of each file, also of those in
    folders, or None if there is no folder.
    """
    if not folder.exists():
        return None
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def read_jsonl(path: Path) -> List[Any]:
    """RETURNS (List[Any]): What each line holds. The last one ends, too."""
    *lines, rest = path.read_text(encoding="utf8").split("\n")
    assert not rest
    return [json.loads(line) for line in lines]


# Markers of the extra `dev` in `setup.cfg`.
_HAVE_MLX = sys.platform == "linux" or (
    sys.platform == "darwin" and platform.machine() == "arm64"
)
_INSTALLED = {"mlx": _HAVE_MLX, "triton": sys.platform == "linux"}


needs_modes = pytest.mark.skipif(os.name == "nt", reason="needs modes of POSIX")


def require(module: str, reason: Optional[str] = None) -> Any:
    """Skip a test where a module is missing that the extra `dev` installs. Where CI
    runs, which installs all of it, the test fails: that a library no longer works must
    not pass for one that is not there.

    reason (Optional[str]): What to say where it is skipped.
    RETURNS (Any): The module.
    """
    if os.environ.get("CI") and _INSTALLED.get(module.partition(".")[0], True):
        return importlib.import_module(module)
    return pytest.importorskip(module, reason=reason)


def skip_unless_here(backend: str) -> None:
    """Skip a test where a backend cannot run."""
    if backend in ("mlx", "onnx", "openvino"):
        require("mlx.core" if backend == "mlx" else backend)
    missing = look_for(backend).missing
    if missing:
        pytest.skip(missing)
