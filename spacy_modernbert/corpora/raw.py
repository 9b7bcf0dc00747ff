"""A document of a corpus as its annotators left it: raw text and character spans."""

from dataclasses import dataclass
from typing import Tuple

from ..errors import Errors

# How Knowtator and brat write the text of an annotation in several pieces
KNOWTATOR_GAP = " ... "
BRAT_GAP = " "


@dataclass(frozen=True)
class Annotation:
    """One mention.

    label (str): What the mention is.
    fragments (Tuple[Tuple[int, int], ...]): The pieces of text it consists of,
        `(start, end)` in characters, `end` exclusive.
    text (str): The text of the pieces as the annotation file repeats it.

    Invariants: there is at least one fragment, none starts before the text or ends
    before it starts, and they stand in the order of the text.
    """

    label: str
    fragments: Tuple[Tuple[int, int], ...]
    text: str

    def __post_init__(self) -> None:
        # Python would count negative numbers from the end of the text.
        are_spans = all(0 <= start <= end for start, end in self.fragments)
        are_ordered = list(self.fragments) == sorted(self.fragments)
        if not (self.fragments and are_spans and are_ordered):
            raise ValueError(
                Errors.CORPUS_BAD_FRAGMENTS.format(
                    text=self.text, fragments=self.fragments
                )
            )

    @property
    def start(self) -> int:
        """RETURNS (int): The first character."""
        return self.fragments[0][0]

    @property
    def end(self) -> int:
        """RETURNS (int): The character behind the last one."""
        return max(end for _, end in self.fragments)

    @property
    def is_discontinuous(self) -> bool:
        """RETURNS (bool): Whether it consists of several pieces."""
        return len(self.fragments) > 1


@dataclass(frozen=True)
class RawDocument:
    """A text with its annotations.

    id (str): The name of the document in its corpus.
    text (str): The text, with line ends and spaces as they are in the file.
    annotations (Tuple[Annotation, ...]): In the order of the files.

    Invariant: the text below every annotation is the text that the annotation
    says it is (but for the width of spaces). A checkout with translated line
    ends breaks it, and would shift every entity without a word.
    """

    id: str
    text: str
    annotations: Tuple[Annotation, ...]

    def __post_init__(self) -> None:
        for annotation in self.annotations:
            found = [self.text[start:end] for start, end in annotation.fragments]
            said = annotation.text.split()
            if said not in (
                KNOWTATOR_GAP.join(found).split(),
                BRAT_GAP.join(found).split(),
            ):
                raise ValueError(
                    Errors.CORPUS_OFFSETS.format(
                        document=self.id,
                        start=annotation.start,
                        end=annotation.end,
                        said=annotation.text,
                        found=KNOWTATOR_GAP.join(found),
                    )
                )
