"""The settings of a pretraining run, read from a config file."""

from dataclasses import dataclass, fields
from typing import Any, Callable, Mapping, Optional, Set, Tuple, Union

from ..checks import is_int, is_number
from ..errors import Errors

# What a run resumes from, in its output folder. It is named here, where torch is not
# imported.
STATE = "state.safetensors"

# Most gradients are too small for float16.
_PRECISIONS = ("auto", "float32", "bfloat16")
_OPTIMIZERS = ("adamw", "muon")

_COUNTS = ("max_batch_wordpieces", "eval_frequency", "evaluate_wordpieces")
_COUNTS_FROM_0 = ("seed", "warmup_steps", "decay_steps")
_POSITIVE = ("learn_rate", "eps", "grad_clip")
_BELOW_1 = ("beta1", "beta2", "weight_decay")


def _is_count(value: Any) -> bool:
    return is_int(value) and value > 0


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool) or value == "auto"


_RULES: Tuple[Tuple[Tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (("encoder", "train"), lambda v: isinstance(v, str), "text"),
    (("dev", "revision"), lambda v: v is None or isinstance(v, str), "text"),
    (_COUNTS, _is_count, "a whole number above 0"),
    (_COUNTS_FROM_0, lambda v: is_int(v) and v >= 0, "a whole number, not below 0"),
    (_POSITIVE, lambda v: is_number(v) and v > 0, "a number above 0"),
    (_BELOW_1, lambda v: is_number(v) and 0 <= v < 1, "a number from 0 up to 1"),
    (("mask_rate",), lambda v: is_number(v) and 0 < v < 1, "a number between 0 and 1"),
    (("precision",), lambda v: v in _PRECISIONS, ", ".join(_PRECISIONS)),
    (("optimizer",), lambda v: v in _OPTIMIZERS, ", ".join(_OPTIMIZERS)),
    (("gradient_checkpointing",), _is_switch, "true, false or auto"),
)


@dataclass(frozen=True)
class Phase:
    """A part of a run with sequences of one length.

    length (int): The most wordpieces of a sequence, special ones included.
    batch_wordpieces (int): The most wordpieces of a step.
    steps (int): Steps.

    Invariant: `4 <= length <= batch_wordpieces`, and at least one step.
    """

    length: int
    batch_wordpieces: int
    steps: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            _check(_is_count(value), field.name, value, "a whole number above 0")
        _check(self.length >= 4, "length", self.length, "at least 4")
        _check(
            self.batch_wordpieces >= self.length,
            "batch_wordpieces",
            self.batch_wordpieces,
            f"at least the length of a sequence, {self.length}",
        )


@dataclass(frozen=True)
class PretrainingSettings:
    """The settings of a run.

    encoder (str): The checkpoint to start from: a folder, or a hub id.
    train (str): File with texts: see `read_texts`.
    dev (Optional[str]): File with texts that are held out.
    phases (Tuple[Phase, ...]): One after the other, short sequences first.
    revision (Optional[str]): Commit, tag or branch on the hub.
    seed (int): The same seed gives the same run.
    backend (str): "auto", "cuda", "mps" or "cpu".
    precision (str): "auto", "float32" or "bfloat16": what matrices are multiplied in.
    mask_rate (float): The share of wordpieces that are to be predicted.
    optimizer (str): "adamw"; or "muon", which steps the matrices of the layers and of
        the head by Muon and the rest by AdamW: an encoder that starts from nothing
        learns faster.
    learn_rate (float): The highest learning rate.
    warmup_steps (int): Steps over which it rises.
    decay_steps (int): Steps at the end, over which it falls towards 0.
    beta1, beta2, eps, weight_decay (float): AdamW's. Norms and biases do not decay.
    grad_clip (float): The largest norm of all gradients together.
    max_batch_wordpieces (int): The most wordpieces of a pass. A larger batch is split,
        and the gradients are summed.
    gradient_checkpointing (Union[bool, str]): True, False or "auto": whether a pass
        keeps little of what it computes, which takes less memory and more time.
    eval_frequency (int): Steps between evaluations. Each also saves the run, which can
        be resumed from there.
    evaluate_wordpieces (int): About how many held-out wordpieces an evaluation takes.

    Invariants: rates lie between 0 and 1, there is a phase, and `warmup_steps +
    decay_steps` are no more than all steps.
    """

    encoder: str
    train: str
    phases: Tuple[Phase, ...]
    dev: Optional[str] = None
    revision: Optional[str] = None
    seed: int = 0
    backend: str = "auto"
    precision: str = "auto"
    mask_rate: float = 0.3
    optimizer: str = "adamw"
    learn_rate: float = 1e-3
    warmup_steps: int = 100
    decay_steps: int = 0
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6
    weight_decay: float = 1e-2
    grad_clip: float = 1.0
    max_batch_wordpieces: int = 16384
    gradient_checkpointing: Union[bool, str] = "auto"
    eval_frequency: int = 200
    evaluate_wordpieces: int = 65536

    def __post_init__(self) -> None:
        for keys, holds, wanted in _RULES:
            for key in keys:
                value = getattr(self, key)
                _check(holds(value), key, value, wanted)
        _check(bool(self.phases), "phases", {}, "at least one phase")
        fits = self.warmup_steps + self.decay_steps <= self.total
        warmup = f"warmup_steps ({self.warmup_steps})"
        wanted = f"at most the total of steps ({self.total}) minus {warmup}"
        _check(fits, "decay_steps", self.decay_steps, wanted)

    @property
    def total(self) -> int:
        """RETURNS (int): The steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "PretrainingSettings":
        """Read the section `[pretraining]` of a config file.

        config (Mapping[str, Any]): The config, with its values filled in.
        RETURNS (PretrainingSettings): The settings.
        RAISES (ValueError): If a setting is missing, unknown or cannot be used.
        """
        section = dict(config.get("pretraining") or {})
        phases = section.pop("phases", None) or {}
        wanted = "a section [pretraining.phases], and in it one for each phase"
        _check(isinstance(phases, Mapping), "phases", phases, wanted)
        known = {field.name for field in fields(cls)} - {"phases"}
        _check_keys("pretraining", section, known, {"encoder", "train"})
        keys = {field.name for field in fields(Phase)}
        for name, phase in phases.items():
            is_section = isinstance(phase, Mapping)
            wanted = f"a section [pretraining.phases.{name}]"
            _check(is_section, f"phases.{name}", phase, wanted)
            _check_keys(f"pretraining.phases.{name}", phase, keys, keys)
        made = tuple(Phase(**phase) for phase in phases.values())
        return cls(phases=made, **section)


def _check_keys(where: str, found: Any, known: Set[str], needed: Set[str]) -> None:
    for key in sorted(needed - set(found)):
        raise ValueError(Errors.PRETRAINING_NO_SETTING.format(where=where, key=key))
    for key in sorted(set(found) - known):
        names = ", ".join(sorted(known))
        raise ValueError(
            Errors.PRETRAINING_UNKNOWN_SETTING.format(where=where, key=key, known=names)
        )


def _check(ok: bool, key: str, value: Any, wanted: str) -> None:
    if not ok:
        raise ValueError(
            Errors.PRETRAINING_BAD_SETTING.format(key=key, value=value, wanted=wanted)
        )
