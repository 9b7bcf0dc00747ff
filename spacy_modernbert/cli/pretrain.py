"""`python -m spacy modernbert pretrain`: an encoder learns from raw text."""

import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, Optional, Sequence

import typer
from click import NoSuchOption
from spacy.cli._util import parse_config_overrides
from thinc.api import Config
from tqdm.auto import tqdm
from wasabi import msg

from ..atomic import same_place, write_text
from ..encoder.checkpoint import CONFIG_FILE, check_folder
from ..errors import Errors
from ..pipelines import PIPELINE_CONFIG, read_config
from ..pretraining.log import LOG, cut_log, is_export, is_log, log_export, write_log
from ..pretraining.settings import STATE, PretrainingSettings
from .locks import locked

if TYPE_CHECKING:
    from ..pretraining.run import Pretraining

_LOCK = ".lock"
# Settings that say how a run is carried out, and not what is learned.
_OF_THE_MACHINE = frozenset(
    (
        "backend",
        "precision",
        "max_batch_wordpieces",
        "gradient_checkpointing",
        "eval_frequency",
        "evaluate_wordpieces",
    )
)
# Told by digests in the state, and not by name: they may have been moved.
_DIGESTED = frozenset(("encoder", "revision", "train", "dev"))


def pretrain(
    context: typer.Context,
    config: Path = typer.Argument(  # noqa: B008
        ..., help="Config file with a section [pretraining]", show_default=False
    ),
    output: Path = typer.Argument(  # noqa: B008
        ..., help="Folder for the checkpoint, the state and the log", show_default=False
    ),
    export: Optional[Path] = typer.Option(  # noqa: B008
        None, help="Folder for a copy of the checkpoint in float16"
    ),
) -> None:
    """Pretrain an encoder by masked language modelling, from scratch or to adapt it to
    other texts. Settings are overridden like those of `spacy train`:
    --pretraining.learn_rate 0.0005. To continue a run that was stopped, rerun the
    command with the same output folder.
    """
    try:
        overrides = parse_config_overrides(context.args)
        if not config.is_file():
            raise ValueError(Errors.NO_CONFIG.format(path=config))
        if same_place(config, output / PIPELINE_CONFIG):
            raise ValueError(Errors.PRETRAINING_CONFIG_IN_OUTPUT.format(path=config))
        loaded = read_config(config, overrides)
        _run(loaded, output, export)
    except (MemoryError, OSError, ValueError) as error:
        msg.fail(str(error), exits=1)
    except NoSuchOption as error:
        # Raised for what names no section.
        msg.fail(Errors.PRETRAINING_NO_OPTION.format(name=error.option_name), exits=1)
    except KeyboardInterrupt:
        if (output / STATE).is_file():
            msg.warn(f"Stopped. Run the same command to resume from {output}.")
        else:
            msg.warn(
                "Stopped before anything was saved: the same command starts anew. "
                "Runs are saved after each evaluation (pretraining.eval_frequency)."
            )
        raise typer.Exit(130) from None


def _run(config: Config, output: Path, export: Optional[Path]) -> None:
    settings = PretrainingSettings.from_config(config)
    # torch is imported when there is something to do.
    from ..pretraining.run import ENCODER, Pretraining

    run = Pretraining(settings, output)
    output.mkdir(parents=True, exist_ok=True)
    # Errors of the folders come up now, and not after hours.
    check_folder(output / ENCODER)
    if export is not None:
        check_folder(export)
        _check_export(export, run)
    if run.resumed is None:
        _check_no_others(output / PIPELINE_CONFIG, output / LOG)
        if (output / ENCODER / CONFIG_FILE).exists():
            raise ValueError(
                Errors.PRETRAINING_STATE_GONE.format(
                    folder=output / ENCODER, state=STATE
                )
            )
    # Two runs would take turns to write the state and the log.
    with locked(output / _LOCK, output):
        run.check_unchanged()
        cut_log(output / LOG, run.step)
        if run.resumed is not None:
            changes = list(_find_changes(settings, output / PIPELINE_CONFIG))
            if run.resumed.has_other_train:
                changes.append(f"{settings.train} has other texts than before")
            _check_not_in_vain(run, changes)
            _say_what_is_left(run)
            for change in changes:
                msg.warn(f"From here on, {change}.")
            # Nothing is learned from these.
            if run.resumed.has_other_dev:
                msg.warn("The held-out texts are others than before.")
            # The run may have been stopped after it wrote the state, but before this.
            run.export(output / ENCODER)
        elif not run.had_head:
            msg.info(f"{run.source} has no MLM head: a new one is initialized.")
        if not run.is_done:
            told = Config({"pretraining": config["pretraining"]})
            write_text(output / PIPELINE_CONFIG, told.to_str())
        _take_steps(run)
        _take_probe(run)
        if export is not None:
            run.export(export, dtype="F16")
            log_export(output / LOG, run.step, export)
            msg.good(f"Wrote {export}, in float16")
    msg.good(f"Wrote {output / ENCODER} after {run.step:,} steps")


