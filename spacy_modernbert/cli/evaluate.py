"""`python -m spacy modernbert evaluate`: scores, and a report that shows where a
pipeline fails."""

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import typer
from spacy.cli._util import import_code, setup_gpu
from spacy.language import Language
from spacy.scorer import Scorer
from spacy.training import Corpus, Example
from spacy.util import get_package_version, load_model
from thinc.api import fix_random_seed
from wasabi import msg

from ..atomic import check_outputs, write_text
from ..console import shown_command
from ..doc_files import find_doc_files, read_docs
from ..encoder.checkpoint import check_is_no_run
from ..errors import Errors
from ..evaluation.curve import Point, find_log, read_curve, read_performance
from ..evaluation.documents import ScoredDoc, read_examples
from ..evaluation.edges import WindowCutter
from ..evaluation.modes import MODES
from ..evaluation.report import chance, doubts, render_report, show_score
from ..evaluation.resampling import Resampling
from ..evaluation.slices import read_seen
from ..evaluation.summary import summarize, summarize_comparison
from ..layers.encode import find_in_pipeline, get_shim
from ..pipelines import find_pipeline
from ..span_getters import LongContextSpans
from ..types import Ints

_LIBRARIES = ("spacy-modernbert", "spacy", "thinc", "torch", "numpy")


@dataclass(frozen=True)
class Prediction:
    """What a pipeline found.

    nlp (Language): The pipeline.
    examples (List[Example]): The documents, with what it found.
    seconds (float): How long it took, by the measure of spaCy's `speed`: making Docs of
        the texts is in it.
    cutter (Optional[WindowCutter]): How it cuts documents; None if that is not known.
    distances (Optional[List[Optional[Ints]]]): Of the tokens of each document, to where
        it was cut (`edges.cut_distances`); None without a cutter.
    """

    nlp: Language
    examples: List[Example]
    seconds: float
    cutter: Optional[WindowCutter] = None
    distances: Optional[List[Optional[Ints]]] = None


def evaluate(
    pipeline: str = typer.Argument(
        ..., help="Folder or package of a pipeline", show_default=False
    ),
    data: Path = typer.Argument(  # noqa: B008
        ...,
        help="A .spacy file with documents and their entities, or a folder of such "
        "files",
        show_default=False,
    ),
    output: Optional[Path] = typer.Option(  # noqa: B008
        None, "--output", "-o", help="JSON file to write the metrics to"
    ),
    report: Optional[Path] = typer.Option(  # noqa: B008
        None, "--report", "-r", help="HTML file to write the report to"
    ),
    train: Optional[Path] = typer.Option(  # noqa: B008
        None,
        help="The .spacy training file, or a folder of such files, to tell seen names "
        "from unseen ones",
    ),
    compare: Optional[str] = typer.Option(
        None, help="Folder or package of another pipeline, to compare with"
    ),
    log: Optional[Path] = typer.Option(  # noqa: B008
        None, help="Log of the training run [log.jsonl beside the pipeline]"
    ),
    samples: int = typer.Option(10_000, help="Resamples for intervals and tests"),
    seed: int = typer.Option(0, min=0, help="Seed of the resampling"),
    gpu_id: int = typer.Option(
        -1, "--gpu-id", "-g", help="GPU for spaCy's own arrays, or -1 for the CPU"
    ),
    code: Optional[Path] = typer.Option(  # noqa: B008
        None, "--code", "-c", help="Python file with registered functions to import"
    ),
) -> None:
    """Score the entities of a pipeline: what spaCy scores, the modes of SemEval-2013,
    slices by length and distance, consistency, and confidence intervals.
    """
    # Shells do not expand `~` in `--compare=~/pipeline`.
    pipeline = os.path.expanduser(pipeline)
    compare = None if compare is None else os.path.expanduser(compare)
    options: Dict[str, Any] = {
        "output": output,
        "report": report,
        "train": train,
        "compare": compare,
        "log": log,
        "samples": samples,
        "seed": seed,
        "gpu_id": gpu_id,
        "code": code,
    }
    pipelines = [each for each in (pipeline, compare) if each is not None]
    outputs = (output, report)
    try:
        resampling = Resampling(samples, seed)
        folders = _check_paths(pipelines, [data, train], log, code, outputs)
        import_code(code)
        fix_random_seed(seed)
        setup_gpu(gpu_id, silent=True)
        # Errors of the inputs come up now, and not after the pipeline has run.
        seen = read_seen(read_docs(train)) if train else None
        curve = _read_curve(log, pipeline)
        nlp, *others = map(load, folders)
        prediction = predict(nlp, data)
        docs = read_examples(prediction.examples, prediction.distances)
        _check_annotated(docs, prediction, data)
        _check_found(docs, pipeline)
        comparison = [_compare(other, data, docs, resampling) for other in others]
        evaluation = {
            "command": _name_command(pipeline, data, options),
            "pipeline": pipeline,
            "data": str(data),
            "versions": {name: get_package_version(name) or "-" for name in _LIBRARIES},
            "seconds": prediction.seconds,
            "window": _describe_window(prediction.cutter),
            **summarize(docs, resampling, seen),
            "learning_curve": list(map(asdict, curve)),
            "performance": read_performance(prediction.nlp.meta),
            "comparison": {"pipeline": compare, **comparison[0]} if others else None,
        }
        scores = score_as_spacy(prediction)
        try:
            _write(scores, evaluation, docs, outputs)
        finally:
            # Where a file cannot be written, the scores are not lost.
            print_tables(evaluation)
    except (ImportError, MemoryError, OSError, ValueError) as error:
        msg.fail(str(error), exits=1)
    for path in outputs:
        if path is not None:
            msg.good(f"Wrote {path}")


