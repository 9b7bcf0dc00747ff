"""Vectors of texts, from any checkpoint or pipeline and on any backend.

    embedder = load_embedder("answerdotai/ModernBERT-base")
    vectors = embedder.embed(["A text.", "Another one, of any length."])

How a text longer than the window is pooled is explained in `documents/doc_pooling.py`.
"""

import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional

import numpy as np
from spacy.tokens import Doc
from spacy.util import dot_to_object, load_model_from_config
from spacy.vocab import Vocab
from thinc.api import Config

from .documents.doc_pooling import own_rows, plan_doc_pooling, with_special
from .documents.wordpieces import WordpieceTokenizer
from .encoder.backend import resolve_precision
from .encoder.checkpoint import check_is_no_run
from .encoder.hub import resolve
from .encoder.protocol import Encoder
from .encoder.sentences import resolve_pooling
from .errors import Errors
from .layers.budget import Budget
from .layers.encode import find_layers, get_shim
from .layers.passes import encode_batches, run_passes
from .layers.plan import Plan, make_plan
from .layers.settings import EncoderSettings
from .layers.shim import EncoderShim
from .layers.workers import run_single_threaded_if_worker
from .pipelines import (
    EncoderBlock,
    check_revision,
    find_encoder_blocks,
    find_pipeline,
    read_pipeline_config,
)
from .span_getters import (
    MIN_WINDOW,
    LongContextSpans,
    check_window,
)
from .types import Floats, PackedBatch

_WINDOW, _OVERLAP = 8192, 512

# Texts are read in chunks of this many characters for each wordpiece that a pass holds,
# which is about as many as an English wordpiece has.
_CHARACTERS_PER_WORDPIECE = 4

# No character has more bytes in UTF-8, so a byte-level tokenizer makes no more
# wordpieces of it.
_BYTES_PER_CHARACTER = 4
_LONGEST_WORD = 64


@dataclass(frozen=True)
class Embedded:
    """The vectors of some texts that followed each other.

    vectors (Floats): `(n_texts, width)` float32. Zeros for a text without wordpieces.
    n_wordpieces (int): How many wordpieces were encoded.
    """

    vectors: Floats
    n_wordpieces: int


