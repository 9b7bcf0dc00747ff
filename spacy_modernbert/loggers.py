"""Registered loggers: what `spacy train` shows of a run, and keeps of it."""

import json
import math
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

from spacy.language import Language
from tqdm.auto import tqdm
from wasabi import row

from .atomic import check_writable
from .errors import Errors
from .evaluation.curve import LOG_NAME

LogStep = Callable[[Optional[Dict[str, Any]]], None]
SetUpLogger = Callable[..., Tuple[LogStep, Callable[[], None]]]

_SPACING = 2


def progress_logger_v1(
    output_file: Optional[Union[str, Path]] = None,
) -> SetUpLogger:
    """Create a logger that shows a run as one bar, with a row for each evaluation:
    loss, scores, wordpieces a second, time left and memory. Registered as
    `spacy-modernbert.ProgressLogger.v1`.

    In a notebook the bar is a widget, or without ipywidgets a line of text. Where
    nobody watches (standard error is neither a notebook's nor a terminal), there is no
    bar, and the rows are plain lines. What the rows say is also written as JSON, a line
    for each evaluation, for the learning curve.

    output_file (Optional[Union[str, Path]]): Where to write that. If not set, to
        `log.jsonl` beside `model-best`, where the run has an output folder. What an
        earlier run wrote there is replaced, as its pipelines are.
    RETURNS (Callable): What `spacy train` sets up logging with. It raises an OSError
        where `output_file` cannot be written, before anything is trained.
    RAISES (ValueError): If `output_file` is no path.
    """
    if output_file is not None and not isinstance(output_file, (str, Path)):
        raise ValueError(Errors.BAD_OUTPUT_FILE.format(value=output_file))

    def set_up_logger(
        nlp: Language, stdout: IO = sys.stdout, stderr: IO = sys.stderr
    ) -> Tuple[LogStep, Callable[[], None]]:
        path = None if output_file is None else Path(output_file).expanduser()
        if path is not None:
            check_writable(path)
        progress = Progress(nlp, stdout, stderr, path)
        return progress.log_step, progress.close

    return set_up_logger


@dataclass
class Speed:
    """How many wordpieces a second are trained on. Evaluating and saving is not
    training: steps after which spaCy does so are left out.

    count (Callable[[], int]): The wordpieces trained on so far.
    """

    count: Callable[[], int]
    _pieces: int = 0
    _seconds: float = 0.0
    _last: Tuple[float, int] = (0.0, 0)

    def start(self) -> None:
        """Begin to measure a step."""
        self._last = (time.perf_counter(), self.count())

    def stop(self) -> None:
        """Take account of the step that was begun last."""
        started, pieces = self._last
        self._seconds += time.perf_counter() - started
        self._pieces += self.count() - pieces

    @property
    def per_second(self) -> Optional[float]:
        """RETURNS (Optional[float]): Wordpieces a second; None if there are none."""
        return self._pieces / self._seconds if self._pieces else None


@dataclass
class Progress:
    """The bar, the rows and the file of one run.

    nlp (Language): The pipeline that is trained.
    stdout (IO): Where the rows go.
    stderr (IO): Where the bar goes.
    path (Optional[Path]): Where the JSON goes; None for the output folder, which is
        known from the first evaluation on.
    """

    nlp: Language
    stdout: IO
    stderr: IO
    path: Optional[Path]
    _file: Optional[IO] = field(init=False, default=None)

    def __post_init__(self) -> None:
        # A pipeline keeps its config with variables in it.
        training = self.nlp.config.interpolate()["training"]
        self._max_steps: int = training["max_steps"]
        self._pipes = [
            name
            for name, pipe in self.nlp.pipeline
            if getattr(pipe, "is_trainable", False)
        ]
        # As in spaCy's own logger: a score of weight 0 is shown, but plays no part in
        # choosing the best pipeline.
        self._scores = [
            name
            for name, weight in training["score_weights"].items()
            if weight is not None
        ]
        self._count = count_trained(self.nlp)
        self._speed = Speed(self._count)
        self._started = time.perf_counter()
        self._first_seconds = 0.0
        self._done = 0
        self._columns = make_columns(self._pipes, self._scores)
        self._write(row([name for name, _ in self._columns], **self._layout))
        self._write(row(["-" * width for _, width in self._columns], **self._layout))
        self._bar = tqdm(
            total=self._max_steps or None,
            unit="step",
            file=self.stderr,
            # None: no bar where there is no terminal.
            disable=False if _is_notebook(self.stderr) else None,
            leave=False,
            smoothing=0,  # the time left is for evaluations, too
            dynamic_ncols=True,
        )
        self._speed.start()

    def log_step(self, info: Optional[Dict[str, Any]]) -> None:
        """Take note of a step.

        info (Optional[Dict[str, Any]]): What spaCy knows of it; None where it did not
            evaluate.
        """
        self._done += 1
        # spaCy counts steps from 0, and takes one more than `max_steps`.
        if self._done > 1:
            self._bar.update(1)
        if info is None:
            self._speed.stop()
        else:
            entry = self._describe(info)
            self._write(
                row(format_row(entry, self._pipes, self._scores), **self._layout)
            )
            self._save(entry, info.get("output_path"))
            self._bar.set_postfix_str(format_postfix(entry))
        self._speed.start()

    def close(self) -> None:
        """End the bar and the file: at the end, on Ctrl-C and on errors alike."""
        self._bar.close()
        if self._file is not None:
            self._file.close()

    @property
    def _layout(self) -> Dict[str, Any]:
        widths = [width for _, width in self._columns]
        return {
            "widths": widths,
            "aligns": ["r"] * len(widths),
            "spacing": _SPACING,
        }

    def _write(self, line: str) -> None:
        # Not `print`, which would write into the bar.
        tqdm.write(line.rstrip(), file=self.stdout)
        self.stdout.flush()

    def _describe(self, info: Mapping[str, Any]) -> Dict[str, Any]:
        """What is known at an evaluation, as it is written to the file."""
        scores = info["other_scores"]
        seconds = time.perf_counter() - self._started
        if self._done == 1:
            self._first_seconds = seconds
        return {
            "epoch": info["epoch"],
            "step": info["step"],
            "losses": {
                name: float(info["losses"].get(name, 0)) for name in self._pipes
            },
            "scores": {name: _as_float(scores.get(name)) for name in self._scores},
            "score": float(info["score"]),
            "words": info["words"],
            "wordpieces": self._count(),
            "wordpieces_per_second": self._speed.per_second,
            "seconds": seconds,
            "seconds_left": self._estimate(seconds),
            "memory": read_memory(),
        }

    def _estimate(self, seconds: float) -> Optional[float]:
        # The first step takes longest: it comes with an evaluation, and with all that
        # is compiled or allocated once.
        if not self._max_steps or self._done == 1:
            return None
        per_step = (seconds - self._first_seconds) / (self._done - 1)
        return per_step * max(0, self._max_steps + 1 - self._done)

    def _save(self, entry: Mapping[str, Any], output: Optional[str]) -> None:
        if self._file is None:
            if self.path is None and output is not None:
                self.path = Path(output).parent / LOG_NAME
            if self.path is None:
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w", encoding="utf8")
        self._file.write(json.dumps(_without_nan(entry)) + "\n")
        # Whole lines, for whoever reads along or when the process is killed.
        self._file.flush()


