"""The settings of a short run of pretraining."""

from pathlib import Path
from typing import Any

from spacy_modernbert.pretraining.settings import Phase, PretrainingSettings


def make_settings(paths: Path, **overrides: Any) -> PretrainingSettings:
    """RETURNS (PretrainingSettings): Ten steps on the files there, changed."""
    defaults = {
        "encoder": str(paths / "encoder"),
        "train": str(paths / "train.jsonl"),
        "dev": str(paths / "dev.jsonl"),
        "phases": (Phase(64, 256, 6), Phase(128, 256, 4)),
        "backend": "cpu",
        "precision": "float32",
        "warmup_steps": 2,
        "decay_steps": 3,
        "learn_rate": 1e-2,
        "evaluate_wordpieces": 300,
    }
    return PretrainingSettings(**{**defaults, **overrides})
