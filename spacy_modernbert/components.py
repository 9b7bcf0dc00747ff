"""Registered factories: what `nlp.add_pipe` names.

spaCy imports this module with every `spacy.blank()`, so it imports neither torch nor
transformers, and of this package only what is light.
"""

import warnings
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple, Union

import srsly
from spacy.language import Language
from spacy.pipeline import EntityRecognizer
from spacy.pipeline._parser_internals.transition_system import TransitionSystem
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from spacy.util import ensure_path
from thinc.api import Config, Model, Optimizer

from .atomic import move_files, staging, sync_files
from .errors import Errors, Warnings
from .pipelines import ENCODER_FOLDER
from .reset import drop_gradients, forget_actions, reset_lower
from .scoring import check_weights
from .span_getters import ensure_span_getters_registry
from .types import Floats
from .undo import undone_if_it_fails
from .unseen import check_unseen, take_unseen, unseen_in_cfg

ensure_span_getters_registry()

DEFAULT_CONFIG = Config().from_str(
    """
[modernbert_ner]
moves = null
update_with_oracle_cut_size = 100
incorrect_spans_key = null
scorer = {"@scorers": "spacy.ner_scorer.v1"}
set_doc_vector = false

[modernbert_ner.model]
@architectures = "spacy.TransitionBasedParser.v2"
state_type = "ner"
extra_state_tokens = false
hidden_width = 64
maxout_pieces = 2
use_upper = false

[modernbert_ner.model.tok2vec]
@architectures = "spacy-modernbert.Tok2VecModernBert.v1"
name = "answerdotai/ModernBERT-base"
revision = null
backend = "auto"
precision = "auto"
quantization = null
max_batch_wordpieces = 16384
gradient_checkpointing = "auto"
frozen_layers = 0
layer_lr_decay = 1.0
grad_factor = 1.0
standardize = false
pooling = {"@layers": "reduce_mean.v1"}

[modernbert_ner.model.tok2vec.get_spans]
@span_getters = "spacy-modernbert.long_context_spans.v1"
window = 8192
overlap = 512
"""
)


@dataclass(frozen=True)
class PredictedDocs:
    """What was predicted for some Docs, before it is set on them.

    entities (Any): The entities, or the final states of the parser, or its beams.
    vectors (List[Floats]): `(width,)` for each Doc.
    """

    entities: Any
    vectors: List[Floats]


