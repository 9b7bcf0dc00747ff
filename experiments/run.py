"""Train and test one pipeline, and keep the results."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from thinc.api import Config

from benchmarks.machine import describe_machine, list_versions, name_machine
from benchmarks.process import make_environment
from spacy_modernbert.atomic import write_text
from spacy_modernbert.callbacks import MAX_LENGTH
from spacy_modernbert.corpora.splits import SPLITS
from spacy_modernbert.encoder.checkpoint import (
    CONFIG_FILE,
    TOKENIZER,
    load_config,
    read_tokenizer_config,
    read_tokenizer_json,
    save_checkpoint,
)
from spacy_modernbert.encoder.weights import init_tensors, with_matching_keys
from spacy_modernbert.evaluation.curve import LOG_NAME

from .cells import OVERLAPS, REFERENCE, STOCK, TIMES, Cell

Record = Dict[str, Any]

_EVALUATIONS = 6
_WARMUP = 0.1


@dataclass(frozen=True)
class Settings:
    """Where everything is, and how long it takes.

    steps (int): Steps of the reference.
    encoder (Path): The pretrained encoder.
    corpora (Path): Folder with the corpora.
    recipes (Path): Folder with the recipes.
    work (Path): Folder for pipelines.
    results (Path): Folder for the records.
    threads (int): Threads of every library.
    gpu_id (int): The GPU for recipes that need `--gpu-id` to use one; -1 for none. Ours
        take a GPU by themselves.
    """

    steps: int
    encoder: Path
    corpora: Path
    recipes: Path
    work: Path
    results: Path
    threads: int = 2
    gpu_id: int = -1


def read_record(cell: Cell, results: Path) -> Optional[Record]:
    """RETURNS (Optional[Record]): What came of a cell; None if it was not run."""
    path = _record_path(cell, results)
    if not path.is_file():
        return None
    record: Record = json.loads(path.read_text(encoding="utf8"))
    return record


def read_records(results: Path) -> List[Record]:
    """RETURNS (List[Record]): All records of a folder, by name."""
    paths = sorted(results.glob("*.json"))
    return [json.loads(path.read_text(encoding="utf8")) for path in paths]


def is_done(cell: Cell, settings: Settings) -> bool:
    """Whether a cell has the record that running it would make: of as many steps, with
    the same encoder, by the same recipe, on the same documents. (The first records do
    not say on which.)

    cell (Cell): The cell.
    settings (Settings): What it would be run with.
    RETURNS (bool): Whether it need not be run.
    RAISES (LookupError): If the budget is a time, and a run that sets it is missing, or
        was too short to tell a pace.
    """
    record = read_record(cell, settings.results)
    if record is None:
        return False
    steps = count_steps(cell, settings, record.get("few_steps_seconds"))
    made = {"steps": steps, **_name_sources(cell, settings)}
    return all(record.get(key, value) == value for key, value in made.items())


def run_cell(cell: Cell, settings: Settings) -> Record:
    """Train a pipeline, test the best of its states, and write the record.

    cell (Cell): The pipeline.
    settings (Settings): Where everything is.
    RETURNS (Record): JSON-serializable.
    RAISES (subprocess.CalledProcessError): If training or testing fails.
    RAISES (LookupError): If the budget is a time and what it is measured by is missing
        or says too little, or the records that are there are of another machine.
    """
    check_machine(settings)
    few_seconds = time_few_steps(cell, settings) if cell.budget == "time" else None
    steps = count_steps(cell, settings, few_seconds)
    # As they are now: training takes a while.
    sources = _name_sources(cell, settings)
    output = settings.work / cell.name
    train = make_train_command(cell, settings, steps, output)
    seconds, peak_mb = _run(train, settings.threads)
    metrics_path = output / "metrics.json"
    test = [
        *("python", "-m", "spacy", "modernbert", "evaluate"),
        str(output / "model-best"),
        str(settings.corpora / cell.corpus / "test.spacy"),
        *("--output", str(metrics_path)),
    ]
    _run(test, settings.threads)
    metrics = json.loads(metrics_path.read_text(encoding="utf8"))
    evaluation = metrics["evaluation"]
    record = {
        **asdict(cell),
        "steps": steps,
        **sources,
        "threads": settings.threads,
        "train_command": shlex.join(train),
        "test_command": shlex.join(test),
        "few_steps_seconds": few_seconds,
        "train_seconds": round(seconds, 1),
        "train_peak_mb": round(peak_mb),
        "train_wordpieces": read_wordpieces(output / LOG_NAME),
        "test_seconds": round(evaluation["seconds"], 1),
        "dev": evaluation["performance"],
        "test": evaluation["overall"],
        "labels": evaluation["labels"],
        "learning_curve": evaluation["learning_curve"],
        "machine": describe_machine(),
        "versions": list_versions(),
    }
    text = json.dumps(record, indent=1, default=float) + "\n"
    write_text(_record_path(cell, settings.results), text)
    return record


def read_wordpieces(log: Path) -> Optional[int]:
    """RETURNS (Optional[int]): How many wordpieces a training has seen, by its log;
    None if it has no encoder of this package, which counts them.
    """
    last = log.read_text(encoding="utf8").splitlines()[-1]
    wordpieces: Optional[int] = json.loads(last)["wordpieces"]
    return wordpieces


def time_few_steps(cell: Cell, settings: Settings) -> float:
    """Train for as few steps as there are evaluations. This takes about as long as all
    of a training that does not grow with its steps: it starts, and it evaluates and
    saves as often as any other.

    cell (Cell): The pipeline, with a budget of time.
    settings (Settings): Where everything is.
    RETURNS (float): The seconds.
    RAISES (subprocess.CalledProcessError): If training fails.
    RAISES (LookupError): If what the budget is measured by is missing.
    """
    find_times(cell, settings)
    output = settings.work / f"{cell.name}-few-steps"
    command = make_train_command(cell, settings, _EVALUATIONS, output)
    seconds, _ = _run(command, settings.threads)
    return round(seconds, 1)


def count_steps(cell: Cell, settings: Settings, few_seconds: Optional[float]) -> int:
    """How many steps a cell takes. With a budget of time: as many as fit into the time
    of the reference, at the pace at which the same recipe took its equal steps.

    cell (Cell): The cell.
    settings (Settings): Where the records are.
    few_seconds (Optional[float]): What `time_few_steps` found: steps are paced by what
        the others took beyond these. None if it is not known, as of the first records:
        then the pace has a share of the start and the evaluations in it.
    RETURNS (int): The steps.
    RAISES (LookupError): If the budget is a time, and what it is measured by is missing
        or says too little.
    """
    if cell.budget in TIMES:
        return max(1, round(TIMES[cell.budget] * settings.steps))
    reference, paced = find_times(cell, settings)
    few, seconds = (0, 0.0) if few_seconds is None else (_EVALUATIONS, few_seconds)
    shorter = min(reference["train_seconds"], paced["train_seconds"])
    if paced["steps"] <= few or shorter <= seconds:
        raise LookupError(
            f"The steps of {cell.name} cannot be told: {few} of them took {seconds} "
            f"seconds, {paced['steps']} took {paced['train_seconds']}, and its "
            f"reference took {reference['train_seconds']}. Give more --steps."
        )
    pace = (paced["train_seconds"] - seconds) / (paced["steps"] - few)
    return max(1, round(few + (reference["train_seconds"] - seconds) / pace))


def find_times(cell: Cell, settings: Settings) -> Tuple[Record, Record]:
    """Find what a budget of time is measured by.

    cell (Cell): The cell that has it.
    settings (Settings): Where the records are.
    RETURNS (Tuple[Record, Record]): Those of the reference, and of the same recipe in
        equal steps.
    RAISES (LookupError): If one of them is missing.
    """
    needed = [
        replace(REFERENCE, corpus=cell.corpus, seed=cell.seed),
        replace(cell, budget="steps"),
    ]
    for each in needed:
        if not is_done(each, settings):
            raise LookupError(
                f"Run {each.name} first, with --force if it was run with other "
                f"steps, encoder or recipe: {cell.name} needs its time."
            )
    reference, paced = (read_record(each, settings.results) for each in needed)
    assert reference is not None and paced is not None
    return reference, paced


def check_machine(settings: Settings) -> None:
    """Refuse to put a record beside those of another machine: a mean of both would be
    of neither, and no time of the one is one of the other.

    settings (Settings): Where the records are, and how many threads there are.
    RAISES (LookupError): If a record there is of another machine or number of threads.
    """
    here = name_machine(describe_machine(), settings.threads)
    for record in read_records(settings.results):
        there = name_machine(record["machine"], record["threads"])
        if there != here:
            raise LookupError(
                f"{settings.results} has records of {there}, and this is {here}. Give "
                "this machine a folder of its own: --results."
            )


def make_random_encoder(weights: str, source: Path, output: Path, seed: int) -> None:
    """Write a checkpoint of fresh weights, with the shape and the tokenizer of another.

    weights (str): Which: "random" or "drawn", see `Cell`.
    source (Path): The other.
    output (Path): Where to write.
    seed (int): The seed of the weights.
    """
    config = load_config(source)
    drawn = init_tensors(config, seed)
    save_checkpoint(
        output,
        config,
        with_matching_keys(drawn, config) if weights == "random" else drawn,
        read_tokenizer_json(source),
        read_tokenizer_config(source),
    )


def make_train_command(
    cell: Cell, settings: Settings, steps: int, output: Path
) -> List[str]:
    """RETURNS (List[str]): `spacy train` for a cell, with every setting that is not the
    recipe's own.
    """
    corpus = settings.corpora / cell.corpus
    options: Dict[str, Any] = {
        "output": output,
        "paths.train": corpus / "train.spacy",
        "paths.dev": corpus / "dev.spacy",
        "system.seed": cell.seed,
        "training.max_steps": steps,
        "training.eval_frequency": max(1, steps // _EVALUATIONS),
        "training.patience": 0,
    }
    if cell.weights is not None:
        options["paths.encoder"] = _find_encoder(cell.weights, cell.seed, settings)
        schedule = "training.optimizer.learn_rate"
        options[f"{schedule}.warmup_steps"] = round(steps * _WARMUP)
        options[f"{schedule}.total_steps"] = steps
    if not cell.trains_encoder:
        options["components.modernbert_ner.model.tok2vec.grad_factor"] = 0.0
    if cell.window is not None:
        options["variables.window"] = cell.window
        options["variables.overlap"] = OVERLAPS[cell.window]
    if not cell.average:
        options["training.optimizer.use_averages"] = False
    if cell.recipe == STOCK.recipe and settings.gpu_id >= 0:
        options["gpu-id"] = settings.gpu_id
    recipe = settings.recipes / f"{cell.recipe}.cfg"
    command = ["python", "-m", "spacy", "train", str(recipe)]
    for key, value in options.items():
        text = json.dumps(value) if isinstance(value, bool) else str(value)
        command += [f"--{key}", text]
    return command


def _name_sources(cell: Cell, settings: Settings) -> Dict[str, Optional[str]]:
    """RETURNS (Dict[str, Optional[str]]): What a cell starts from: the encoder, and
    digests of its weights, if they are read, of its config and tokenizer, of the
    recipe, and of the corpus.
    """
    recipe = settings.recipes / f"{cell.recipe}.cfg"
    corpus = settings.corpora / cell.corpus
    sources = {
        "encoder": None,
        "encoder_digest": None,
        "recipe_digest": digest_recipe(recipe),
        "corpus_digest": digest([corpus / f"{split}.spacy" for split in SPLITS]),
    }
    if cell.weights is not None:
        sources["encoder"] = str(settings.encoder)
        sources["shape_digest"] = _digest_shape(settings.encoder)
    if cell.weights == "pretrained":
        weights = sorted(settings.encoder.glob("*.safetensors"))
        sources["encoder_digest"] = digest(weights)
    return sources


def _digest_shape(encoder: Path) -> str:
    return digest([encoder / name for name in (CONFIG_FILE, TOKENIZER)])


def digest(paths: Sequence[Path]) -> str:
    """RETURNS (str): A digest of the bytes of files."""
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def digest_recipe(path: Path) -> str:
    """RETURNS (str): A digest of the settings of a recipe, whatever their order,
    whatever its comments say, and however long it lets texts be: one that is too long
    is an error, and changes nothing that is learned. Nor does how it writes the path of
    an encoder, which is not the one that experiments take.
    """
    settings = Config().from_disk(path, interpolate=False)
    paths = settings.get("paths", {})
    if isinstance(paths.get("encoder"), str):
        paths["encoder"] = paths["encoder"].removeprefix("./")
    nlp = settings.get("nlp", {})
    if (nlp.get("after_creation") or {}).get("@callbacks") == MAX_LENGTH:
        nlp["after_creation"] = None
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode("utf8")).hexdigest()[:16]


def _find_encoder(weights: str, seed: int, settings: Settings) -> Path:
    if weights == "pretrained":
        return settings.encoder
    shape = _digest_shape(settings.encoder)
    name = f"{settings.encoder.name}-{shape}-{weights}-seed{seed}"
    folder = settings.work / "encoders" / name
    if not folder.exists():
        make_random_encoder(weights, settings.encoder, folder, seed)
    return folder


def _run(command: List[str], threads: int) -> Tuple[float, float]:
    """RETURNS (Tuple[float, float]): Seconds, and the peak of its memory in MB."""
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *command[1:]], env=make_environment(threads)
    )
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    # Kilobytes on Linux, bytes on macOS.
    per_mb = 1e6 if sys.platform == "darwin" else 1e3
    return time.monotonic() - start, usage.ru_maxrss / per_mb


def _record_path(cell: Cell, results: Path) -> Path:
    return results / f"{cell.name}.json"
