"""The roster corpus: documents in which a name is explained once and used all over.

Each document draws names from one pool, and a new label for each name: what is a town
here may be a ship in the next document, so a name by itself says nothing. One
sentence somewhere says what the name is ("The schooner is called Marlow."). All the
others use it in a way that fits any label ("They spoke of Marlow at supper."). To
label a mention one must find the sentence that explains the name, from a few words to
thousands of words away, before it or after it. A model that sees the whole document
can label every mention; one that sees only a piece must guess, and one guess in four
is right.
"""

import re
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np

from .convert import ConvertedCorpus, convert
from .raw import Annotation, RawDocument

LABELS: Dict[str, Tuple[str, ...]] = {
    "COMPANY": ("company", "firm"),
    "PERSON": ("sailor", "teacher"),
    "SHIP": ("ship", "schooner"),
    "TOWN": ("town", "village"),
}

EXPLAINING = (
    "The {noun} is called {}.",
    "It is known that {} is a {noun}.",
    "The {noun} {} was an old story by then.",
    "There is a {noun} by the name of {}.",
)

NEUTRAL = (
    "They spoke of {} at supper.",
    "Nobody had heard of {} since the spring.",
    "The letter that came in the morning said nothing about {}.",
    "Most of the trouble began with {}.",
    "He had seen {} only once and that was in the rain.",
    "She wrote {} on the back of the card.",
    "For years {} had been on the mind of all who lived there.",
    "The report names {} and {} together.",
    "What became of {} is not known.",
    "It was {} that they remembered and not {}.",
    "In the end {} cost them a good deal.",
    "The old man liked {} better than {}.",
)

PLAIN = (
    "The weather did not change for a week.",
    "Nothing else was said that evening.",
    "It was late and the lamps were lit.",
    "The clerk closed the book and went home.",
    "No one could say how long it would last.",
    "There was little to do but wait.",
    "The answer came by the next post.",
    "So the matter was left as it stood.",
)

# A name is one of each, joined.
_SYLLABLES = (
    (
        "b",
        "br",
        "ch",
        "d",
        "dr",
        "f",
        "g",
        "h",
        "k",
        "l",
        "m",
        "r",
        "st",
        "t",
        "v",
        "w",
    ),
    ("a", "e", "i", "o", "u", "ai", "ea"),
    ("l", "n", "r", "s", "th", "nd", "m", "x", "ck"),
    ("a", "o", "en", "ow", "in", "er", "ay", "us", "ell", "ond"),
)
# A sentence in parts, texts and names in turn: text, name, text, name, text.
Sentence = List[str]

_NAMES = 400
_SENTENCES_WITH_NAMES = 0.7
_SENTENCES_OF_A_PARAGRAPH = 7
_MIN_NAMES, _MAX_NAMES = 2, 32


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


@dataclass(frozen=True)
class RosterSize:
    """How much to generate.

    train (Tuple[Stage, ...]): The training documents, in this order: short ones with
        few names first, so that a model learns to look a name up where that is easy,
        before it has to do so across thousands of words.
    held_out (Stage): The documents for development, and as many again for the test.
    """

    train: Tuple[Stage, ...]
    held_out: Stage


# Enough to see that everything runs.
TINY = RosterSize(
    train=(Stage(6_000, 24, 80, 12),),
    held_out=Stage(2_000, 40, 200, 30),
)
# For the default run: minutes on a laptop.
SHORT = RosterSize(
    train=(
        Stage(60_000, 24, 80, 12),
        Stage(60_000, 80, 400, 30),
        Stage(800_000, 300, 2_000, 60),
    ),
    held_out=Stage(25_000, 300, 2_000, 60),
)
# To show what a window of 8,192 wordpieces is worth. The longest documents just fit
# into one, so that no name has to be guessed, as one explained in another window would.
LONG = RosterSize(
    train=(
        Stage(60_000, 24, 80, 12),
        Stage(60_000, 80, 400, 30),
        Stage(120_000, 300, 2_000, 60),
        Stage(5_000_000, 1_000, 6_000, 100),
    ),
    held_out=Stage(60_000, 1_000, 6_000, 100),
)


def make_roster(size: RosterSize, seed: int = 0) -> ConvertedCorpus:
    """Generate the corpus.

    size (RosterSize): How much.
    seed (int): The same seed gives the same corpus.
    RETURNS (ConvertedCorpus): The Docs, and how many of what.
    """
    stages = {"train": size.train, "dev": (size.held_out,), "test": (size.held_out,)}
    documents = {
        split: list(generate(split, stages[split], [seed, number]))
        for number, split in enumerate(stages)
    }
    names = {split: [doc.id for doc in docs] for split, docs in documents.items()}
    by_name = {doc.id: doc for docs in documents.values() for doc in docs}
    return convert("roster", tuple(LABELS), names, by_name.__getitem__)