class ModernBertNER(EntityRecognizer):
    """spaCy's named entity recognizer, with an encoder that reads whole documents.

    Everything is inherited except this. Initializing encodes only what `standardize`
    measures: the width of the vectors is in the encoder's config. On the CPU, torch
    multiplies the matrices of all layers. On disk, the encoder is a folder of its own,
    which is an ordinary Hugging Face checkpoint. Where Numba is installed, compiled
    code trains and decodes, with the same gradients and the same entities. Rehearsing
    leaves out empty Docs. While Docs are decoded, an encoder on a GPU works on the next
    ones. And Docs can be given a vector.

    set_doc_vector (bool): Whether to set `doc.vector`. Like other settings, it is in
        the config of the pipeline and not saved with the component.
    """

    set_doc_vector: bool = False

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        nlp: Optional[Language] = None,
        labels: Optional[dict] = None,
    ) -> None:
        """Initialize the component for training.

        get_examples (Callable[[], Iterable[Example]]): Gives the training examples,
            of which the labels are learned.
        nlp (Optional[Language]): The pipeline.
        labels (Optional[dict]): The labels, as `init labels` writes them.
        RAISES (ValueError): If the encoder cannot be loaded, or cannot be run as the
            config says. What was learned before is still there then.
        """
        # Imported late, here and below, since every `spacy.blank()` imports this file.
        from .layers.encode import find_layers
        from .layers.tok2vec import show_one_word

        if labels is not None:
            # In the files of `init labels`, the keys of JSON are strings.
            labels = {int(action): counts for action, counts in labels.items()}
        init = self.model.init
        with undone_if_it_fails(self):
            reset_lower(self.model)
            if find_layers(self.model):
                self.model.init = show_one_word(init)
            try:
                super().initialize(get_examples, nlp=nlp, labels=labels)
            finally:
                self.model.init = init
        self.model.attrs["unseen_classes"].clear()
        drop_gradients(self.model)

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optional[Optimizer] = None,
        losses: Optional[Dict[str, float]] = None,
    ) -> Dict[str, float]:
        """Learn from a batch of examples.

        examples (Iterable[Example]): The examples.
        drop (float): The dropout rate.
        sgd (Optional[Optimizer]): The optimizer; None for `finish_update` to be called
            later.
        losses (Optional[Dict[str, float]]): Losses by component, which this one's is
            added to.
        RETURNS (Dict[str, float]): The losses.
        """
        from .layers.listeners import sure_to_answer
        from .layers.products import multiply_by_torch

        if not self.moves.n_moves:
            raise ValueError(Errors.NOT_INITIALIZED.format(component=self.name))
        multiply_by_torch(self.model)
        self._keep_labels()
        losses = {} if losses is None else losses
        # Read more than once, below.
        examples = list(examples)
        validate_examples(examples, "Parser.update")
        learner = import_compiled("learner")
        with sure_to_answer(self.model.layers[0], [each.x for each in examples]):
            if learner is None or not learner.update(self, examples, drop, sgd, losses):
                super().update(examples, drop=drop, sgd=sgd, losses=losses)
        return losses

    def rehearse(
        self,
        examples: Iterable[Example],
        sgd: Optional[Optimizer] = None,
        losses: Optional[Dict[str, float]] = None,
        **cfg: Any,
    ) -> Optional[Dict[str, float]]:
        """Learn to say of a batch what was said before training went on.

        examples (Iterable[Example]): The examples, whose references are not looked at.
        sgd (Optional[Optimizer]): The optimizer; None for `finish_update` to be called
            later.
        losses (Optional[Dict[str, float]]): Losses by component, which this one's is
            added to.
        RETURNS (Optional[Dict[str, float]]): The losses; None if there is nothing to
            rehearse from, which `nlp.resume_training` sets.
        """
        if self._rehearsal_model is not None:
            examples = list(examples)
            validate_examples(examples, "Parser.rehearse")
            # Empty Docs get no scores, but spaCy would read some for them, beyond the
            # array, and go on without end.
            examples = [each for each in examples if len(each.predicted)]
            if not examples:
                losses = {} if losses is None else losses
                losses.setdefault(self.name, 0.0)
                return losses
        found: Optional[Dict[str, float]] = super().rehearse(
            examples, sgd=sgd, losses=losses, **cfg
        )
        return found

    def predict(self, docs: Iterable[Doc]) -> Any:
        """Find the entities of Docs, without changing the Docs.

        docs (Iterable[Doc]): The Docs.
        RETURNS (Any): What `set_annotations` sets them from: the entities, or the final
            states of spaCy's parser, or its beams; with `set_doc_vector`,
            `PredictedDocs`.
        """
        if isinstance(docs, Doc):
            docs = [docs]
        elif not isinstance(docs, list):
            docs = list(docs)
        if not self.set_doc_vector:
            return self._predict_entities(docs)
        from .layers.doc_vectors import encode_with_doc_vectors

        encoded = encode_with_doc_vectors(self.model, docs)
        entities = self._predict_entities(encoded)
        return PredictedDocs(entities, encoded.vectors.docs)

    def _predict_entities(self, docs: List[Doc]) -> Any:
        from .layers.products import multiply_by_torch

        multiply_by_torch(self.model)
        self._keep_labels()
        decoder = import_compiled("decoder")
        entities = decoder.predict_entities(self, docs) if decoder else None
        return super().predict(docs) if entities is None else entities

    @property
    def labels(self) -> Tuple[str, ...]:
        """RETURNS (Tuple[str, ...]): The labels that there are actions for."""
        self._keep_labels()
        found: Tuple[str, ...] = super().labels
        return found

    def _keep_labels(self) -> None:
        """Keep the strings of labels: actions are named by them. spaCy adds the labels
        of entities that a Doc comes with. If that was in a memory zone, their strings
        were freed at its end.
        """
        for label in set().union(*self.moves.labels.values()):
            self.vocab.strings.add(label, allow_transient=False)

    def set_annotations(self, docs: Iterable[Doc], scores: Any) -> None:
        """Set the entities of Docs, and their vectors.

        docs (Iterable[Doc]): The Docs.
        scores (Any): What `predict` found for them.
        """
        if isinstance(scores, PredictedDocs):
            from .layers.doc_vectors import set_doc_vector

            docs = list(docs)
            for doc, vector in zip(docs, scores.vectors, strict=True):
                set_doc_vector(doc, vector)
            scores = scores.entities
        decoder = import_compiled("decoder")
        if decoder is None or not decoder.are_entities(scores):
            super().set_annotations(docs, scores)
            return
        for doc, entities in zip(docs, scores, strict=True):
            decoder.set_entities(doc, entities)
            for hook in self.postprocesses:
                hook(doc)

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 256) -> Iterator[Doc]:
        """Process a stream of Docs. Where the encoder has a device of its own, it works
        while Docs are tokenized and decoded.

        stream (Iterable[Doc]): The Docs.
        batch_size (int): The most Docs in a batch. There are fewer where Docs are long
            (`layers.ahead`).
        YIELDS (Doc): The same Docs, in order. Those of a batch in which something goes
            wrong are left to the error handler.
        """
        from .layers.ahead import encode_ahead, leave_to_model
        from .layers.encode import get_shim
        from .layers.tok2vec import find_tok2vec, predict_vectors, recalls

        tok2vec = find_tok2vec(self.model)
        if tok2vec is None or not get_shim(tok2vec.layers[0]).has_encoder:
            yield from super().pipe(stream, batch_size=batch_size)
            return
        if self.set_doc_vector:
            from .layers.doc_vectors import predict_with_doc_vectors

            ahead = encode_ahead(tok2vec, stream, batch_size, predict_with_doc_vectors)
        elif recalls(tok2vec):
            ahead = leave_to_model(tok2vec, stream, batch_size)
        else:
            ahead = encode_ahead(tok2vec, stream, batch_size, predict_vectors)
        error_handler = self.get_error_handler()
        with closing(ahead) as batches:
            for docs, finish in batches:
                try:
                    encoded = finish()
                    self.set_annotations(encoded, self.predict(encoded))
                    # Else they would be held while the next ones are made.
                    del encoded, finish
                    yield from docs
                except Exception as error:
                    error_handler(self.name, self, docs, error)

    def to_disk(self, path: Union[str, Path], exclude: Iterable[str] = ()) -> None:
        """Save the component to a folder. The encoder is written to `encoder/` in it,
        in the Hugging Face layout. If saving fails, or is interrupted, before all is
        written, what was saved there before is left as it was.

        path (Union[str, Path]): The folder.
        exclude (Iterable[str]): Fields to leave out; "model" includes the encoder.
        RAISES (ValueError): If its subfolder `encoder/` holds files that are not those
            of a checkpoint.
        RAISES (OSError): If the folder cannot be written.
        """
        from .layers.encode import find_layers, get_shim
        from .layers.shim import encoders_apart

        exclude = list(exclude)
        folder = ensure_path(path)
        shims = [get_shim(layer) for layer in find_layers(self.model)]
        # There is one, unless a config says otherwise, and it has an encoder, unless
        # the pipeline was never initialized.
        is_apart = "model" not in exclude and len(shims) == 1 and shims[0].has_encoder
        with staging(folder) as fresh:
            with unseen_in_cfg(self), encoders_apart() if is_apart else nullcontext():
                super().to_disk(fresh, exclude=exclude)
            sync_files(fresh)
            put_in_place = partial(move_files, fresh, folder)
            # The old model does not load with the new encoder. So both are on the disk
            # before they are renamed, one right after the other.
            if is_apart:
                shims[0].save(folder / ENCODER_FOLDER, then=put_in_place)
            else:
                put_in_place()

    def from_disk(
        self, path: Union[str, Path], exclude: Iterable[str] = ()
    ) -> "ModernBertNER":
        """Load the component from a folder. Nothing else is read or looked up, not even
        the checkpoint that the encoder was started from.

        path (Union[str, Path]): The folder.
        exclude (Iterable[str]): Fields to leave out; "model" includes the encoder.
        RETURNS (ModernBertNER): The component itself.
        RAISES (ValueError): If the encoder's folder is missing or damaged, or holds
            another encoder than the one that was saved. The component is as it was
            then, and so it is if anything else fails; only the vocab may have been
            read.
        """
        exclude = list(exclude)
        folder = ensure_path(path)
        with undone_if_it_fails(self), self._replacing(exclude):
            with nullcontext() if "model" in exclude else _naming(folder / "model"):
                super().from_disk(folder, exclude=exclude)
            self._load_encoder(folder)
        return self

    def _load_encoder(self, path: Path) -> None:
        from .layers.encode import bind, find_layers, get_shim

        folder = path / ENCODER_FOLDER
        for layer in find_layers(self.model):
            if get_shim(layer).is_apart:
                if not folder.is_dir():
                    raise ValueError(
                        Errors.ENCODER_FOLDER_MISSING.format(
                            component=self.name, folder=folder
                        )
                    )
                get_shim(layer).load_apart(folder, path / "model")
                bind(layer)

    @contextmanager
    def _replacing(self, exclude: List[str]) -> Iterator[None]:
        """Within this context, another recognizer is loaded into this one.

        exclude (List[str]): Fields that are left as they are.
        RAISES (ValueError): If what was loaded does not fit together.
        """
        has_upper = self.model.attrs.get("has_upper")
        if "model" not in exclude:
            forget_actions(self.model)
            # A copy of what was to be learned further, which spaCy would enlarge.
            self._rehearsal_model = None
        yield
        found = self.model.attrs.get("has_upper")
        if found != has_upper:
            raise ValueError(
                Errors.PARSER_OTHER_UPPER.format(
                    component=self.name, found=found, wanted=has_upper
                )
            )
        check_weights(self)
        unseen = take_unseen(self)
        if "model" not in exclude:
            check_unseen(self, unseen)
            self.model.attrs["unseen_classes"].update(unseen)
            drop_gradients(self.model)

    def to_bytes(self, exclude: Iterable[str] = ()) -> bytes:
        """RETURNS (bytes): The component, its encoder included.

        exclude (Iterable[str]): Fields to leave out.
        """
        with unseen_in_cfg(self):
            data: bytes = super().to_bytes(exclude=list(exclude))
            return data

    def from_bytes(
        self, bytes_data: bytes, exclude: Iterable[str] = ()
    ) -> "ModernBertNER":
        """Load the component from a byte string.

        bytes_data (bytes): What `to_bytes` gave.
        exclude (Iterable[str]): Fields to leave out.
        RETURNS (ModernBertNER): The component itself. If anything fails, it is as it
            was; only the vocab may have been read.
        """
        exclude = list(exclude)
        with undone_if_it_fails(self):
            if "model" not in srsly.msgpack_loads(bytes_data):
                # It was left out: there is none to replace the one here by.
                exclude.append("model")
            with self._replacing(exclude):
                super().from_bytes(bytes_data, exclude=exclude)
        return self


