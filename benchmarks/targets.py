"""The targets of the package, and whether the results reach them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from spacy_modernbert.atomic import write_text
from spacy_modernbert.encoder.availability import BFLOAT16_FLAGS

from .machine import is_alike, name_machine
from .markdown import make_table
from .rows import Row

Parts = Dict[str, Dict[str, Any]]

# A figure, and why there is none.
Found = Tuple[Optional[float], str]

_NO_BFLOAT16 = "not measurable here: the processor has no native bfloat16"
_NO_GPU = "not measured yet: needs a CUDA device"
_MISSING = "not measured yet"


@dataclass(frozen=True)
class Target:
    """One thing to reach.

    what (str): In words.
    wanted (float): The figure.
    find (Callable[[Parts], Found]): Looks it up.
    at_most (bool): Whether less is better.
    """

    what: str
    wanted: float
    find: Callable[[Parts], Found]
    at_most: bool = False


def write_targets(folder: Path) -> str:
    """Compare the results in a folder with the targets.

    folder (Path): With the JSON of parts.
    RETURNS (str): A table, which is also written to `targets.md` there.
    RAISES (ValueError): If the parts are of several machines or numbers of threads.
    """
    parts = {
        path.stem: json.loads(path.read_text(encoding="utf8"))
        for path in (*sorted(folder.glob("*-*.json")), *folder.glob("decoder.json"))
    }
    lines = [
        "# Targets",
        "",
        f"{_name_threads(parts)}base shape; where a line says nothing else, on the "
        "CPU. Ours is",
        "the quickest of the backends that were measured, in the precision that a line",
        "names; if it names none, in float32 or bfloat16.",
        "",
        *make_table(
            ["", "wanted", "found", ""],
            [_describe(target, target.find(parts)) for target in TARGETS],
            words=(0, 3),
        ),
    ]
    text = "\n".join(lines) + "\n"
    write_text(folder / "targets.md", text)
    return text


def _name_threads(parts: Parts) -> str:
    """RETURNS (str): How many threads the parts had, `host` left out, which has one, as
    its lines say. Empty if there are no parts.
    RAISES (ValueError): If they differ, or the parts are of several machines.
    """
    # Of other files, and of other shapes, no figure is looked up.
    made = {
        name: part
        for name, part in parts.items()
        if "-base-" in name and "settings" in part
    }
    machines = [part["machine"] for part in made.values()]
    threads = {
        part["settings"]["threads"]
        for name, part in made.items()
        if not name.startswith("host-")
    }
    if len(threads) > 1 or not all(is_alike(machines[0], each) for each in machines):
        lines = [
            f"{name}: {name_machine(part['machine'], part['settings']['threads'])}"
            for name, part in made.items()
        ]
        raise ValueError(
            "These are not of one machine, or of one number of threads. Give each a "
            "folder of its own: --output.\n" + "\n".join(lines)
        )
    return "".join(f"{n} thread{'s' * (n > 1)}, " for n in threads)


def _describe(target: Target, found: Found) -> List[str]:
    """RETURNS (List[str]): The cells of a row."""
    value, why_not = found
    cells = [target.what, f"{'≤' if target.at_most else '≥'} {_round(target.wanted)}"]
    if value is None:
        return [*cells, "", why_not]
    reached = value <= target.wanted if target.at_most else value >= target.wanted
    return [*cells, _round(value), "reached" if reached else "**not reached**"]


def _round(value: float) -> str:
    """RETURNS (str): To four digits, or to a whole number."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _section(parts: Parts, part: str, title: str) -> Optional[Dict[str, Any]]:
    sections = parts.get(part, {}).get("sections", [])
    return next((s for s in sections if title in s["title"]), None)


def _best(rows: List[Row], precision: str = "") -> Optional[Row]:
    """The quickest of ours, in one precision or in any but 8 bits, which nothing takes
    by itself.
    """
    timed = [
        row
        for row in rows
        if row.get("ours")
        and row.get("seconds") is not None
        and (row["precision"] == precision if precision else row["precision"] != "int8")
    ]
    return min(timed, key=lambda row: row["seconds"], default=None)


def _lacks_bfloat16(parts: Parts, part: str) -> bool:
    """Whether a part was measured on a processor that only emulates bfloat16."""
    if part.endswith("cuda") or part not in parts:
        return False
    return BFLOAT16_FLAGS.isdisjoint(parts[part]["machine"]["flags"])