@dataclass(frozen=True)
class Embedder:
    """Makes vectors of texts.

    encoder (Encoder): The encoder, on any backend.
    tokenizer (WordpieceTokenizer): Its tokenizer.
    get_spans (LongContextSpans): The window and the overlap for long texts.
    pooling (str): "cls" or "mean".
    max_batch_wordpieces (int): The most wordpieces of a pass.
    backend (str): Where the encoder runs, not "auto".
    precision (str): What matrices are multiplied in, not "auto".
    quantization (Optional[Mapping[str, Any]]): How weights are quantized, if they are.

    Invariant: a window fits into a pass, and into the encoder.
    """

    encoder: Encoder
    tokenizer: WordpieceTokenizer
    get_spans: LongContextSpans
    pooling: str
    max_batch_wordpieces: int
    backend: str
    precision: str
    quantization: Optional[Mapping[str, Any]]

    def __post_init__(self) -> None:
        check_window(
            self.get_spans,
            self.encoder.config.max_wordpieces,
            self.max_batch_wordpieces,
        )

    @cached_property
    def _budget(self) -> Budget:
        """What passes may hold: less, once the device has run out of memory."""
        return Budget(self.max_batch_wordpieces)

    @property
    def width(self) -> int:
        """RETURNS (int): The width of the vectors."""
        return self.encoder.config.hidden_size

    def embed(self, texts: Iterable[str], *, normalize: bool = False) -> Floats:
        """The vectors of texts.

        texts (Iterable[str]): The texts, each of any length, maybe empty.
        normalize (bool): Whether to give vectors the length 1.
        RETURNS (Floats): `(n_texts, width)`, in the order of the texts. A text without
            wordpieces has zeros.
        RAISES (TypeError): If `texts` is a single string, or a text is no string.
        RAISES (ValueError): If a text has a lone surrogate.
        """
        none = np.zeros((0, self.width), np.float32)
        parts = self.stream(texts, normalize=normalize)
        return np.concatenate([none, *(part.vectors for part in parts)])

    def stream(
        self, texts: Iterable[str], *, normalize: bool = False
    ) -> Iterator[Embedded]:
        """The same bit by bit, for more texts than fit into memory.

        texts (Iterable[str]): The texts. No more are read than are encoded next.
        normalize (bool): Whether to give vectors the length 1.
        YIELDS (Embedded): The vectors of the next texts, one at least.
        RAISES (TypeError): If `texts` is a single string, or a text is no string.
        RAISES (ValueError): If a text has a lone surrogate.
        """
        for chunk in self._chunks(texts):
            plan = self._plan(chunk)
            vectors = self._pool(plan)
            yield Embedded(
                normalized(vectors) if normalize else vectors,
                plan.total,
            )

    def last_hidden_states(self, texts: Iterable[str]) -> Iterator[Floats]:
        """The vectors of the wordpieces of texts: what `embed` pools.

        texts (Iterable[str]): The texts.
        YIELDS (Floats): `(n_wordpieces, width)` for each text, its special wordpieces
            included: transformers' `last_hidden_state`. In a text longer than the
            window, each wordpiece has its vector in the window where it is farthest
            from a cut.
        RAISES (TypeError): If `texts` is a single string, or a text is no string.
        RAISES (ValueError): If a text has a lone surrogate.
        """
        for text in _checked(texts):
            plan = self._plan([text])
            output, _ = encode_batches(
                self.encoder, plan.batches, self._budget, is_train=False
            )
            lengths = plan.window_lengths
            if lengths.any():
                (windows,) = plan.windows
                n_prefix = len(self.tokenizer.prefix_ids)
                own = own_rows(windows, lengths, n_prefix)
                counted = with_special(own, windows, lengths, n_prefix)
                yield output[counted > 0]
            else:
                yield output

    def _chunks(self, texts: Iterable[str]) -> Iterator[List[str]]:
        most = _CHARACTERS_PER_WORDPIECE * self.max_batch_wordpieces
        chunk: List[str] = []
        n_chars = 0
        for text in _checked(texts):
            chunk.append(text)
            # An empty text takes memory, too.
            n_chars += max(len(text), _CHARACTERS_PER_WORDPIECE)
            if n_chars >= most:
                yield chunk
                chunk, n_chars = [], 0
        if chunk:
            yield chunk

    def _plan(self, texts: List[str]) -> Plan:
        run_single_threaded_if_worker()
        # A vocabulary remembers every word that it has met, so it is a new one.
        vocab = Vocab()
        capacity = self.get_spans.window - self.tokenizer.n_special
        longest = min(_LONGEST_WORD, max(1, capacity // _BYTES_PER_CHARACTER))
        return make_plan(
            [make_doc(text, vocab, longest) for text in texts],
            self.tokenizer,
            self.get_spans,
            min(self.encoder.config.max_wordpieces, self.max_batch_wordpieces),
            self.max_batch_wordpieces,
        )

    def _pool(self, plan: Plan) -> Floats:
        pooling = plan_doc_pooling(
            plan.windows,
            plan.window_lengths,
            len(self.tokenizer.prefix_ids),
            self.pooling,
        )
        vectors = np.zeros((pooling.n_docs, self.width), np.float32)

        def add(batch: PackedBatch, start: int) -> None:
            part = pooling.within(batch, start)
            part.add(self.encoder.encode_tokens(batch, part.rows), vectors)

        run_passes(plan.batches, self._budget, add)
        return vectors


def load_embedder(
    name: str,
    *,
    revision: Optional[str] = None,
    backend: Optional[str] = None,
    precision: Optional[str] = None,
    quantization: Optional[Mapping[str, Any]] = None,
    pooling: str = "auto",
    window: Optional[int] = None,
    overlap: Optional[int] = None,
    max_batch_wordpieces: Optional[int] = None,
) -> Embedder:
    """Make an embedder.

    name (str): The folder of a checkpoint, its id on the Hugging Face hub, or a saved
        pipeline, whose first encoder is taken.
    revision (Optional[str]): Commit, tag or branch on the hub; None for what is not
        from there.
    backend (Optional[str]): Where the encoder runs: "auto" or the name of a backend,
        whatever the environment variable `SPACY_MODERNBERT_BACKEND` says. None for that
        of the pipeline, or "auto".
    precision (Optional[str]): "auto", "float32", "bfloat16" or "float16". None for that
        of the pipeline, or "auto".
    quantization (Optional[Mapping[str, Any]]): `{"bits": 8}`, say: see
        `spacy-modernbert.Tok2VecModernBert.v1`. None for that of the pipeline, if
        backend and precision are those of the pipeline, too; else none.
    pooling (str): "cls", "mean", or "auto": as the checkpoint says, in the
        `1_Pooling/config.json` of sentence-transformers, else by
        `classifier_pooling` in its `config.json`, else "cls".
    window (Optional[int]): The wordpieces of a window. None for that of the pipeline,
        or as much as the encoder takes and a pass holds.
    overlap (Optional[int]): The wordpieces that two windows share. None for that of
        the pipeline, or 512, or half of a small window.
    max_batch_wordpieces (Optional[int]): The most wordpieces of a pass. None for that
        of the pipeline, or 16,384.
    RETURNS (Embedder): The embedder.
    RAISES (ValueError): If the encoder cannot be found or downloaded, or cannot be run
        like this.
    """
    check_revision(name, revision)
    settings: Dict[str, Any] = {"backend": backend, "precision": precision}
    settings = {key: value for key, value in settings.items() if value is not None}
    if quantization is not None or settings:
        # Another backend or precision may not support that of the pipeline.
        settings["quantization"] = quantization
    checked = EncoderSettings(name, revision, **settings)
    if max_batch_wordpieces is not None:
        # Not for a pipeline, whose own window must fit into its passes.
        checked = replace(checked, max_batch_wordpieces=max_batch_wordpieces)
    spans: Mapping[str, Any] = {}
    folder = find_pipeline(name)
    if folder is None:
        shim = EncoderShim(replace(checked, heed_variable=backend is None))
        shim.load(resolve(name, revision))
    else:
        config = read_pipeline_config(folder)
        blocks = find_encoder_blocks(config)
        if not blocks:
            check_is_no_run(folder)
            raise ValueError(Errors.PIPELINE_WITHOUT_ENCODER.format(pipeline=name))
        spans = blocks[0].spans
        shim = load_shim(folder, config, blocks[0], settings)
    loaded = shim.loaded
    most = max_batch_wordpieces or shim.settings.max_batch_wordpieces
    limit = min(loaded.encoder.config.max_wordpieces, most)
    # The name of a device begins with that of its backend.
    found_backend, _, _ = loaded.encoder.device.partition(":")
    return Embedder(
        encoder=loaded.encoder,
        tokenizer=loaded.tokenizer,
        get_spans=_choose_spans(window, overlap, spans, limit),
        pooling=resolve_pooling(pooling, loaded.encoder.config),
        max_batch_wordpieces=most,
        backend=found_backend,
        precision=resolve_precision(shim.settings.precision, found_backend),
        quantization=shim.settings.quantization,
    )


def _choose_spans(
    window: Optional[int],
    overlap: Optional[int],
    spans: Mapping[str, Any],
    limit: int,
) -> LongContextSpans:
    """How long texts are cut.

    window (Optional[int]): The wordpieces of a window, if that was said.
    overlap (Optional[int]): The wordpieces that two windows share, if that was said.
    spans (Mapping[str, Any]): Window and overlap of the pipeline, if there are any.
    limit (int): The most that a window may have if nobody says how many.
    RETURNS (LongContextSpans): The span getter.
    """
    if window is None:
        # Not below the minimum: then the error says what is too small for a window.
        window = max(MIN_WINDOW, min(spans.get("window", _WINDOW), limit))
    if overlap is None:
        overlap = spans.get("overlap", _OVERLAP)
        if window != spans.get("window"):
            overlap = min(overlap, window // 2)
    return LongContextSpans(window, overlap)


def _checked(texts: Iterable[str]) -> Iterator[str]:
    """YIELDS (str): The same texts."""
    # A string would pass as an iterable of texts: its characters.
    if isinstance(texts, str):
        raise TypeError(Errors.TEXTS_ARE_ONE.format(value=texts[:20]))
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            kind = type(text).__name__
            raise TypeError(Errors.TEXT_IS_NO_STRING.format(i=number, kind=kind))
        try:
            text.encode("utf8")
        except UnicodeEncodeError as error:
            raise ValueError(
                Errors.TEXT_HAS_SURROGATE.format(
                    i=number, char=text[error.start], at=error.start
                )
            ) from error
        yield text


def normalized(vectors: Floats) -> Floats:
    """Give vectors the length 1.

    vectors (Floats): `(n, width)`.
    RETURNS (Floats): `(n, width)`; what is zeros stays zeros.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, np.float32(1))


def make_doc(text: str, vocab: Vocab, longest: int) -> Doc:
    """Make a Doc of a text in any language, to find out where it may be cut.

    No token is longer than a window, not even in a text without spaces: a very long
    word becomes several tokens. These are not proper words, but they are found fast.

    text (str): The text.
    vocab (Vocab): The vocabulary.
    longest (int): The most characters of a token.
    RETURNS (Doc): The Doc. Its text is the same.
    """
    words = re.findall(rf"\s{{1,{longest}}}|\w{{1,{longest}}}|[^\s\w]", text)
    return Doc(vocab, words=words, spaces=[False] * len(words))


def load_shim(
    folder: Path, config: Config, block: EncoderBlock, settings: Mapping[str, Any]
) -> EncoderShim:
    """Load the encoder of a pipeline, and nothing else of it.

    folder (Path): The pipeline.
    config (Config): Its config, interpolated.
    block (EncoderBlock): Which encoder.
    settings (Mapping[str, Any]): Settings of `EncoderSettings`, in the place of its
        own. A backend that is among them wins over the environment variable.
    RETURNS (EncoderShim): The shim, with the encoder.
    """
    others = [name for name in config["components"] if name != block.component]
    # As `spacy.load` does, whose overrides cannot replace a value by a block.
    changed = config.copy()
    dot_to_object(changed, block.path).update(settings)
    nlp = load_model_from_config(changed, exclude=others)
    model = nlp.get_pipe(block.component).model  # type: ignore[attr-defined]
    shim = get_shim(find_layers(model)[0])
    heed_variable = "backend" not in settings
    shim.settings = replace(shim.settings, heed_variable=heed_variable)
    nlp.from_disk(folder, exclude=others)
    return shim