def _check_paths(
    pipelines: Sequence[str],
    corpora: Sequence[Optional[Path]],
    log: Optional[Path],
    code: Optional[Path],
    outputs: Sequence[Optional[Path]],
) -> List[Path]:
    """RETURNS (List[Path]): The folders of the pipelines.
    RAISES (ValueError): If something is given and does not exist, or an output would
        take the place of an input.
    RAISES (OSError): If an output cannot be written.
    """
    read = _find_files(corpora, log)
    folders = list(map(_find, pipelines))
    logs = map(find_log, pipelines)
    check_outputs(outputs, (*read, log, code, *logs), folders)
    return folders


def _read_curve(log: Optional[Path], pipeline: str) -> Sequence[Point]:
    """RETURNS (Sequence[Point]): The learning curve by a log or, if none is given, by
    that of the pipeline, which need not be there.
    RAISES (ValueError): If the log that is given has none.
    """
    curve = read_curve(log or find_log(pipeline))
    if log is not None and not curve:
        raise ValueError(Errors.NO_CURVE.format(path=log))
    return curve


def _write(
    scores: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    docs: Sequence[ScoredDoc],
    outputs: Tuple[Optional[Path], Optional[Path]],
) -> None:
    """Write the metrics and the report, as far as they are asked for."""
    output, report = outputs
    if output is not None:
        # What `spacy evaluate` writes is at the top, by its names.
        metrics = {**scores, "evaluation": evaluation}
        write_text(output, json.dumps(metrics, indent=2, default=float) + "\n")
    if report is not None:
        write_text(report, render_report(evaluation, docs))


def _find_files(corpora: Sequence[Optional[Path]], log: Optional[Path]) -> List[Path]:
    """RETURNS (List[Path]): The files of those corpora that are given.
    RAISES (ValueError): If a corpus or the log is given, and does not exist.
    """
    given = [path for path in corpora if path is not None]
    for path in given:
        if not path.exists():
            raise ValueError(Errors.NO_EVALUATION_FILE.format(path=path))
    if log is not None and not log.is_file():
        raise ValueError(Errors.NO_EVALUATION_FILE.format(path=log))
    return [each for path in given for each in find_doc_files(path)]