def faster(
    part: str, title: str, peer: str, precision: str
) -> Callable[[Parts], Found]:
    """RETURNS (Callable[[Parts], Found]): Looks up how many times faster the quickest
    of ours in a precision is than a peer.
    """

    def find(parts: Parts) -> Found:
        if precision == "bfloat16" and _lacks_bfloat16(parts, part):
            return None, _NO_BFLOAT16
        if part.endswith("cuda") and part not in parts:
            return None, _NO_GPU
        section = _section(parts, part, title)
        best = _best(section["rows"], precision) if section else None
        if section is None or best is None:
            return None, _MISSING
        for row in section["ratios"]:
            if row["peer"] == best["peer"] and peer in row["faster_than"]:
                return row["faster_than"][peer], ""
        reasons = {row["peer"]: row["why_not"] for row in section["rows"]}
        return None, reasons.get(peer) or _MISSING

    return find


def int8_gain(parts: Parts) -> Found:
    """RETURNS (Found): How many times faster 8-bit weights are than bfloat16, both the
    quickest of ours.
    """
    if _lacks_bfloat16(parts, _ENCODER):
        return None, _NO_BFLOAT16
    section = _section(parts, _ENCODER, "2,048")
    rows = section["rows"] if section else []
    int8, half = _best(rows, "int8"), _best(rows, "bfloat16")
    if int8 is None or half is None:
        return None, _MISSING
    return half["seconds"] / int8["seconds"], ""


def decoded_tokens(parts: Parts) -> Found:
    """RETURNS (Found): What `python -m benchmarks.decoder` found for 6 labels: beside
    the other parts, or else in what comes with the project, if that was on the
    processor that the other parts are of.
    """
    path = Path(__file__).with_name("decoder.json")
    results = parts.get("decoder")
    if results is None and path.is_file():
        results = json.loads(path.read_text(encoding="utf8"))
    if results is None or not any(
        is_alike(results["machine"], part["machine"]) for part in parts.values()
    ):
        return None, _MISSING
    rows = results["tokens_per_second"]
    found = [
        row["from hidden: fast"]
        for row in rows
        if row["labels"] == 6 and not row["upper"]
    ]
    return (found[0], "") if found else (None, _MISSING)


def value(
    part: str, title: str, key: str, precision: str = "", scale: float = 1.0
) -> Callable[[Parts], Found]:
    """RETURNS (Callable[[Parts], Found]): Looks up a figure of the quickest of ours."""

    def find(parts: Parts) -> Found:
        if precision == "bfloat16" and _lacks_bfloat16(parts, part):
            return None, _NO_BFLOAT16
        if part.endswith("cuda") and part not in parts:
            return None, _NO_GPU
        section = _section(parts, part, title)
        best = _best(section["rows"], precision) if section else None
        if best is None or best.get(key) is None:
            return None, _MISSING
        return best[key] * scale, ""

    return find


def least_cosine(precision: str) -> Callable[[Parts], Found]:
    """RETURNS (Callable[[Parts], Found]): Looks up the least cosine of any wordpiece,
    over all of ours in a precision.
    """

    def find(parts: Parts) -> Found:
        sections = parts.get("accuracy-base-cpu", {}).get("sections", [])
        cosines = [
            row["least_cosine"]
            for section in sections
            for row in section["rows"]
            if row["precision"] == precision and row.get("least_cosine") is not None
        ]
        return (min(cosines), "") if cosines else (None, _MISSING)

    return find


def memory_share(parts: Parts) -> Found:
    """RETURNS (Found): The peak of a step of training, as a share of that of
    spacy-transformers.
    """
    section = _section(parts, "training-base-cpu", "A step")
    rows = section["rows"] if section else []
    best = _best(rows)
    stock = [row for row in rows if not row["ours"] and row.get("peak_mb")]
    if best is None or not best.get("peak_mb") or not stock:
        return None, _MISSING
    return best["peak_mb"] / stock[0]["peak_mb"], ""


