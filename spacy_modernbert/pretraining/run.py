"""A run of pretraining: from a checkpoint and raw texts to a better checkpoint."""

import itertools
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

import numpy as np
import torch
from tokenizers import Tokenizer

from ..atomic import same_place
from ..documents.wordpieces import WordpieceTokenizer
from ..encoder.backend import (
    check_backend,
    naming_variable,
    resolve_backend,
    resolve_precision,
)
from ..encoder.checkpoint import (
    TOKENIZER,
    load_config,
    open_tensors,
    read_tokenizer_config,
    read_tokenizer_json,
    save_checkpoint,
)
from ..encoder.config import ModernBertConfig
from ..encoder.head import init_head, open_head
from ..encoder.hub import resolve
from ..encoder.torch.checkpointing import recomputes
from ..encoder.torch.out_of_memory import bound_cache, watch_memory
from ..encoder.weights import count_weights
from ..errors import Errors
from ..raw_texts import read_texts
from ..types import PackedBatch
from .mask_token import make_masking
from .masked_lm import MaskedLM
from .masking import MaskedBatch
from .optimizers import make_optimizers
from .probe import (
    MaskedLMScores,
    evaluate_masked,
    mask_texts,
    shorten_context,
    unigram_baseline,
)
from .schedule import WarmupStableDecay
from .sequences import TokenizedTexts, stream, tokenize
from .settings import STATE, Phase, PretrainingSettings
from .state import (
    Digests,
    Resumed,
    digest_encoder,
    digest_texts,
    load_state,
    save_state,
)

ENCODER = "encoder"

_TORCH_BACKENDS = ("cuda", "mps", "cpu")
_SHORT_CONTEXT = 512
# Random streams: each use has its own, so that a resumed run draws the same numbers.
_ORDER, _MASKING = 0, 1


@dataclass(frozen=True)
class StepReport:
    """A step that was taken.

    step (int): Its number, from 1.
    loss (float): The mean cross-entropy of its masked wordpieces, in nats.
    accuracy (float): The share of them that were predicted correctly.
    learn_rate (float): The learning rate.
    wordpieces (int): The wordpieces of its batch.
    """

    step: int
    loss: float
    accuracy: float
    learn_rate: float
    wordpieces: int


