"""The standoff format of brat: one annotation a line.

    T5<TAB>PER 833 869<TAB>James Stevenson , Esq. of South Park

Offsets count characters of the `.txt` file beside it. `12 14;20 25` is a mention
in two pieces. The format: https://brat.nlplab.org/standoff.html
"""

import re
from typing import List

from ..errors import Errors
from .raw import Annotation

# The identifier, the label, `start end` pairs between semicolons, the text
_ENTITY = re.compile(r"T\S*\t(\S+) (\d+ \d+(?:;\d+ \d+)*)\t(.*)")


def parse_brat(content: str, path: str) -> List[Annotation]:
    """Read the entities of an `.ann` file. Its other lines (relations, events,
    attributes, notes) say things *about* entities and are passed over.

    content (str): The file.
    path (str): Its name, for the message of an error.
    RETURNS (List[Annotation]): In the order of the file.
    RAISES (ValueError): If an entity's line does not follow the format.
    """
    annotations = []
    # Not `splitlines`: a text may hold a form feed or a Unicode line separator. And a
    # byte order mark is no part of the first identifier.
    lines = content.removeprefix("\ufeff").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.startswith("T"):
            continue
        match = _ENTITY.fullmatch(line.rstrip("\r"))
        if match is None:
            raise ValueError(
                Errors.CORPUS_BAD_LINE.format(path=path, number=number, line=line)
            )
        label, offsets, text = match.groups()
        fragments = sorted(
            (int(start), int(end))
            for start, end in (pair.split() for pair in offsets.split(";"))
        )
        annotations.append(Annotation(label, tuple(fragments), text))
    return annotations