_ENCODER = "encoder-base-cpu"
_PLAIN = "transformers float32"
_HALF = "transformers bfloat16"
_OPENVINO = "OpenVINO export bfloat16"
_WHOLE = "spacy-transformers float32, whole documents"
_STRIDED = "spacy-transformers float32, windows of 128"
_ON_CUDA = ("transformers bfloat16, flash attention", "packed-encoders bfloat16")


def _encoder_targets() -> List[Target]:
    wanted = [
        ("bfloat16", _PLAIN, (2.3, 3.0, 4.0)),
        ("bfloat16", _HALF, (1.1, 1.8, 3.5)),
        ("float32", _PLAIN, (1.0, 1.4, 1.9)),
        ("bfloat16", _OPENVINO, (1.0, 1.25, 2.0)),
    ]
    return [
        Target(
            f"{length} wordpieces, {precision}: times {peer}",
            figure,
            faster(_ENCODER, f"One document of {length}", peer, precision),
        )
        for precision, peer, figures in wanted
        for length, figure in zip(("512", "2,048", "8,192"), figures, strict=True)
    ]


def _pipeline_targets() -> List[Target]:
    wanted = [
        ("mixed batch", "mixed", _WHOLE, 4.0),
        ("LitBank", "litbank", _STRIDED, 3.0),
        ("LitBank", "litbank", _WHOLE, 3.0),
    ]
    return [
        Target(
            f"{name} in nlp.pipe{named}: times {peer.replace(' float32', '')}",
            figure,
            faster("pipeline-base-cpu", title, peer, precision),
        )
        for precision, named in (("", ""), ("int8", ", int8"))
        for name, title, peer, figure in wanted
    ]


TARGETS: List[Target] = [
    *_encoder_targets(),
    Target(
        "mixed batch, bfloat16: times OpenVINO export bfloat16",
        2.0,
        faster(_ENCODER, "mixed", _OPENVINO, "bfloat16"),
    ),
    Target(
        "2,048 wordpieces: share of the bfloat16 matrix rate",
        0.6,
        value(_ENCODER, "2,048", "share", "bfloat16"),
    ),
    Target("2,048 wordpieces, int8: times our own bfloat16", 1.3, int8_gain),
    Target(
        "8,192 wordpieces: share of the bfloat16 matrix rate",
        0.45,
        value(_ENCODER, "8,192", "share", "bfloat16"),
    ),
    *_pipeline_targets(),
    Target(
        "8,192 wordpieces in nlp.pipe: growth of the peak, GB",
        0.4,
        value("memory-base-cpu", "8,192", "growth_mb", scale=1e-3),
        at_most=True,
    ),
    Target(
        "everything but the encoder, 6 labels: tokens/s on one core",
        100_000,
        value("host-base-cpu", "6 labels", "tokens_per_second"),
    ),
    Target(
        "everything but the encoder, 18 labels: tokens/s on one core",
        80_000,
        value("host-base-cpu", "18 labels", "tokens_per_second"),
    ),
    Target(
        "the decoder alone, from hidden vectors, 6 labels: tokens/s",
        2_000_000,
        decoded_tokens,
    ),
    Target(
        "training on 4,096 wordpieces: times spacy-transformers",
        2.0,
        faster("training-base-cpu", "A step", _WHOLE, ""),
    ),
    Target(
        "training on 4,096 wordpieces: peak memory, share of spacy-transformers'",
        0.5,
        memory_share,
        at_most=True,
    ),
    Target("bfloat16: least cosine of a wordpiece", 0.999, least_cosine("bfloat16")),
    Target("int8: least cosine of a wordpiece", 0.995, least_cosine("int8")),
    Target(
        "CUDA, 8,192 wordpieces: share of the bfloat16 matrix rate",
        0.5,
        value("encoder-base-cuda", "8,192", "share", "bfloat16"),
    ),
    Target(
        "CUDA, 8,192 wordpieces: times transformers bfloat16",
        4.0,
        faster("encoder-base-cuda", "8,192", _HALF, "bfloat16"),
    ),
    *[
        Target(
            f"CUDA, 8,192 wordpieces: times {peer}",
            1.2,
            faster("encoder-base-cuda", "8,192", peer, "bfloat16"),
        )
        for peer in _ON_CUDA
    ],
    Target(
        "CUDA, LitBank in nlp.pipe: tokens/s",
        80_000,
        value("pipeline-base-cuda", "litbank", "tokens_per_second"),
    ),
]