@contextmanager
def _naming(model: Path) -> Iterator[None]:
    """Within this context, the file of a model is loaded. Where that fails because it
    cannot be read, it is named, which spaCy does not do.

    model (Path): The file.
    RAISES (ValueError): If it cannot be read.
    """
    try:
        yield
    except Exception:
        if model.is_file():
            try:
                srsly.read_msgpack(model)
            except (MemoryError, OSError):
                raise
            except Exception as error:  # a damaged file can raise any
                message = Errors.BAD_PIPELINE_MODEL.format(path=model, error=error)
                raise ValueError(message) from error
        raise


@cache
def import_compiled(name: str) -> Optional[ModuleType]:
    """Import a module whose functions Numba compiles.

    name (str): "decoder" or "learner".
    RETURNS (Optional[ModuleType]): The module; None if Numba is not installed, or it is
        but cannot be imported, which is warned of.
    """
    try:
        import numba  # noqa: F401
    except Exception as error:
        # Such as ImportError, with a NumPy that it does not support, or OSError, if its
        # compiler cannot be loaded.
        if not (isinstance(error, ModuleNotFoundError) and error.name == "numba"):
            warnings.warn(Warnings.NUMBA_BROKEN.format(error=error), stacklevel=2)
        return None
    return import_module(f".{name}", __package__)


