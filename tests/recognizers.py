"""Recognizers with random weights, and Docs with random vectors and entities."""

import numpy as np
import spacy
from spacy.ml.models.parser import build_tb_parser_model
from spacy.tokens import Doc, Span
from thinc.api import Model

from spacy_modernbert.components import ModernBertNER

WIDTH = 12
WORDS = ["word", "\n", " "]
nlp = spacy.blank("en")


def make_pipe(
    rng,
    n_labels=4,
    use_upper=False,
    hidden_width=8,
    pieces=2,
    n_late=0,
    extra_state_tokens=False,
    **settings,
):
    """RETURNS (ModernBertNER): One with random weights, on the Docs' `tensor`."""

    def forward(model, docs, is_train):
        return [doc.tensor for doc in docs], lambda d_vectors: []

    model = build_tb_parser_model(
        Model("vectors", forward, dims={"nO": WIDTH}),
        "ner",
        extra_state_tokens,
        hidden_width,
        pieces,
        use_upper,
    )
    pipe = ModernBertNER(nlp.vocab, model, name="modernbert_ner", **settings)
    labels = [f"LABEL{i}" for i in range(n_labels)]
    known = pipe.moves.get_actions(entity_types=labels[n_late:])
    pipe.moves.initialize_actions(known)
    pipe.set_output(pipe.moves.n_moves)
    # The actions of these come after all others.
    for label in labels[:n_late]:
        pipe.add_label(label)
    # spaCy would take a tenth of a second to find weights for a matrix that has none.
    lower = model.get_ref("lower")
    nf, no, np_, ni = (lower.get_dim(dim) for dim in ("nF", "nO", "nP", "nI"))
    lower.set_param("W", np.ones((nf, no, np_, ni), np.float32))
    lower.set_param("b", np.zeros((no, np_), np.float32))
    lower.set_param("pad", np.zeros((1, nf, no, np_), np.float32))
    model.initialize()
    for node in model.walk():
        for name in node.param_names:
            values = node.get_param(name)
            values[...] = rng.normal(size=values.shape)
    return pipe


def make_doc(rng, n_tokens, n_labels=4, presets="none"):
    """RETURNS (Doc): Words and whitespace, with vectors. In half of the Docs, some
    sentence boundaries are set. What is in the Doc already: entities, blocked, missing
    and outside tokens ("spans"), or any values that an array can give ("arrays").
    """
    words = rng.choice(WORDS, size=n_tokens, p=[0.8, 0.1, 0.1]).tolist()
    doc = Doc(nlp.vocab, words=words)
    doc.tensor = rng.normal(size=(n_tokens, WIDTH)).astype(np.float32)
    labels = [nlp.vocab.strings.add(f"LABEL{i}") for i in range(n_labels)]
    if rng.random() < 0.5:
        for token in doc[1:] if n_tokens else []:
            token.is_sent_start = [True, False, None][rng.integers(3)]
    if n_tokens and presets == "spans":
        kinds = {"entities": [], "blocked": [], "missing": [], "outside": [], "": []}
        start = 0
        while start < n_tokens:
            end = min(n_tokens, start + int(rng.integers(1, 4)))
            kb_id = ["", "Q1"][rng.integers(2)]
            label = labels[rng.integers(n_labels)]
            span = Span(doc, start, end, label=label, kb_id=kb_id)
            list(kinds.values())[rng.integers(len(kinds))].append(span)
            start = end
        del kinds[""]
        others = ["missing", "outside", "blocked"][rng.integers(3)]
        doc.set_ents(**kinds, default=others)
    elif n_tokens and presets == "arrays":
        values = np.zeros((n_tokens, 2), dtype=np.uint64)
        values[:, 0] = rng.integers(4, size=n_tokens)
        values[:, 1] = rng.choice(np.array([0, *labels], dtype=np.uint64), n_tokens)
        doc.from_array(["ENT_IOB", "ENT_TYPE"], values)
    return doc
