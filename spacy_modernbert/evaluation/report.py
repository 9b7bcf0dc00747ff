"""The report: one HTML file that needs nothing else."""

from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .charts import PERCENT, Chart, draw, length_axis, linear_axis
from .documents import ScoredDoc
from .highlight import CLASSES, SIGNS, describe_match, direction, language, render_doc
from .matching import Kind
from .summary import NOTHING

_FOLDER = Path(__file__).parent / "page"

# The confusion matrix grows with their square: so many can be seen at once.
_MOST_LABELS = 20

# With more labels than these, what lists them all gets a frame to scroll in.
_MANY_LABELS = 12

# In fewer documents than these, or of fewer true entities, the score of a slice is much
# by chance.
_FEW_DOCUMENTS = 5
_FEW_ENTITIES = 30

# Of fewer documents than these, resampling sees too little of how documents differ to
# compare two pipelines.
_FEW_TO_COMPARE = 10

# What a score is of nothing without. Of nothing, it is 0, as spaCy's is.
_SCORED = {"p": "found", "r": "gold", "f": "gold"}

# What stands in the place of a score of nothing.
_NO_SCORE = "–"

# What the text of the report says of each kind.
EXPLANATIONS: Mapping[Kind, str] = {
    Kind.CORRECT: "span and label agree",
    Kind.MISLABELLED: "the span agrees, the label does not",
    Kind.BOUNDARY: "the label agrees, the spans overlap only",
    Kind.BOTH: "the spans overlap only, and the labels differ",
    Kind.MISSED: "in the reference, and not found",
    Kind.SPURIOUS: "found, and not in the reference",
}


def render_report(data: Mapping[str, Any], docs: Sequence[ScoredDoc]) -> str:
    """Render an evaluation. All numbers come from the data, so that what stands in the
    report also stands in the JSON file.

    data (Mapping[str, Any]): What `python -m spacy modernbert evaluate` writes, under
        "evaluation".
    docs (Sequence[ScoredDoc]): The documents, with what was found in them.
    RETURNS (str): HTML, without references to anything outside.
    """
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        pct=percent,
        num=number,
        signed=signed,
        chance=chance,
        breakable=breakable,
        score=show_score,
        doubts=doubts,
    )
    environment.tests.update(small=is_small)
    page = environment.get_template("report.html.jinja")
    return page.render(
        data=data,
        style=_read("report.css"),
        script=_read("report.js"),
        kinds=[
            {
                "name": kind.value,
                "id": CLASSES[kind],
                "sign": SIGNS[kind],
                "what": EXPLANATIONS[kind],
            }
            for kind in Kind
        ],
        labels=order_labels(data["labels"]),
        has_many=len(data["labels"]) > _MANY_LABELS,
        few_documents=_FEW_DOCUMENTS,
        few_entities=_FEW_ENTITIES,
        matrix=make_matrix(data["confusion"]),
        length_chart=draw_lengths(data["per_document"]),
        score_chart=draw_curve(data["learning_curve"], "score"),
        loss_chart=draw_curve(data["learning_curve"], "loss"),
        docs=list(map(_show, docs, data["per_document"])),
    )


def order_labels(labels: Mapping[str, Mapping[str, Any]]) -> List[str]:
    """RETURNS (List[str]): The labels as they stand in the data, by the alphabet; where
    there are many, those with the most entities first.
    """
    if len(labels) <= _MANY_LABELS:
        return list(labels)
    return sorted(
        labels, key=lambda label: -max(labels[label]["gold"], labels[label]["found"])
    )


def make_matrix(confusion: Mapping[str, Mapping[str, int]]) -> Dict[str, Any]:
    """Lay out the confusion matrix.

    confusion (Mapping[str, Mapping[str, int]]): See `summary.count_confusion`.
    RETURNS (Dict[str, Any]): The names of the columns, and rows with a name and cells:
        a count, its share of the row, and which labels it is of. And the number of
        labels that are left out: where there are many, those that are missed, spurious
        or taken for another least often. Where only spans differ, that does not count.
    """
    confusions: Counter = Counter()
    for gold, row in confusion.items():
        for found, n in row.items():
            confusions[gold] += n * (gold != found)
            confusions[found] += n * (gold != found)
    del confusions[NOTHING]
    shown = sorted(label for label, _ in confusions.most_common(_MOST_LABELS))
    labels = [*shown, NOTHING]
    rows = []
    for gold in labels:
        row = confusion.get(gold, {})
        total = sum(row.values())
        cells = [
            {
                "count": row.get(found, 0),
                "share": row.get(found, 0) / total if total else 0.0,
                "gold": gold,
                "found": found,
                "what": describe_pair(gold, found),
                "is_right": gold == found,
                # What is neither in the reference nor found is not counted.
                "is_void": gold == found == NOTHING,
            }
            for found in labels
        ]
        rows.append({"name": gold or "spurious", "cells": cells})
    return {
        "columns": [label or "missed" for label in labels],
        "rows": rows,
        "left_out": len(confusions) - len(shown),
    }


