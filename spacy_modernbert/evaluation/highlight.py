"""Documents as HTML: displaCy's view of entities, where right and wrong ones differ."""

import json
import re
import unicodedata
from bisect import bisect_right
from html import escape
from itertools import pairwise
from typing import Callable, Dict, Iterator, List, Sequence, Tuple

from spacy.displacy import EntityRenderer
from spacy.tokens import Doc

from .documents import ScoredDoc
from .matching import Kind, Match, Mention

# How a kind is marked: with a sign, so that it is not told by colour alone.
SIGNS: Dict[Kind, str] = {
    Kind.CORRECT: "✓",
    Kind.MISLABELLED: "≠",
    Kind.BOUNDARY: "↔",
    Kind.BOTH: "↮",
    Kind.MISSED: "−",
    Kind.SPURIOUS: "+",
}
# Names of CSS classes.
CLASSES: Dict[Kind, str] = {kind: f"k{i}" for i, kind in enumerate(Kind)}

# A page divides a document into blocks of about this many characters. The browser lays
# a block out only when it comes into view.
_CHUNK = 3000

# What to cut after: from so many characters on, from twice as many on, and from three
# times as many on. Not every language has spaces.
_CUTS = (re.compile("\n"), re.compile("[\n 。！？]"), re.compile("(?s:.)"))

# What HTML calls a language that is not known. spaCy has a code for it, and would have
# all of it read from the left.
ANY_LANGUAGE = ""
_MULTI_LANGUAGE = "xx"

# Unicode's classes of the characters that have a direction of their own.
_STRONG = {"L": "ltr", "R": "rtl", "AL": "rtl"}

# A line that ends in an entity: the style shows the sign of it.
_LINE_END = "<b></b><br>"

_MARK = '<mark class="e {kinds}" data-m="{matches}" tabindex="-1">{text}{tags}</mark>'
# By its role, the title is what is read out instead of the sign.
_TAG = '<small class="t {kind}" role="img" title="{title}">{sign}&nbsp;{label}</small>'


def render_doc(doc: ScoredDoc) -> List[str]:
    """Render a document.

    Each entity is a `mark`, with a sign and a label for what became of it. Entities
    that overlap are one `mark`. In it, a true entity is in a `u`, and one that was
    found is between an empty `i` and an empty `s`, which the style turns into brackets.
    An empty `b` is where a line ends, of which the style makes a sign, too. The
    attribute `data-m` lists the matches in it, as JSON: see `describe_match`.

    doc (ScoredDoc): The document.
    RETURNS (List[str]): Its HTML, in blocks of about the same length.
    """
    text = doc.doc.text
    renderer = EntityRenderer(options={"template": _MARK})
    renderer.direction = direction(doc.doc)
    # The text of a Doc is put together whenever it is asked for.
    entities = [_entity(doc.doc, text, group) for group in _group(doc.matches)]
    return [
        renderer.render_ents(
            text[start:end],
            [
                {**each, "start": each["start"] - start, "end": each["end"] - start}
                for each in inside
            ],
            None,
        )
        for start, end, inside in _chunks(text, entities)
    ]


def direction(doc: Doc) -> str:
    """RETURNS (str): "ltr" or "rtl": that of the language or, where that is not known,
    of the first character that has one.
    """
    if language(doc) == ANY_LANGUAGE:
        for character in doc.text:
            found = _STRONG.get(unicodedata.bidirectional(character))
            if found:
                return found
    return str(doc.vocab.writing_system.get("direction", "ltr"))


def language(doc: Doc) -> str:
    """RETURNS (str): Its code, or `ANY_LANGUAGE`."""
    code = str(doc.vocab.lang)
    return ANY_LANGUAGE if code == _MULTI_LANGUAGE else code


def _group(matches: Sequence[Match]) -> Iterator[List[Match]]:
    """Matches that overlap, together."""
    group: List[Match] = []
    end = 0
    for match in sorted(matches, key=lambda each: each.start):
        if group and match.start >= end:
            yield group
            group = []
        end = max(end, match.end) if group else match.end
        group.append(match)
    if group:
        yield group