def generate(
    name: str, stages: Sequence[Stage], seed: Sequence[int]
) -> Iterator[RawDocument]:
    """Generate documents, stage after stage.

    name (str): What the documents are called, before their number.
    stages (Sequence[Stage]): What to generate.
    seed (Sequence[int]): The same seed gives the same documents. The pool of names
        does not depend on it.
    YIELDS (RawDocument): The documents.
    """
    pool = make_names()
    rng = np.random.default_rng(seed)
    n_documents = 0
    for stage in stages:
        shortest, longest = np.log(stage.min_words), np.log(stage.max_words)
        n_words = 0
        while n_words < stage.n_words:
            length = int(np.exp(rng.uniform(shortest, longest)))
            n_names = int(
                np.clip(length // stage.words_per_name, _MIN_NAMES, _MAX_NAMES)
            )
            yield make_document(
                f"{name}-{n_documents:05}", rng, pool, n_words=length, n_names=n_names
            )
            n_words += length
            n_documents += 1


def make_names() -> List[str]:
    """RETURNS (List[str]): The pool of names, always the same: pronounceable, and none
    of them a word of the sentences.
    """
    rng = np.random.default_rng(0)
    texts = " ".join(EXPLAINING + NEUTRAL + PLAIN).lower()
    words = set(re.findall(r"\w+", texts))
    names: Dict[str, None] = {}
    while len(names) < _NAMES:
        name = "".join(parts[rng.integers(len(parts))] for parts in _SYLLABLES)
        if name not in words:
            names[name.capitalize()] = None
    return list(names)


def make_document(
    name: str, rng: np.random.Generator, pool: Sequence[str], n_words: int, n_names: int
) -> RawDocument:
    """Generate one document.

    name (str): What it is called.
    rng (np.random.Generator): The random number generator.
    pool (Sequence[str]): The names to draw from.
    n_words (int): About how long it shall be.
    n_names (int): How many names it has. Each is explained exactly once.
    RETURNS (RawDocument): The document.
    """
    drawn = rng.choice(len(pool), n_names, replace=False)
    labels = rng.integers(len(LABELS), size=n_names)
    label_of = {
        pool[i]: list(LABELS)[label] for i, label in zip(drawn, labels, strict=True)
    }
    sentences = _draw_sentences(rng, list(label_of), n_words - 8 * n_names)
    for entity, label in label_of.items():
        template = _pick(rng, EXPLAINING).replace("{noun}", _pick(rng, LABELS[label]))
        place = int(rng.integers(len(sentences) + 1))
        sentences.insert(place, _fill(template, [entity]))
    return _join(name, rng, sentences, label_of)


def _draw_sentences(
    rng: np.random.Generator, names: Sequence[str], n_words: int
) -> List[Sentence]:
    sentences: List[Sentence] = []
    while n_words > 0 or len(sentences) < 2:
        if rng.random() < _SENTENCES_WITH_NAMES:
            template = _pick(rng, NEUTRAL)
            picked = rng.choice(len(names), template.count("{}"), replace=False)
            sentence = _fill(template, [names[i] for i in picked])
        else:
            sentence = [_pick(rng, PLAIN)]
        sentences.append(sentence)
        n_words -= sum(len(part.split()) for part in sentence)
    return sentences


def _fill(template: str, names: Sequence[str]) -> Sentence:
    first, *rest = template.split("{}")
    sentence = [first]
    for name, text in zip(names, rest, strict=True):
        sentence += [name, text]
    return sentence


def _join(
    name: str,
    rng: np.random.Generator,
    sentences: Sequence[Sentence],
    label_of: Mapping[str, str],
) -> RawDocument:
    parts: List[str] = []
    annotations: List[Annotation] = []
    position = 0
    for sentence in sentences:
        if parts:
            new_paragraph = rng.random() < 1 / _SENTENCES_OF_A_PARAGRAPH
            parts.append("\n\n" if new_paragraph else " ")
            position += len(parts[-1])
        for i, part in enumerate(sentence):
            end = position + len(part)
            if i % 2:
                annotations.append(
                    Annotation(label_of[part], ((position, end),), text=part)
                )
            parts.append(part)
            position = end
    return RawDocument(name, "".join(parts), tuple(annotations))


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]