def _find(pipeline: str) -> Path:
    """RETURNS (Path): The folder of a pipeline, which may be within a package.
    RAISES (ValueError): If there is none, or it is what `pretrain` writes.
    """
    folder = find_pipeline(pipeline)
    if folder is None:
        raise ValueError(Errors.NO_PIPELINE.format(value=pipeline))
    check_is_no_run(folder)
    return folder


def load(folder: Path) -> Language:
    """Load a pipeline to be scored.

    folder (Path): Its folder.
    RETURNS (Language): The pipeline.
    """
    nlp = load_model(folder)
    # spaCy's limit guards parsers against running out of memory. Here, every document
    # is to be scored.
    nlp.max_length = sys.maxsize
    return nlp


def predict(nlp: Language, data: Path) -> Prediction:
    """Run a pipeline.

    nlp (Language): The pipeline.
    data (Path): A `.spacy` file, or a folder of such files.
    RETURNS (Prediction): What it found.
    RAISES (ValueError): If there is no such data.
    """
    examples = _load_examples(nlp, data)
    seconds = _tokenize(nlp, examples)
    found = find_cutter(nlp)
    if found is None:
        return Prediction(nlp, examples, seconds + _run(nlp, examples))
    # Documents are cut at the ends of sentences: those that the encoder sees, and not
    # those that a component behind it may find.
    name, cutter = found
    before = nlp.pipe_names[: nlp.pipe_names.index(name)]
    others = nlp.pipe_names[len(before) :]
    if before:
        seconds += _run(nlp, examples, disable=others)
    distances = cutter(examples)
    seconds += _run(nlp, examples, disable=before)
    return Prediction(nlp, examples, seconds, cutter, distances)


def _tokenize(nlp: Language, examples: Sequence[Example]) -> float:
    """RETURNS (float): The seconds that it takes to make Docs of the texts, which
    `Language.evaluate` counts as well.
    """
    start = time.perf_counter()
    for example in examples:
        nlp.make_doc(example.reference.text)
    return time.perf_counter() - start


def _run(
    nlp: Language, examples: Sequence[Example], disable: Sequence[str] = ()
) -> float:
    """RETURNS (float): The seconds that the components take that are not disabled."""
    start = time.perf_counter()
    docs = nlp.pipe([example.predicted for example in examples], disable=disable)
    for example, doc in zip(examples, docs, strict=True):
        example.predicted = doc
    return time.perf_counter() - start


def _check_annotated(
    docs: Sequence[ScoredDoc], prediction: Prediction, data: Path
) -> None:
    """Say how many documents are not scored, since they have no annotations.

    RAISES (ValueError): If none has.
    """
    if not docs:
        raise ValueError(Errors.NO_ANNOTATED_DOCS.format(path=data))
    n_left_out = len(prediction.examples) - len(docs)
    if n_left_out:
        msg.warn(f"Documents without annotations, which are not scored: {n_left_out}")


def _check_found(docs: Sequence[ScoredDoc], pipeline: str) -> None:
    """Say so where a pipeline finds nothing, as one without a recognizer."""
    if not any(match.found for doc in docs for match in doc.matches):
        msg.warn(f"{pipeline} finds no entities in any document.")


