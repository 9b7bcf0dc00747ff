"""`modernbert_ner` on Japanese, with SudachiPy's words and SentencePiece's pieces."""

import json

import numpy as np
import pytest
import spacy
from spacy.training import Example
from spacy.util import fix_random_seed

from spacy_modernbert.layers.encode import find_layers

from .encoder import layouts
from .pipelines import make_nlp, shim_of, start, train
from .util import entities, require

require("sudachipy", reason="needs the extra ja")
require("sudachidict_core", reason="needs the extra ja")

PEOPLE = ["夏目漱石", "紫式部", "𠮷田さん"]
PLACES = ["東京", "京都", "札幌市"]
FORMS = [
    "{person}は{place}で生まれた。",
    "{place}の{person}に①会った🙂！",
    "　{person}　と{place}",
]


def make_examples(nlp):
    examples = []
    for i, person in enumerate(PEOPLE):
        for j, place in enumerate(PLACES):
            text = FORMS[(i + j) % 3].format(person=person, place=place)
            found = [
                (text.index(name), text.index(name) + len(name), label)
                for name, label in ((person, "PERSON"), (place, "PLACE"))
            ]
            doc = nlp.make_doc(text)
            examples.append(Example.from_dict(doc, {"entities": sorted(found)}))
    return examples


@pytest.fixture(
    scope="module", params=["sbintuitions/modernbert-ja", "jhu-clsp/mmBERT"]
)
def checkpoint(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("japanese") / "checkpoint"
    layouts.make(layouts.LAYOUTS[request.param], folder)
    return folder


@pytest.fixture(scope="module")
def nlp(checkpoint):
    fix_random_seed(0)
    nlp = make_nlp(checkpoint, lang="ja")
    examples = make_examples(nlp)
    train(nlp, examples, start(nlp, examples), steps=25)
    return nlp


def test_as_many_vectors_as_tokens(nlp):
    texts = [*layouts.TEXTS, *(example.text for example in make_examples(nlp)), ""]
    docs = [nlp.make_doc(text) for text in texts]
    model = nlp.get_pipe("modernbert_ner").model
    # The encoder and the pooling, without the projection that the parser adds.
    is_tok2vec = [node.layers[:1] == find_layers(model) for node in model.walk()]
    tok2vec = list(model.walk())[is_tok2vec.index(True)]
    for doc, vectors in zip(docs, tok2vec.predict(docs), strict=True):
        assert vectors.shape[0] == len(doc)
        for token, vector in zip(doc, vectors, strict=True):
            assert np.isfinite(vector).all()
            assert token.is_space or vector.any(), (doc, token)


def test_learned_and_saved(nlp, tmp_path):
    examples = make_examples(nlp)
    assert nlp.evaluate(examples)["ents_f"] > 0.8
    texts = [example.text for example in examples]
    found = entities(nlp.pipe(texts))
    nlp.to_disk(tmp_path / "nlp")
    loaded = spacy.load(tmp_path / "nlp")
    assert loaded.lang == "ja"
    assert entities(loaded.pipe(texts)) == found
    # What the checkpoint says of its tokenizer is handed on.
    folder = tmp_path / "nlp" / "modernbert_ner" / "encoder"
    special = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf8"))
    tokenizer = shim_of(loaded).loaded.tokenizer
    prefix = np.array(tokenizer.prefix_ids)
    assert special["bos_token"] == tokenizer.strings(prefix)[0]
