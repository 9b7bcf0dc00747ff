"""The roster corpus is what it says it is: one has to look names up."""

import math
import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from spacy_modernbert.corpora.roster import (
    EXPLAINING,
    LABELS,
    LONG,
    NEUTRAL,
    PLAIN,
    SHORT,
    TINY,
    RosterSize,
    Stage,
    generate,
    make_document,
    make_names,
    make_roster,
)

POOL = make_names()
NOUNS = {noun: label for label, nouns in LABELS.items() for noun in nouns}
STAGE = Stage(n_words=60_000, min_words=40, max_words=1_000, words_per_name=30)

# A sentence with its names as they stand, and those of an explanation: `(name, noun)`
SENTENCE = re.compile(r"[^.]+\.")
EXPLANATIONS = [
    re.compile(
        re.escape(template)
        .replace(r"\{\}", "(?P<name>[A-Z][a-z]+)")
        .replace(r"\{noun\}", "(?P<noun>[a-z]+)")
    )
    for template in EXPLAINING
]


@pytest.fixture(scope="module")
def documents():
    return list(generate("train", [STAGE], [0]))


def words(text):
    return re.findall(r"\w+", text.lower())


def sentences(document):
    return [sentence.strip() for sentence in SENTENCE.findall(document.text)]


def explanations(document):
    """The names that are explained, each with the noun, in the order of the text."""
    found = []
    for sentence in sentences(document):
        for pattern in EXPLANATIONS:
            match = pattern.fullmatch(sentence)
            if match and match["noun"] in NOUNS:
                found.append((match["name"], match["noun"]))
    return found


def labels(document):
    """The labels that the mentions of each name have."""
    found = defaultdict(set)
    for annotation in document.annotations:
        found[annotation.text].add(annotation.label)
    return found


# -- The sentences ----------------------------------------------------------------


def test_only_explanations_tell_the_label():
    """A noun that says what something is stands in them, and nowhere else."""
    plural = {noun + "s" for noun in NOUNS} | {noun[:-1] + "ies" for noun in NOUNS}
    for template in NEUTRAL + PLAIN:
        assert not set(words(template)) & (set(NOUNS) | plural)
        assert not set(words(template)) & {label.lower() for label in LABELS}
    for template in EXPLAINING:
        assert template.count("{}") == template.count("{noun}") == 1


def test_no_noun_is_of_two_labels():
    assert len(NOUNS) == sum(map(len, LABELS.values()))


def test_no_mention_begins_a_sentence():
    """Its capital would not tell a name from other words there."""
    assert not any(text.startswith("{}") for text in EXPLAINING + NEUTRAL)


def test_a_sentence_ends_once():
    for template in EXPLAINING + NEUTRAL + PLAIN:
        assert template.endswith(".") and template.count(".") == 1


def test_names():
    assert len(POOL) == len(set(POOL)) == 400
    assert make_names() == POOL
    assert all(re.fullmatch("[A-Z][a-z]+", name) for name in POOL)
    known = set(words(" ".join(EXPLAINING + NEUTRAL + PLAIN))) | set(NOUNS)
    assert not known & {name.lower() for name in POOL}


# -- A document -------------------------------------------------------------------


def test_every_name_is_explained_once(documents):
    for document in documents:
        explained = [name for name, _ in explanations(document)]
        assert len(explained) == len(set(explained)) >= 2
        assert set(explained) == set(labels(document))


def test_mentions_agree_with_the_explanation(documents):
    for document in documents:
        wanted = {name: {NOUNS[noun]} for name, noun in explanations(document)}
        assert labels(document) == wanted


def test_every_mention_is_annotated(documents):
    for document in documents:
        standing = [
            (match.start(), match.end())
            for match in re.finditer(r"[A-Za-z]+", document.text)
            if match.group() in set(POOL)
        ]
        assert [a.fragments for a in document.annotations] == [(s,) for s in standing]


def test_nothing_else_is_said(documents):
    """Without its names, a sentence is one of the templates."""
    known = set(NEUTRAL + PLAIN) | {
        template.replace("{noun}", noun) for template in EXPLAINING for noun in NOUNS
    }
    names = re.compile(r"\b(" + "|".join(POOL) + r")\b")
    for document in documents[:100]:
        assert {names.sub("{}", sentence) for sentence in sentences(document)} <= known


def test_two_names_of_a_sentence_differ(documents):
    for document in documents:
        for sentence in sentences(document):
            names = [word for word in re.findall(r"\w+", sentence) if word in POOL]
            assert len(names) == len(set(names))


def test_paragraphs(documents):
    """Between sentences only, and not after every one, nor never."""
    lengths = []
    for document in documents:
        paragraphs = document.text.split("\n\n")
        assert all(part == part.strip() and part.endswith(".") for part in paragraphs)
        assert not any(part.startswith(tuple(POOL)) for part in paragraphs)
        lengths += [len(SENTENCE.findall(part)) for part in paragraphs[1:-1]]
    assert 5 <= np.mean(lengths) <= 9


