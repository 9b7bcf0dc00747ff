"""Real documents through the whole stack: nothing of them is left out."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from spacy.training import Corpus, Example
from spacy.util import fix_random_seed

from spacy_modernbert.batchers import batch_by_wordpieces_v1
from spacy_modernbert.corpora.litbank import LABELS
from spacy_modernbert.documents.alignment import align, token_offsets
from spacy_modernbert.documents.wordpieces import WordpieceTokenizer
from spacy_modernbert.encoder.checkpoint import save_checkpoint
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.layers.encode import plan_docs

from ..documents.toys import uncovered_tokens
from ..pipelines import layer_of, make_nlp
from ..util import PUBLISHED, make_config


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    """A tiny encoder with the published tokenizer, so that documents have the
    wordpieces that they have in earnest."""
    if not PUBLISHED.exists():
        pytest.skip(f"the published tokenizer is not at {PUBLISHED}")
    folder = tmp_path_factory.mktemp("encoders") / "tiny"
    config = make_config(
        vocab_size=50368, cls_token_id=50281, sep_token_id=50282, pad_token_id=50283
    )
    tokenizer_json = (PUBLISHED / "tokenizer.json").read_text(encoding="utf8")
    save_checkpoint(folder, config, init_tensors(config, 0), tokenizer_json)
    return folder


def test_litbank_is_learned(litbank, encoder, tmp_path):
    """As `spacy train` does it: from the file, in batches, a step for each."""
    fix_random_seed(0)
    litbank.write(tmp_path)
    nlp = make_nlp(encoder)
    examples = list(Corpus(tmp_path / "train.spacy")(nlp))
    batcher = batch_by_wordpieces_v1(8192, tokenizer=encoder)

    # All have more than 2,000 tokens, and all are in a batch, whole.
    batches = list(batcher(examples))
    assert [example for batch in batches for example in batch] == examples
    assert len(examples) == 80 and min(map(len, examples)) > 2_000

    # The first is a batch to learn: long enough to see that it is learned.
    example = examples[0]
    optimizer = nlp.initialize(lambda: examples)
    losses = []
    for step in range(30):
        optimizer.learn_rate = 0.005 * (1 - step / 30)
        found: dict = {}
        nlp.update([example], sgd=optimizer, losses=found)
        losses.append(found["modernbert_ner"])
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    doc = nlp(example.reference.text)
    assert len(doc.ents) >= 5
    assert {ent.label_ for ent in doc.ents} <= set(LABELS)
    # To the end, and not only where another encoder would have stopped.
    assert doc.ents[-1].start > 1_000


def test_an_article_of_craft_goes_through_whole(craft, encoder):
    article = max(craft.splits["train"], key=len)
    nlp = make_nlp(encoder)
    example = Example(nlp.make_doc(article.text), article)
    optimizer = nlp.initialize(lambda: [example])
    ner = nlp.get_pipe("modernbert_ner")
    doc = nlp.make_doc(article.text)
    assert len(doc) == len(article) > 14_000

    plan = plan_docs(layer_of(nlp), [doc])
    assert plan.total > 2 * 8192
    (windows,) = plan.windows
    assert len(windows) == len(plan.window_lengths) >= 3
    assert plan.window_lengths.max() <= 8192
    assert windows[0].token_start == 0 and windows[-1].token_end == len(doc)
    for before, after in pairwise(windows):
        assert before.token_start < after.token_start < before.token_end

    # Every token has a vector, but for those without wordpieces.
    (pieces,) = WordpieceTokenizer.from_file(encoder)([doc.text])
    uncovered = uncovered_tokens(align(pieces, *token_offsets(doc)))
    tok2vec = ner.model.get_ref("tok2vec").layers[0]  # behind it, a projection
    (vectors,) = tok2vec.predict([doc])
    assert vectors.shape[0] == len(doc)
    assert np.isfinite(vectors).all()
    empty = np.flatnonzero(~vectors.any(axis=1))
    assert set(empty) == set(uncovered.tolist())
    assert len(empty) < 0.01 * len(doc)

    losses: dict = {}
    nlp.update([example], sgd=optimizer, losses=losses)
    assert np.isfinite(losses["modernbert_ner"]) and losses["modernbert_ner"] > 0
    doc = nlp(article.text)
    assert doc.has_annotation("ENT_IOB", require_complete=True)