class Pretraining:
    """A run. `steps` takes its steps. It can be stopped between any two steps and then
    continued; after an error, from what was saved.
    """

    def __init__(self, settings: PretrainingSettings, output: Path):
        """settings (PretrainingSettings): What to do.
        output (Path): Folder for the checkpoint (`encoder/`), the state
            (`state.safetensors`) and the log (`log.jsonl`). If a state is there, the
            run is resumed from it.
        RAISES (ValueError): If something that is named cannot be used.
        RAISES (EncoderOutOfMemory): If the device has too little memory.
        """
        backend, self._dtype = _choose(settings)
        self.settings = settings
        self.output = output
        self._device = torch.device(backend)
        self.source = source = resolve(settings.encoder, settings.revision)
        if same_place(source, output / ENCODER):
            raise ValueError(Errors.PRETRAINING_ONTO_START.format(folder=source))
        self._config = load_config(source)
        self._n_weights = count_weights(self._config)
        _check_lengths(settings.phases, self._config)
        self._tokenizer_json = read_tokenizer_json(source)
        self._tokenizer_config = read_tokenizer_config(source)
        self._tokenizer = WordpieceTokenizer.from_json(
            self._tokenizer_json, str(source / TOKENIZER), self._config.vocab_size
        )
        self._masking = make_masking(
            self._tokenizer,
            Tokenizer.from_str(self._tokenizer_json),
            self._tokenizer_config or {},
            settings.mask_rate,
            self._config.vocab_size,
            source,
        )
        head = open_head(source, self._config)
        self.had_head = head is not None
        # Before anything may find the memory full: its error tells what is saved.
        self.step = self._saved = 0
        self.model = self._make_model(head)
        self._optimizers = make_optimizers(self.model, settings, self._dtype)
        config_json = json.dumps(self._config.to_dict(), sort_keys=True)
        # Of the weights that were read, before a state takes their place.
        encoder_digest = digest_encoder(
            (config_json, self._tokenizer_json), self.model.tensors()
        )
        self._train = self._tokenize(settings.train)
        self._dev = self._tokenize(settings.dev) if settings.dev else None
        self._digests = Digests(
            encoder_digest,
            digest_texts(self._train.ids),
            digest_texts(self._dev.ids if self._dev is not None else ()),
        )
        # None for a run that begins.
        self.resumed: Optional[Resumed] = None
        self._found = _stamp(output / STATE)
        if self._found is not None:
            self.resumed = self._resume()
        if self._dev is not None:
            # If there is nothing to predict, fail now and not after hours.
            for phase in settings.phases:
                self._mask_dev(self._dev, phase.length)

    def check_unchanged(self) -> None:
        """Check that the state is still the one that this run was resumed from: call
        this when no other process can write it any more.

        RAISES (ValueError): If another process has written one.
        """
        if _stamp(self.output / STATE) != self._found:
            raise ValueError(Errors.PRETRAINING_STATE_CHANGED.format(path=self.output))

    @property
    def is_done(self) -> bool:
        """RETURNS (bool): Whether all steps were taken."""
        return self.step >= self.settings.total

    def steps(self) -> Iterator[StepReport]:
        """Take the steps that are left.

        YIELDS (StepReport): Each step, when it was taken.
        RAISES (ValueError): If a loss or a gradient is not finite.
        RAISES (EncoderOutOfMemory): If the device has too little memory.
        """
        settings = self.settings
        schedule = WarmupStableDecay(
            settings.learn_rate,
            settings.warmup_steps,
            settings.decay_steps,
            settings.total,
        )
        for batch in self._batches():
            rng = np.random.default_rng([settings.seed, _MASKING, self.step])
            masked = self._masking.mask(batch, rng)
            learn_rate = schedule(self.step)
            # Of dropout, which draws from torch's stream.
            torch.manual_seed(rng.integers(2**63))
            loss, accuracy = self._take_step(masked, learn_rate)
            self.step += 1
            yield StepReport(self.step, loss, accuracy, learn_rate, batch.total)

    def evaluate(self) -> Optional[MaskedLMScores]:
        """RETURNS (Optional[MaskedLMScores]): How well masked wordpieces of held-out
        texts are predicted, in sequences as long as those of the phase that the run is
        in; None if there are no texts.
        RAISES (ValueError): If they are so short that no wordpiece is masked.
        RAISES (EncoderOutOfMemory): If the device has too little memory.
        """
        if self._dev is None:
            return None
        length = self._phase_at(max(0, self.step - 1)).length
        batches = self._mask_dev(self._dev, length)
        with watch_memory(self._device, self._describe_evaluation(length)):
            return evaluate_masked(self.model, batches)

    def probe(self) -> Optional[Dict[str, Any]]:
        """Compare the model with a baseline of frequencies, and with less context.

        RETURNS (Optional[Dict[str, Any]]): JSON-serializable; None if there are no
            held-out texts.
        RAISES (ValueError): As for `evaluate`.
        RAISES (EncoderOutOfMemory): As for `evaluate`.
        """
        if self._dev is None:
            return None
        longest = max(phase.length for phase in self.settings.phases)
        batches = self._mask_dev(self._dev, longest)
        targets = np.concatenate([masked.targets for masked in batches])
        counted = np.concatenate(self._train.ids)
        loss, accuracy = unigram_baseline(counted, targets, self._config.vocab_size)
        scores = {"unigram": MaskedLMScores(loss, accuracy, targets.size)}
        special = (self._dev.prefix, self._dev.suffix)
        with watch_memory(self._device, self._describe_evaluation(longest)):
            scores[str(longest)] = evaluate_masked(self.model, batches)
            if longest > _SHORT_CONTEXT:
                short = [shorten_context(b, _SHORT_CONTEXT, *special) for b in batches]
                scores[str(_SHORT_CONTEXT)] = evaluate_masked(self.model, short)
        return {context: asdict(each) for context, each in scores.items()}

    def save(self) -> None:
        """Write the state and the checkpoint: first beside their places."""
        state = self.output / STATE
        save_state(state, self.model, self._optimizers, self.step, self._digests)
        self._saved = self.step
        self.export(self.output / ENCODER)

    def export(self, folder: Path, dtype: str = "F32") -> None:
        """Write the checkpoint, which transformers' `ModernBertForMaskedLM` reads, too.

        folder (Path): Where to write.
        dtype (str): "F32" or "F16".
        """
        save_checkpoint(
            folder,
            self._config,
            self.model.tensors(),
            self._tokenizer_json,
            self._tokenizer_config,
            head=self.model.head_tensors(),
            dtype=dtype,
        )

    def _make_model(self, head: Optional[Mapping[str, Any]]) -> MaskedLM:
        """head (Optional[Mapping[str, NDArray]]): The head of the checkpoint; None to
            draw one.
        RETURNS (MaskedLM): The model, with the weights of the checkpoint.
        """
        config = self._config
        with watch_memory(self._device, self._describe_weights()):
            return MaskedLM.from_tensors(
                config,
                open_tensors(self.source, config),
                init_head(config, self.settings.seed) if head is None else head,
                self._device,
                self._dtype,
            )

    def _resume(self) -> Resumed:
        """Take the weights and the step from the state that was saved."""
        with watch_memory(self._device, self._describe_weights()):
            resumed = load_state(
                self.output / STATE, self.model, self._optimizers, self._digests
            )
        self.step = self._saved = resumed.step
        return resumed

    def _tokenize(self, path: str) -> TokenizedTexts:
        tokenized = tokenize(read_texts(Path(path).expanduser()), self._tokenizer)
        if not any(map(len, tokenized.ids)):
            raise ValueError(Errors.EMPTY_TEXTS.format(path=path))
        return tokenized

    def _batches(self) -> Iterator[PackedBatch]:
        """The batches of the steps that are left."""
        first = 0
        for i, phase in enumerate(self.settings.phases):
            done = min(max(0, self.step - first), phase.steps)
            if done < phase.steps:
                batches = stream(
                    self._train,
                    phase.length,
                    phase.batch_wordpieces,
                    [self.settings.seed, _ORDER, i],
                )
                yield from itertools.islice(batches, done, phase.steps)
            first += phase.steps

    def _phase_at(self, step: int) -> Phase:
        ends = itertools.accumulate(phase.steps for phase in self.settings.phases)
        for phase, end in zip(self.settings.phases, ends, strict=True):
            if step < end:
                return phase
        return self.settings.phases[-1]

    def _take_step(self, masked: MaskedBatch, learn_rate: float) -> Tuple[float, float]:
        n_masked = max(1, masked.positions.size)
        loss = torch.zeros((), device=self._device)
        n_correct = torch.zeros((), dtype=torch.int64, device=self._device)
        for optimizer in self._optimizers:  # of a step that failed half-way
            optimizer.zero_grad(set_to_none=True)
        for part in masked.parts(self.settings.max_batch_wordpieces):
            recompute = self._recomputes(part.batch.total)
            message = self._describe_pass(part.batch, recompute)
            with watch_memory(self._device, message):
                part_loss, part_correct = self.model.score(part, recompute)
                (part_loss / n_masked).backward()
            loss += part_loss.detach()
            n_correct += part_correct
        clip = self.settings.grad_clip
        with watch_memory(self._device, self._describe_weights()):
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
            for optimizer in self._optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = learn_rate
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        self.model.weights_changed()
        bound_cache(self._device)
        # Read only now that the device has been given the whole step: here the host
        # waits for it.
        mean, share = loss.item() / n_masked, n_correct.item() / n_masked
        if not (math.isfinite(mean) and math.isfinite(norm)):
            raise ValueError(
                Errors.PRETRAINING_NOT_FINITE.format(
                    step=self.step + 1,
                    loss=mean,
                    norm=float(norm),
                    saved=self._describe_saved(),
                    learn_rate=self.settings.learn_rate,
                )
            )
        return mean, share

    def _recomputes(self, total: int) -> bool:
        return recomputes(
            self.settings.gradient_checkpointing,
            self._config,
            self._device,
            self._dtype,
            self._config.num_hidden_layers,
            total,
        )

    def _describe_pass(self, batch: PackedBatch, recompute: bool) -> str:
        """RETURNS (str): What to do where it is too large for the device."""
        return Errors.PRETRAINING_OUT_OF_MEMORY.format(
            device=self._device,
            total=batch.total,
            n_seqs=batch.n_seqs,
            max_batch_wordpieces=self.settings.max_batch_wordpieces,
            advice="" if recompute else "set gradient_checkpointing = true, or ",
            saved=self._describe_saved(),
        )

    def _describe_evaluation(self, length: int) -> str:
        """RETURNS (str): What to do where sequences of that length, of which nothing is
        learned, are too long for the device.
        """
        return Errors.PRETRAINING_EVALUATION_OUT_OF_MEMORY.format(
            device=self._device, length=length, saved=self._describe_saved()
        )

    def _describe_weights(self) -> str:
        """RETURNS (str): What to do where they are too large for the device, with what
        the optimizer remembers of each.
        """
        return Errors.PRETRAINING_WEIGHTS_OUT_OF_MEMORY.format(
            device=self._device,
            n_weights=self._n_weights,
            saved=self._describe_saved(),
        )

    def _describe_saved(self) -> str:
        if not self._saved:
            # What an earlier run saved is read when the weights are there.
            has_state = (self.output / STATE).is_file()
            return (
                Errors.PRETRAINING_SAVED_BEFORE
                if has_state
                else Errors.PRETRAINING_NOTHING_SAVED
            )
        return Errors.PRETRAINING_SAVED.format(step=self._saved)

    def _mask_dev(self, dev: TokenizedTexts, length: int) -> List[MaskedBatch]:
        budget = self.settings.evaluate_wordpieces
        batches = mask_texts(dev, self._masking, length, budget, self.settings.seed)
        if not any(masked.positions.size for masked in batches):
            raise ValueError(
                Errors.NOTHING_MASKED.format(
                    path=self.settings.dev, n_texts=len(dev.ids)
                )
            )
        return batches