def score_as_spacy(prediction: Prediction) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): The scores that `spacy evaluate` gives."""
    scores = Scorer(nlp=prediction.nlp).score(prediction.examples)
    n_words = sum(len(example.predicted) for example in prediction.examples)
    scores["speed"] = n_words / prediction.seconds
    return scores


def find_cutter(nlp: Language) -> Optional[Tuple[str, WindowCutter]]:
    """Find how a pipeline cuts documents into windows for what finds entities.

    nlp (Language): The pipeline.
    RETURNS (Optional[Tuple[str, WindowCutter]]): The name of the component that has the
        encoder, and how; if there are several, of the one that entities are found by,
        or else of the first. None if there is no encoder of this package, or one with
        another span getter.
    """
    found = min(
        find_in_pipeline(nlp),
        key=lambda pair: not _serves_entities(nlp, pair[0]),
        default=None,
    )
    if found is None:
        return None
    name, layer = found
    get_spans = layer.attrs["get_spans"]
    if not isinstance(get_spans, LongContextSpans):
        return None
    tokenizer = get_shim(layer).loaded.tokenizer
    return name, WindowCutter(tokenizer, get_spans.window, get_spans.overlap)


def _serves_entities(nlp: Language, name: str) -> bool:
    """RETURNS (bool): Whether a component, or one that listens to it, sets entities."""
    listeners = getattr(nlp.get_pipe(name), "listening_components", [])
    return any(
        "doc.ents" in nlp.get_pipe_meta(each).assigns for each in (name, *listeners)
    )


def print_tables(evaluation: Mapping[str, Any]) -> None:
    """Print the scores of each label and of each mode.

    evaluation (Mapping[str, Any]): What is written under "evaluation".
    """
    # No dict: a label may be "all", too.
    rows = [("all", evaluation["overall"]), *evaluation["labels"].items()]
    level = round(100 * evaluation["resampling"]["level"])
    msg.table(
        [
            (
                name,
                f"{row['gold']:,}",
                f"{row['found']:,}",
                *(show_score(row, key, _percent) for key in "prf"),
                " – ".join(f"{100 * end:.2f}" for end in row["f_interval"] or ()),
            )
            for name, row in rows
        ],
        header=("", "true", "found", "P", "R", "F", f"{level} % of F"),
        aligns=("l", *"rrrrrr"),
        divider=True,
    )
    msg.table(
        [
            (mode, *(_percent(evaluation["modes"][mode][key]) for key in "prf"))
            for mode in MODES
        ],
        header=("mode", "P", "R", "F"),
        aligns=("l", *"rrr"),
        divider=True,
    )
    if evaluation["comparison"] is not None:
        msg.text(_describe_comparison(evaluation))


def _describe_comparison(evaluation: Mapping[str, Any]) -> str:
    comparison = evaluation["comparison"]
    other = comparison["other"]
    against = f"Against {comparison['pipeline']}, "
    if comparison["difference"] is None:
        return f"{against}which finds {other['found']:,}. There are no true entities."
    difference = f"{100 * comparison['difference']:+.2f}"
    shown = f"{against}with F {_percent(other['f'])}: {difference} points"
    if comparison["p_value"] is None:
        return (
            f"{shown}. With entities in at most one document, it cannot be said "
            "whether that is chance."
        )
    low, high = (f"{100 * comparison[key]:+.2f}" for key in ("low", "high"))
    told = f"{shown} ({low} to {high}), p {chance(comparison['p_value'])}. "
    return (told + doubts(comparison)).rstrip()


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _compare(
    other: Language, data: Path, docs: Sequence[ScoredDoc], resampling: Resampling
) -> Dict[str, Any]:
    prediction = predict(other, data)
    others = read_examples(prediction.examples, prediction.distances)
    return summarize_comparison(docs, others, resampling)


def _load_examples(nlp: Language, data: Path) -> List[Example]:
    docs = read_docs(data, nlp.vocab)
    for number, doc in enumerate(docs, start=1):
        # By its place in the data, as Docs without tokens are left out below.
        if doc.user_data.get("id") is None:
            doc.user_data["id"] = f"document {number}"
    # Corpus itself reads nothing from a file that is not named .spacy.
    return list(Corpus(data).make_examples(nlp, docs))


def _describe_window(cutter: Optional[WindowCutter]) -> Optional[Dict[str, int]]:
    if cutter is None:
        return None
    return {"window": cutter.window, "overlap": cutter.overlap}


def _name_command(pipeline: str, data: Path, options: Mapping[str, Any]) -> str:
    words = ["python", "-m", "spacy", "modernbert", "evaluate", pipeline, str(data)]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shown_command(words)
