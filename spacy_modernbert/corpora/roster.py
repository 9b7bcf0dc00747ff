"""The roster corpus: documents in which a name is explained once and used all over.

Each document draws names from one pool, and to each name a label, anew: whoever is a
town here is a ship in the next document, so a name by itself says nothing. One
sentence somewhere says what the name is ("The schooner is called Marlow."). All the
others use it in a way that fits any label ("They spoke of Marlow at supper."). To
label a mention one must find the sentence that explains the name, from a few words to
thousands of words away, before it or after it. Whoever sees the whole document can
label every mention; whoever sees a piece of it must guess, and one guess in four is
right.
"""

from dataclasses import dataclass
from typing import Dict, Iterator, List, Tuple

import numpy as np

LABELS: Dict[str, Tuple[str, ...]] = {
    "COMPANY": ("company", "firm"),
    "PERSON": ("sailor", "teacher"),
    "SHIP": ("ship", "schooner"),
    "TOWN": ("town", "village"),
}

EXPLAINING = (
    "The {noun} is called {name}.",
    "It is known that {name} is a {noun}.",
    "As for the {noun} {name}, it was an old story.",
    "There is a {noun} by the name of {name}.",
)

NEUTRAL = (
    "They spoke of {} at supper.",
    "Nobody had heard of {} since the spring.",
    "The letter said nothing about {}, and that was that.",
    "Most of the trouble began with {}.",
    "He had seen {} only once, in the rain.",
    "She wrote {} on the back of the card.",
    "For years {} had been on everyone's mind.",
    "The report names {} and {} together.",
    "What became of {} is not known.",
    "It was {} that they remembered, not {}.",
    "In the end {} cost them a good deal.",
    "The old man liked {} better than {}.",
)

PLAIN = (
    "The weather did not change for a week.",
    "Nothing else was said that evening.",
    "It was late, and the lamps were lit.",
    "The clerk closed the book and went home.",
    "No one could say how long it would last.",
    "There was little to do but wait.",
    "The answer came by the next post.",
    "So the matter was left as it stood.",
)

_ONSETS = "b br c ch d dr f g gr h j k l m n p r s st t tr v w".split()
_VOWELS = "a e i o u ai ea o a".split()
_CODAS = "l n r s th nd m x ck".split()
_ENDINGS = "a o en ow in er ay us ell ond".split()

_NAMES = 400
_SENTENCES_WITH_NAMES = 0.7
_SENTENCES_OF_A_PARAGRAPH = 7
_MIN_NAMES, _MAX_NAMES = 2, 32


@dataclass(frozen=True)
class RosterDocument:
    """A generated document.

    text (str): The text.
    entities (Tuple[Tuple[int, int, str], ...]): Start and end in characters, and
        label, of every mention of a name, in order.
    """

    text: str
    entities: Tuple[Tuple[int, int, str], ...]


@dataclass(frozen=True)
class Stage:
    """A stretch of the corpus in which documents are alike in length.

    n_words (int): Words to generate, at least; the last document is not cut.
    min_words (int): Words of the shortest document.
    max_words (int): Words of the longest document, roughly. Lengths between the two
        are drawn evenly on a logarithmic scale.
    words_per_name (int): A document of n words has about `n / words_per_name` names,
        between 2 and 32.
    """

    n_words: int
    min_words: int
    max_words: int
    words_per_name: int


def make_names(rng: np.random.Generator) -> List[str]:
    """RETURNS (List[str]): The pool of names: pronounceable, and none of them a word
    of the sentences.
    """
    words = {word.strip(".,'") for text in EXPLAINING + NEUTRAL + PLAIN for word in text.split()}
    names: Dict[str, None] = {}
    while len(names) < _NAMES:
        parts = (_ONSETS, _VOWELS, _CODAS, _ENDINGS)
        name = "".join(part[rng.integers(len(part))] for part in parts).capitalize()
        if name.lower() not in words:
            names[name] = None
    return list(names)


def generate(stages: List[Stage], seed: int) -> Iterator[RosterDocument]:
    """Generate documents, stage after stage.

    stages (List[Stage]): What to generate.
    seed (int): The same seed gives the same documents. The pool of names does not
        depend on it.
    YIELDS (RosterDocument): The documents.
    """
    names = make_names(np.random.default_rng(0))
    rng = np.random.default_rng(seed)
    for stage in stages:
        n_words = 0
        while n_words < stage.n_words:
            low, high = np.log(stage.min_words), np.log(stage.max_words)
            target = int(np.exp(rng.uniform(low, high)))
            document = make_document(rng, names, target, stage.words_per_name)
            n_words += target
            yield document


def make_document(
    rng: np.random.Generator, names: List[str], n_words: int, words_per_name: int
) -> RosterDocument:
    """Generate one document.

    rng (np.random.Generator): Where chance comes from.
    names (List[str]): The pool of names.
    n_words (int): About how long it shall be.
    words_per_name (int): See `Stage`.
    RETURNS (RosterDocument): The document.
    """
    n_names = int(np.clip(n_words // words_per_name, _MIN_NAMES, _MAX_NAMES))
    chosen = [names[i] for i in rng.choice(len(names), n_names, replace=False)]
    labels = [list(LABELS)[i] for i in rng.integers(len(LABELS), size=n_names)]
    label_of = dict(zip(chosen, labels, strict=True))
    sentences = _draw_neutral(rng, chosen, n_words)
    for name, label in label_of.items():
        nouns = LABELS[label]
        template = EXPLAINING[rng.integers(len(EXPLAINING))]
        noun = nouns[rng.integers(len(nouns))]
        explained = template.replace("{noun}", noun).split("{name}")
        # A sentence is what stands around its names: text, name, text, name, text.
        place = int(rng.integers(len(sentences) + 1))
        sentences.insert(place, [explained[0], name, explained[1]])
    return _join(rng, sentences, label_of)


def _draw_neutral(
    rng: np.random.Generator, chosen: List[str], n_words: int
) -> List[List[str]]:
    sentences: List[List[str]] = []
    left = n_words - 8 * len(chosen)
    while left > 0 or len(sentences) < 2:
        if rng.random() < _SENTENCES_WITH_NAMES:
            template = NEUTRAL[rng.integers(len(NEUTRAL))].split("{}")
            n_slots = len(template) - 1
            picked = rng.choice(len(chosen), n_slots, replace=False)
            sentence = [template[0]]
            for i, text in zip(picked, template[1:], strict=True):
                sentence += [chosen[i], text]
        else:
            sentence = [PLAIN[rng.integers(len(PLAIN))]]
        sentences.append(sentence)
        left -= sum(len(text.split()) for text in sentence)
    return sentences


def _join(
    rng: np.random.Generator, sentences: List[List[str]], label_of: Dict[str, str]
) -> RosterDocument:
    text = ""
    pieces: List[str] = []
    entities: List[Tuple[int, int, str]] = []
    length = 0

    def add(piece: str) -> None:
        nonlocal length
        pieces.append(piece)
        length += len(piece)

    for i, sentence in enumerate(sentences):
        if i > 0:
            ends = rng.random() < 1 / _SENTENCES_OF_A_PARAGRAPH
            add("\n\n" if ends else " ")
        for j, piece in enumerate(sentence):
            if j % 2:
                entities.append((length, length + len(piece), label_of[piece]))
            add(piece)
    text = "".join(pieces)
    return RosterDocument(text=text, entities=tuple(entities))
