"""Every published layout is read as transformers reads it, on every backend."""

import numpy as np
import pytest
import spacy
from transformers import AutoTokenizer

from spacy_modernbert.documents.alignment import align, token_offsets
from spacy_modernbert.documents.wordpieces import WordpieceTokenizer
from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.checkpoint import load_config, open_tensors

from ..util import require
from . import layouts
from .layouts import LAYOUTS, TEXTS
from .util import assert_hidden_states


@pytest.fixture(scope="module", params=LAYOUTS)
def published(request, tmp_path_factory):
    """A layout, its folder, and transformers' model of it."""
    layout = LAYOUTS[request.param]
    folder = tmp_path_factory.mktemp("published") / "checkpoint"
    return layout, folder, layouts.make(layout, folder)


def test_hidden_states(published, backend):
    _, folder, model = published
    config = load_config(folder)
    encoder = make_encoder(
        config, open_tensors(folder, config), backend=backend, precision="float32"
    )
    assert_hidden_states(encoder, model, [1, 40, 129, 200])


def test_wordpieces(published):
    """The ids are those of transformers' own tokenizer, special ones included."""
    layout, folder, _ = published
    ours = WordpieceTokenizer.from_file(folder)
    theirs = AutoTokenizer.from_pretrained(folder)
    before, after = layout.around
    assert ours.strings(np.array(ours.prefix_ids, np.int64)) == before
    assert ours.strings(np.array(ours.suffix_ids, np.int64)) == after
    assert ours.vocab_size <= load_config(folder).vocab_size
    for text in TEXTS[:4]:  # the last one names special tokens, which is text to us
        (pieces,) = ours([text])
        ids = [*ours.prefix_ids, *pieces.ids.tolist(), *ours.suffix_ids]
        assert ids == theirs(text)["input_ids"]


@pytest.mark.parametrize("segmentation", ["words", "characters", "ja"])
def test_every_token_has_its_own_wordpieces(published, segmentation):
    _, folder, _ = published
    tokenizer = WordpieceTokenizer.from_file(folder)
    nlp = make_nlp(segmentation)
    for text in TEXTS:
        doc = nlp.make_doc(text)
        (pieces,) = tokenizer([doc.text])
        starts, ends = token_offsets(doc)
        alignment = align(pieces, starts, ends)
        owned = np.zeros(len(pieces), dtype=int)
        for i, token in enumerate(doc):
            own = slice(alignment.starts[i], alignment.ends[i])
            owned[own] += 1
            assert token.is_space or own.start < own.stop, (text, token)
            if not token.is_space:
                # Each stands for something of the token itself.
                assert (pieces.starts[own] < ends[i]).all(), (text, token)
                assert (pieces.ends[own] > starts[i]).all(), (text, token)
        # Nothing that is not white space belongs to no token.
        blank = [not doc.text[a:b].strip() for a, b in spans(pieces)]
        assert ((owned > 0) | np.array(blank)).all(), text


def test_bytes_of_neighbouring_characters_are_told_apart(published):
    """Where characters are spelled in bytes, each has those of its own."""
    _, folder, _ = published
    tokenizer = WordpieceTokenizer.from_file(folder)
    (pieces,) = tokenizer(["食べた🦜🦚𩸽た"])
    starts = np.array([3, 4, 5])
    alignment = align(pieces, starts, starts + 1)
    assert (alignment.lengths >= 1).all() and (alignment.lengths <= 4).all()
    assert (alignment.starts[1:] == alignment.ends[:-1]).all()


def spans(pieces):
    return zip(pieces.starts.tolist(), pieces.ends.tolist(), strict=True)


def make_nlp(segmentation):
    if segmentation == "ja":
        require("sudachipy", reason="needs the extra ja")
        require("sudachidict_core", reason="needs the extra ja")
        return spacy.blank("ja")
    if segmentation == "words":
        return spacy.blank("xx")
    return spacy.blank("zh")  # by character
