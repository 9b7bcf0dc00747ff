"""spaCy's Examples → documents whose entities are matched."""

from collections import Counter
from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from spacy.tokens import Doc
from spacy.training import Example

from ..types import Ints
from .counts import Counts
from .matching import Kind, Match, Mention, match_mentions, normalize


@dataclass(frozen=True)
class ScoredDoc:
    """A document with its entities and those found.

    id (str): Its name, by which reports call it.
    doc (Doc): The reference.
    matches (Tuple[Match, ...]): The entities, in the order of the text.
    distances (Optional[Ints]): `(n_tokens,)`, from each token to the nearest place
        where the document was cut (`edges.cut_distances`); None if that is not known.
    """

    id: str
    doc: Doc
    matches: Tuple[Match, ...]
    distances: Optional[Ints] = None

    @property
    def gold(self) -> List[Mention]:
        """RETURNS (List[Mention]): The entities of the reference."""
        return [match.gold for match in self.matches if match.gold is not None]

    @property
    def found(self) -> List[Mention]:
        """RETURNS (List[Mention]): The entities found."""
        return [match.found for match in self.matches if match.found is not None]

    @property
    def correct(self) -> List[Mention]:
        """RETURNS (List[Mention]): Those of the reference that were found with the same
        span and label.
        """
        return [
            match.gold
            for match in self.matches
            if match.gold is not None and match.kind is Kind.CORRECT
        ]

    def count(self) -> Counts:
        """RETURNS (Counts): How many there are of these."""
        return Counts(len(self.correct), len(self.gold), len(self.found))

    def count_labels(self) -> Dict[str, Counts]:
        """RETURNS (Dict[str, Counts]): The same by label, for labels that occur."""
        correct, gold, found = (
            Counter(mention.label for mention in mentions)
            for mentions in (self.correct, self.gold, self.found)
        )
        return {
            label: Counts(correct[label], gold[label], found[label])
            for label in {**gold, **found}
        }


def read_examples(
    examples: Iterable[Example], distances: Optional[Sequence[Optional[Ints]]] = None
) -> List[ScoredDoc]:
    """Match the entities of documents as spaCy's `ner_scorer` does: in tokens of the
    reference, without documents that have no annotation, and without entities found
    where the annotation is missing.

    examples (Iterable[Example]): References, and what a pipeline found in them.
    distances (Optional[Sequence[Optional[Ints]]]): The distances of each.
    RETURNS (List[ScoredDoc]): The documents.
    """
    docs = []
    for i, example in enumerate(examples):
        if not example.reference.has_annotation("ENT_IOB"):
            continue
        id = example.reference.user_data.get("id")
        docs.append(
            ScoredDoc(
                id=f"document {i + 1}" if id is None else str(id),
                doc=example.reference,
                matches=match_mentions(read_gold(example.reference), _found(example)),
                distances=None if distances is None else distances[i],
            )
        )
    return docs


def read_gold(doc: Doc) -> List[Mention]:
    """RETURNS (List[Mention]): The entities of a Doc."""
    return [
        Mention(ent.start, ent.end, ent.label_, normalize(ent.text)) for ent in doc.ents
    ]


def _found(example: Example) -> List[Mention]:
    reference = example.reference
    alignment = example.alignment.x2y
    mentions = []
    for ent in example.predicted.ents:
        tokens = alignment[ent.start : ent.end]
        if not len(tokens):
            continue
        start, end = int(tokens[0]), int(tokens[-1]) + 1
        if all(token.ent_iob != 0 for token in reference[start:end]):
            # Named by the reference's text, so that a correct entity has one name.
            name = normalize(reference[start:end].text)
            mentions.append(Mention(start, end, ent.label_, name))
    return mentions