def _choose(settings: PretrainingSettings) -> Tuple[str, torch.dtype]:
    """RETURNS (Tuple[str, torch.dtype]): The backend that is meant, and what matrices
    are multiplied in.
    RAISES (ValueError): If it is none of torch, or cannot be used here.
    """
    with naming_variable() as variable:
        named = check_backend(variable or settings.backend)
        if named not in ("auto", *_TORCH_BACKENDS):
            raise ValueError(Errors.PRETRAINING_NEEDS_TORCH_BACKEND.format(value=named))
    backend = resolve_backend(settings.backend, to_train=True, among=_TORCH_BACKENDS)
    with naming_variable():
        precision = resolve_precision(settings.precision, backend)
    return backend, getattr(torch, precision)


def _check_lengths(phases: Iterable[Phase], config: ModernBertConfig) -> None:
    for phase in phases:
        if phase.length > config.max_wordpieces:
            raise ValueError(
                Errors.PRETRAINING_TOO_LONG.format(
                    value=phase.length, limit=config.max_wordpieces
                )
            )


def _stamp(path: Path) -> Optional[Tuple[int, int]]:
    """RETURNS (Optional[Tuple[int, int]]): What tells a file from one that is renamed
    to its place later; None if there is none.
    """
    if not path.is_file():
        return None
    found = path.stat()
    return found.st_ino, found.st_mtime_ns