def count_trained(nlp: Language) -> Callable[[], int]:
    """How to find how many wordpieces the encoders of a pipeline have trained on.

    nlp (Language): The pipeline.
    RETURNS (Callable[[], int]): Gives the number, which is 0 for a pipeline without
        an encoder of this package.
    """
    # Imported only when a pipeline is trained: any config that names a logger imports
    # this file.
    from .layers.encode import find_in_pipeline, get_shim

    shims = [get_shim(layer) for _, layer in find_in_pipeline(nlp)]
    return lambda: sum(shim.trained_wordpieces for shim in shims)


def make_columns(pipes: List[str], scores: List[str]) -> List[Tuple[str, int]]:
    """The columns of the rows.

    pipes (List[str]): The components that are trained.
    scores (List[str]): The scores that are shown.
    RETURNS (List[Tuple[str, int]]): Their names and widths.
    """
    names = [
        ("E", 3),
        ("#", 6),
        *((f"LOSS {name}".upper(), 10) for name in pipes),
        *((name.upper(), 7) for name in scores),
        ("SCORE", 6),
        ("PIECES/S", 8),
        ("LEFT", 7),
        ("MEMORY", 8),
    ]
    return [(name, max(len(name), width)) for name, width in names]


def format_row(
    entry: Mapping[str, Any], pipes: List[str], scores: List[str]
) -> List[str]:
    """The cells of a row (`make_columns`), from what is written to the file.

    entry (Mapping[str, Any]): A line of the file.
    pipes (List[str]): The components that are trained.
    scores (List[str]): The scores that are shown.
    RETURNS (List[str]): The cells.
    """
    return [
        str(entry["epoch"]),
        str(entry["step"]),
        *(f"{entry['losses'][name]:.2f}" for name in pipes),
        *(_percent(entry["scores"][name]) for name in scores),
        _percent(entry["score"]),
        _or_dash(entry["wordpieces_per_second"], "{:,.0f}".format),
        _or_dash(entry["seconds_left"], tqdm.format_interval),
        _or_dash(entry["memory"], format_memory),
    ]


def format_postfix(entry: Mapping[str, Any]) -> str:
    """RETURNS (str): What stands behind the bar, from a line of the file."""
    speed, memory = entry["wordpieces_per_second"], entry["memory"]
    parts = [
        f"loss {sum(entry['losses'].values()):.4g}",
        *(f"{name} {_percent(score)}" for name, score in entry["scores"].items()),
        "" if speed is None else f"{speed:,.0f} wordpieces/s",
        "" if memory is None else format_memory(memory),
    ]
    return ", ".join(part for part in parts if part)


def format_memory(n_bytes: float) -> str:
    """RETURNS (str): An amount of memory, in gigabytes."""
    return f"{n_bytes / 1e9:.2f} GB"


def read_memory() -> Optional[int]:
    """RETURNS (Optional[int]): The bytes that this process holds (on macOS, the most it
    has held), and those of its tensors on a CUDA device; None where that is unknown.
    """
    n_bytes = _resident()
    # Not imported: where torch is in use, it has been imported already.
    torch = sys.modules.get("torch")
    if n_bytes is not None and torch is not None and torch.cuda.is_initialized():
        n_bytes += torch.cuda.memory_allocated()
    return n_bytes


def _resident() -> Optional[int]:
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        pass
    if sys.platform == "darwin":
        import resource

        # The most it has held so far: the standard library cannot ask for the present.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def _is_notebook(stream: IO) -> bool:
    """RETURNS (bool): Whether a stream is Jupyter's: watched, though no terminal."""
    return type(stream).__module__.startswith("ipykernel")


def _without_nan(value: Any) -> Any:
    """Replace infinities and NaN, which JSON does not have, by null."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    is_odd = isinstance(value, float) and not math.isfinite(value)
    return None if is_odd else value


def _as_float(score: Any) -> Optional[float]:
    return None if score is None else float(score)


def _percent(score: Optional[float]) -> str:
    return _or_dash(score, lambda value: f"{100 * value:.2f}")


def _or_dash(value: Optional[float], form: Callable[[float], str]) -> str:
    return "-" if value is None else form(value)