def _entity(doc: Doc, text: str, group: Sequence[Match]) -> Dict:
    """What displaCy is to draw for matches that overlap."""
    span = doc[min(match.start for match in group) : max(match.end for match in group)]
    return {
        "start": span.start_char,
        "end": span.end_char,
        "label": "",
        "params": {
            "kinds": " ".join(dict.fromkeys(CLASSES[match.kind] for match in group)),
            "matches": escape(json.dumps([describe_match(match) for match in group])),
            "text": _inner(doc, text, group, span.start_char, span.end_char),
            "tags": "".join(_tag(doc, match) for match in group),
        },
    }


def describe_match(match: Match) -> Tuple[str, str, str]:
    """RETURNS (Tuple[str, str, str]): The kind of a match (by `CLASSES`), the true
    label and the label found; "" for a label that is not there.
    """
    gold = match.gold.label if match.gold else ""
    found = match.found.label if match.found else ""
    return CLASSES[match.kind], gold, found


def _tag(doc: Doc, match: Match) -> str:
    labels = dict.fromkeys(
        mention.label for mention in (match.gold, match.found) if mention is not None
    )
    return _TAG.format(
        kind=CLASSES[match.kind],
        sign=SIGNS[match.kind],
        label=escape(" → ".join(labels)),
        title=escape(explain(doc, match)),
    )


def explain(doc: Doc, match: Match) -> str:
    """RETURNS (str): In words what became of an entity."""
    parts = [match.kind.value]
    for where, mention in (("true", match.gold), ("found", match.found)):
        if mention is not None:
            text = doc[mention.start : mention.end].text
            parts.append(f"{where}: {text}, {mention.label}")
    return "; ".join(" ".join(part.split()) for part in parts)


def _inner(doc: Doc, text: str, group: Sequence[Match], start: int, end: int) -> str:
    """The text of a mark. Where spans differ, with elements that tell them apart."""
    if len(group) == 1 and group[0].kind not in (Kind.BOUNDARY, Kind.BOTH):
        return _escape(text[start:end])
    gold = [_chars(doc, each.gold) for each in group if each.gold]
    found = [_chars(doc, each.found) for each in group if each.found]
    bounds = sorted({start, end, *(at for span in (*gold, *found) for at in span)})
    parts = []
    for low, high in pairwise(bounds):
        part = _escape(text[low:high])
        if any(s <= low and high <= e for s, e in gold):
            part = f"<u>{part}</u>"
        opening = "<i></i>" * sum(s == low for s, _ in found)
        closing = "<s></s>" * sum(e == high for _, e in found)
        parts.append(f"{opening}{part}{closing}")
    return "".join(parts)


def _escape(text: str) -> str:
    """RETURNS (str): A text as HTML, in which its lines are seen."""
    return escape(text).replace("\n", _LINE_END)


def _chars(doc: Doc, mention: Mention) -> Tuple[int, int]:
    span = doc[mention.start : mention.end]
    return span.start_char, span.end_char


def _chunks(
    text: str, entities: Sequence[Dict]
) -> Iterator[Tuple[int, int, Sequence[Dict]]]:
    """Cut a text at line ends that are in no entity; in a long text without them, after
    a space or the stop of a sentence that no space follows, or anywhere.

    text (str): The text.
    entities (Sequence[Dict]): What is marked in it, in order. No two overlap.
    YIELDS (Tuple[int, int, Sequence[Dict]]): Where a block starts and ends, and the
        entities in it.
    """
    ends = [each["end"] for each in entities]

    def is_inside(at: int) -> bool:
        behind = bisect_right(ends, at)
        return behind < len(ends) and entities[behind]["start"] < at

    start = first = 0
    while start < len(text):
        end = _next_cut(text, start + _CHUNK, is_inside)
        behind = bisect_right(ends, end)
        yield start, end, entities[first:behind]
        start, first = end, behind


def _next_cut(text: str, at: int, is_inside: Callable[[int], bool]) -> int:
    for i, cut in enumerate(_CUTS, start=1):
        end = at + _CHUNK if i < len(_CUTS) else len(text)
        for found in cut.finditer(text, at, end):
            if not is_inside(found.end()):
                return found.end()
        at = end
    return len(text)