def is_small(row: Mapping[str, Any]) -> bool:
    """RETURNS (bool): Whether a slice is so small that its score says little."""
    return bool(row["documents"] < _FEW_DOCUMENTS or row["gold"] < _FEW_ENTITIES)


def doubts(comparison: Mapping[str, Any]) -> str:
    """RETURNS (str): What a comparison says little of, by as many documents as it has:
    intervals are of those that have entities, p is of those in which pipelines differ.
    Empty if there are enough.
    """
    n_scored = comparison["documents_scored"]
    if n_scored < _FEW_TO_COMPARE:
        return f"Of {n_scored} documents, neither the interval nor p says much."
    n_differing = comparison["documents_better"] + comparison["documents_worse"]
    if n_differing < _FEW_TO_COMPARE:
        noun = "document" if n_differing == 1 else "documents"
        return f"They differ in {n_differing} {noun} only, so p says little."
    return ""


def describe_pair(gold: str, found: str) -> str:
    """RETURNS (str): In words what a cell of the confusion matrix is of."""
    if not gold:
        return f"{found} spurious"
    return f"{gold} found as {found}" if found else f"{gold} missed"


def draw_lengths(documents: Sequence[Mapping[str, Any]]) -> Optional[Chart]:
    """RETURNS (Optional[Chart]): F of each document over its length; None if there are
    no entities.
    """
    scored = [each for each in documents if each["gold"] or each["found"]]
    if not scored:
        return None
    return draw(
        "F of each document over its length",
        ("tokens", length_axis([max(1, each["tokens"]) for each in scored]), number),
        (PERCENT, whole_percent),
        [
            (
                max(1, each["tokens"]),
                each["f"],
                f"{each['id']}: {each['tokens']:,} tokens, F {percent(each['f'])}",
            )
            for each in scored
        ],
        joined=False,
    )


def draw_curve(curve: Sequence[Mapping[str, float]], name: str) -> Optional[Chart]:
    """RETURNS (Optional[Chart]): The score or the loss over the steps of training; None
    if that is not known.
    """
    if not curve:
        return None
    steps = linear_axis([each["step"] for each in curve], whole=True)
    values = [each[name] for each in curve]
    # A score is a sum by `score_weights`, which may be more than 1.
    is_share = name == "score" and max(values) <= 1
    axis = PERCENT if is_share else linear_axis(values)
    return draw(
        f"{name.capitalize()} over the steps of training",
        ("step", steps, number),
        (axis, whole_percent if is_share else number),
        [
            (
                each["step"],
                each[name],
                f"step {number(each['step'])}: "
                + (percent if is_share else number)(each[name]),
            )
            for each in curve
        ],
        joined=True,
    )


def percent(value: float) -> str:
    """RETURNS (str): A share in percent, without the sign."""
    return f"{100 * value:.1f}"


def show_score(
    row: Mapping[str, Any], key: str, show: Callable[[float], str] = percent
) -> str:
    """Show a score of a row.

    row (Mapping[str, Any]): Counts and scores.
    key (str): Which: "p", "r" or "f".
    show (Callable[[float], str]): How to show a number.
    RETURNS (str): The score, or a dash where the row has none of what it is of: true
        entities or, for precision, entities that were found.
    """
    # Modes count pairs.
    is_of_nothing = row.get(_SCORED[key]) == 0
    return _NO_SCORE if is_of_nothing else show(row[key])


def whole_percent(value: float) -> str:
    """RETURNS (str): A share in percent, without the sign and without decimals."""
    return f"{100 * value:.0f}"


def signed(value: float) -> str:
    """RETURNS (str): A difference of shares in points, with its sign."""
    return f"{100 * value:+.1f}".replace("-", "−")


def breakable(label: str) -> Markup:
    """RETURNS (Markup): A label that may go on in a new line after an underscore."""
    return Markup("_<wbr>").join(label.split("_"))


def chance(p_value: float) -> str:
    """RETURNS (str): A p-value, with the sign of what it is."""
    return "< 0.0001" if p_value < 0.0001 else f"= {p_value:.4f}"


def number(value: float) -> str:
    """RETURNS (str): A number, written for readers."""
    # Three digits would make 1e+03 of what rounds to a thousand.
    if abs(value) >= 999.5 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _show(doc: ScoredDoc, described: Mapping[str, Any]) -> Dict[str, Any]:
    """What the page needs of a document."""
    blocks: List[str] = render_doc(doc)
    # The HTML goes into a noscript element. Where scripts run, that is text, and is
    # parsed only when the document is opened. Whatever could end that element is
    # escaped.
    html = "".join(f'<section class="block">{block}</section>' for block in blocks)
    pairs = [describe_match(match) for match in doc.matches]
    return {
        **described,
        "html": Markup(html),
        "errors": len(doc.matches) - described["kinds"][Kind.CORRECT.value],
        "pairs": pairs,
        "lang": language(doc.doc),
        "dir": direction(doc.doc),
    }


def _read(name: str) -> Markup:
    return Markup((_FOLDER / name).read_text(encoding="utf8"))