@pytest.mark.parametrize(
    "n_words, n_names", [(24, 2), (200, 2), (200, 8), (2_000, 20), (8_000, 32)]
)
def test_length(n_words, n_names):
    """About as many words as asked for: within 5 % and a sentence or two."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        document = make_document("x", rng, POOL, n_words=n_words, n_names=n_names)
        assert len(labels(document)) == n_names
        found = len(document.text.split())
        assert abs(found - n_words) <= 0.05 * n_words + 30


# -- Documents --------------------------------------------------------------------


def test_lengths_of_a_stage(documents):
    lengths = np.array([len(document.text.split()) for document in documents])
    assert lengths.min() >= 0.7 * STAGE.min_words
    assert lengths.max() <= 1.1 * STAGE.max_words
    assert STAGE.n_words <= 1.05 * lengths.sum() <= 1.15 * STAGE.n_words
    # Even on a logarithmic scale: as many below the middle as above it.
    middle = math.sqrt(STAGE.min_words * STAGE.max_words)
    assert 0.4 <= np.mean(lengths < middle) <= 0.6


def test_names_of_a_document(documents):
    for document in documents:
        n_words = len(document.text.split())
        wanted = min(32, max(2, n_words / STAGE.words_per_name))
        assert abs(len(labels(document)) - wanted) <= 2


def test_a_name_tells_nothing():
    """Over many documents, each name has each label a quarter of the time."""
    stage = Stage(n_words=200_000, min_words=60, max_words=60, words_per_name=6)
    pairs = Counter(
        (name, label)
        for document in generate("x", [stage], [0])
        for name, (label,) in labels(document).items()
    )
    counts = np.array([[pairs[name, label] for label in LABELS] for name in POOL])
    totals = counts.sum(axis=1, keepdims=True)
    assert totals.min() >= 40
    # Chi-squared, three degrees of freedom each: a sum of mean 1,200, deviation 49
    wanted = totals / len(LABELS)
    assert abs(((counts - wanted) ** 2 / wanted).sum() - 1_200) <= 5 * 49


def test_the_explanation_stands_anywhere(documents):
    """Before the mentions and after them, at the start of a document and at its end."""
    places = []
    for document in documents:
        spoken = sentences(document)
        for i, sentence in enumerate(spoken):
            matches = (pattern.fullmatch(sentence) for pattern in EXPLANATIONS)
            if any(match and match["noun"] in NOUNS for match in matches):
                places.append(i / max(1, len(spoken) - 1))
    shares, _ = np.histogram(places, bins=4, range=(0, 1))
    assert np.abs(shares / len(places) - 0.25).max() <= 0.05


def test_the_same_seed_gives_the_same():
    stages = [Stage(500, 24, 80, 12), Stage(500, 80, 200, 30)]
    one, same, other = (list(generate("x", stages, [seed])) for seed in (1, 1, 2))
    assert one == same
    assert not {document.text for document in one} & {doc.text for doc in other}


# -- The corpus -------------------------------------------------------------------

SMALL = RosterSize(
    train=(Stage(500, 24, 80, 12), Stage(1_500, 300, 800, 30)),
    held_out=Stage(1_000, 100, 400, 30),
)


def test_make_roster():
    corpus = make_roster(SMALL)
    report = corpus.report.total
    assert report.annotations > 100
    # Every mention is an entity, of one token.
    assert (sum(report.dropped.values()), report.expanded, report.enclosed) == (0, 0, 0)
    train = corpus.splits["train"]
    assert [doc.user_data["id"] for doc in train][:2] == ["train-00000", "train-00001"]
    for doc in train:
        assert doc.has_annotation("ENT_IOB", require_complete=True)
        assert all(len(ent) == 1 and ent.text in POOL for ent in doc.ents)
        assert {ent.label_ for ent in doc.ents} <= set(LABELS)
    documents = generate("train", SMALL.train, [0, 0])
    for doc, document in zip(train, documents, strict=True):
        assert doc.text == document.text
        assert [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents] == [
            (a.start, a.end, a.label) for a in document.annotations
        ]


def test_stages_come_in_order():
    lengths = [len(doc) for doc in make_roster(SMALL).splits["train"]]
    assert all(length < 150 for length in lengths[:5])
    assert all(length > 250 for length in lengths[-1:])


def test_every_name_in_the_pool_is_one_token():
    """Also before a full stop, where spaCy knows abbreviations."""
    import spacy

    tokenizer = spacy.blank("en").tokenizer
    for name in POOL:
        assert [token.text for token in tokenizer(f"about {name}.")][1:] == [name, "."]


def test_splits_differ():
    splits = make_roster(SMALL).splits
    texts = [{doc.text for doc in docs} for docs in splits.values()]
    assert not (texts[0] & texts[1] or texts[0] & texts[2] or texts[1] & texts[2])
    ids = [doc.user_data["id"] for docs in splits.values() for doc in docs]
    assert len(ids) == len(set(ids))


def test_the_same_seed_gives_the_same_files(tmp_path):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        make_roster(SMALL, seed).write(tmp_path / name)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "same" / path.name).read_bytes()
        assert path.read_bytes() != (tmp_path / "other" / path.name).read_bytes()


@pytest.mark.parametrize("size", [TINY, SHORT, LONG])
def test_sizes(size):
    """Training goes from short to long, up to the length of what is held out."""
    longest = [stage.max_words for stage in size.train]
    assert longest == sorted(longest)
    for stage in (*size.train, size.held_out):
        assert 0 < stage.min_words <= stage.max_words
        # Room for each name's explanation, and a word more.
        assert stage.words_per_name > 8
    if size is not TINY:
        assert size.train[-1].max_words == size.held_out.max_words
        assert size.train[-1].min_words == size.held_out.min_words