@Language.factory(
    "modernbert_ner",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type"],
    default_config=DEFAULT_CONFIG["modernbert_ner"],
    default_score_weights={
        "ents_f": 1.0,
        "ents_p": 0.0,
        "ents_r": 0.0,
        "ents_per_type": None,
    },
)
def make_modernbert_ner(
    nlp: Language,
    name: str,
    model: Model,
    moves: Optional[TransitionSystem],
    update_with_oracle_cut_size: int,
    incorrect_spans_key: Optional[str],
    scorer: Optional[Callable],
    set_doc_vector: bool,
) -> ModernBertNER:
    """Create a named entity recognizer on a ModernBERT encoder. The arguments are
    those of spaCy's `ner`, and one more.

    nlp (Language): The pipeline.
    name (str): The component's name.
    model (Model[List[Doc], List[Floats2d]]): The model of a transition-based parser.
    moves (Optional[TransitionSystem]): The transition system; None for a new one.
    update_with_oracle_cut_size (int): About how many tokens there are in the stretches
        that the parser learns from, into which long Docs are cut. The encoder sees the
        Docs whole.
    incorrect_spans_key (Optional[str]): Span group with entities known to be wrong.
    scorer (Optional[Callable]): The scoring method.
    set_doc_vector (bool): Whether to set `doc.vector`, too: one vector for the whole
        Doc, pooled as the encoder's checkpoint says.
    RETURNS (ModernBertNER): The component.
    RAISES (ValueError): If vectors are to be set by a model that has not exactly one
        encoder.
    """
    if set_doc_vector:
        _prepare_doc_vectors(model, name)
    ner = ModernBertNER(
        nlp.vocab,
        model,
        name=name,
        moves=moves,
        update_with_oracle_cut_size=update_with_oracle_cut_size,
        incorrect_spans_key=incorrect_spans_key,
        scorer=scorer,
    )
    ner.set_doc_vector = set_doc_vector
    return ner


def _prepare_doc_vectors(model: Model, name: str) -> None:
    # Imported here, too, for Docs that were given their vectors in other processes.
    from .layers import doc_vectors  # noqa: F401
    from .layers.tok2vec import find_tok2vecs

    n_encoders = len(find_tok2vecs(model))
    if n_encoders != 1:
        message = Errors.NO_DOC_VECTOR.format(component=name, n_encoders=n_encoders)
        raise ValueError(message)