def _take_steps(run: "Pretraining") -> None:
    settings, output = run.settings, run.output
    means = _Means()
    with tqdm(total=settings.total, initial=run.step, unit="step", disable=None) as bar:
        for report in run.steps():
            means.add(report.loss, report.accuracy, report.wordpieces)
            bar.update()
            bar.set_postfix(means.read(), refresh=False)
            if report.step % settings.eval_frequency == 0 or run.is_done:
                scores = run.evaluate()
                record = {**asdict(report), **means.read()}
                if scores is not None:
                    record.update(dev_loss=scores.loss, dev_accuracy=scores.accuracy)
                # Entries for steps that were not saved are cut when a run continues.
                write_log(output / LOG, record)
                run.save()
                bar.write(_describe(record))
                means = _Means()


def _take_probe(run: "Pretraining") -> None:
    probe = run.probe()
    if probe is not None:
        write_log(run.output / LOG, {"step": run.step, "probe": probe})
        _print_probe(probe)


def _check_export(export: Path, run: "Pretraining") -> None:
    from ..pretraining.run import ENCODER

    taken = {
        run.output: Errors.PRETRAINING_EXPORT_ONTO_RUN,
        run.output / ENCODER: Errors.PRETRAINING_EXPORT_ONTO_ENCODER,
        run.source: Errors.PRETRAINING_EXPORT_ONTO_START,
    }
    for folder, message in taken.items():
        if same_place(export, folder):
            raise ValueError(message.format(folder=export))
    is_own = run.resumed is not None and is_export(export, run.output / LOG)
    if (export / CONFIG_FILE).exists() and not is_own:
        raise ValueError(Errors.PRETRAINING_EXPORT_EXISTS.format(folder=export))


def _say_what_is_left(run: "Pretraining") -> None:
    if run.is_done:
        msg.warn(
            f"All {run.step:,} steps were taken before, so nothing is trained. To use "
            "other texts or settings, choose another output folder."
        )
    else:
        msg.info(f"Resuming after step {run.step:,} of {run.settings.total:,}.")


def _check_no_others(config: Path, log: Path) -> None:
    """A run that begins must not replace files of the same names that something else
    wrote: `spacy train` has both.
    """
    try:
        is_own = not config.exists() or set(read_config(config)) == {"pretraining"}
    except ValueError:
        is_own = False
    if not is_own:
        raise ValueError(Errors.PRETRAINING_ONTO_OTHERS.format(path=config))
    if not is_log(log):
        raise ValueError(Errors.PRETRAINING_ONTO_OTHERS.format(path=log))


def _find_changes(settings: PretrainingSettings, path: Path) -> Iterator[str]:
    """What is to be learned otherwise than by the settings that the run had before."""
    try:
        before = PretrainingSettings.from_config(read_config(path))
    except (OSError, ValueError):  # none, or damaged
        return
    for field in fields(settings):
        old, new = (getattr(each, field.name) for each in (before, settings))
        if old != new and field.name not in _OF_THE_MACHINE | _DIGESTED:
            yield f"{field.name} is {new} and was {old}"


def _check_not_in_vain(run: "Pretraining", changes: Sequence[str]) -> None:
    if run.is_done and changes:
        raise ValueError(
            Errors.PRETRAINING_IS_DONE.format(
                path=run.output, step=run.step, changes="; ".join(changes)
            )
        )


class _Means:
    """Means over the steps since the last evaluation."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._n = 0
        self._loss = self._accuracy = 0.0
        self._wordpieces = 0

    def add(self, loss: float, accuracy: float, wordpieces: int) -> None:
        self._n += 1
        self._loss += loss
        self._accuracy += accuracy
        self._wordpieces += wordpieces

    def read(self) -> Dict[str, float]:
        seconds = max(1e-9, time.monotonic() - self._start)
        n = max(1, self._n)
        return {
            "loss": round(self._loss / n, 4),
            "accuracy": round(self._accuracy / n, 4),
            "wordpieces_per_second": round(self._wordpieces / seconds),
        }


def _describe(record: Dict[str, Any]) -> str:
    shown = f"step {record['step']:>6,}  loss {record['loss']:.3f}"
    if "dev_loss" in record:
        shown += f"  dev loss {record['dev_loss']:.3f}"
        shown += f"  dev accuracy {record['dev_accuracy']:.3f}"
    return f"{shown}  {record['wordpieces_per_second']:,} wordpieces/s"


def _print_probe(probe: Dict[str, Any]) -> None:
    rows = [
        (
            "frequency alone"
            if context == "unigram"
            else f"{int(context):,} wordpieces",
            f"{scores['loss']:.3f}",
            f"{scores['accuracy']:.3f}",
        )
        for context, scores in probe.items()
    ]
    header = ("context", "loss", "accuracy")
    msg.divider("Masked wordpieces of held-out texts")
    msg.table(rows, header=header, divider=True, aligns=("l", "r", "r"))
