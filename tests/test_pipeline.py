"""`modernbert_ner` in spaCy's hands: training, processes, pickling, other pipelines."""

import json
import os
import shutil

import numpy as np
import pytest
import spacy
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import fix_random_seed

from spacy_modernbert.encoder.checkpoint import load_config, open_tensors
from spacy_modernbert.layers.encode import find_layers, get_shim

from .pipelines import (
    STOCK,
    draw_scores,
    layer_of,
    load_with,
    loaded_encoder,
    make_nlp,
    make_stock_examples,
    shim_of,
    start,
    stock_model,
    train,
    train_ner,
)
from .scripts import needs_forks, run_python, run_script, succeeded
from .util import (
    PEOPLE,
    PLACES,
    assert_same_gradients,
    count_passes,
    entities,
    gradients_of,
    make_examples,
    make_text,
    pickled,
    some_entities,
    tok2vec_config,
)

TEXTS = [make_text(seed, 1 + seed % 7) for seed in range(200, 250)]


def windowed_nlp(checkpoint, **settings):
    """Windows that hold a few sentences, so that a page is many."""
    nlp = spacy.blank("en")
    tok2vec = tok2vec_config(checkpoint, window=64, overlap=16, **settings)
    nlp.add_pipe("modernbert_ner", config={"model": {"tok2vec": tok2vec}})
    return nlp


# -- Training -------------------------------------------------------------------


def test_documents_of_many_windows_are_learned(checkpoint):
    fix_random_seed(0)
    nlp = windowed_nlp(checkpoint)
    examples = make_examples(nlp, 4, n_sentences=12)
    optimizer = start(nlp, examples)
    passes = count_passes(nlp.get_pipe("modernbert_ner").model)
    windows = layer_of(nlp).predict([example.x for example in examples]).plan.windows
    assert min(map(len, windows)) >= 3
    losses = train(nlp, examples, optimizer, steps=30)
    assert np.mean(losses[-3:]) < 0.2 * np.mean(losses[:3])
    assert passes.held == 0
    scores = nlp.evaluate(make_examples(nlp, 4, n_sentences=12))
    assert scores["ents_f"] > 0.9
    assert set(scores["ents_per_type"]) == {"PERSON", "PLACE"}


def test_learned_in_bfloat16(checkpoint, tmp_path):
    """What is learned is kept in float32, and nearly the same is found by it."""
    fix_random_seed(0)
    nlp = make_nlp(checkpoint, precision="bfloat16")
    examples = make_examples(nlp, 8)
    losses = train(nlp, examples, start(nlp, examples), steps=25)
    assert np.mean(losses[-3:]) < 0.2 * np.mean(losses[:3])
    nlp.to_disk(tmp_path / "nlp")
    exact = load_with(tmp_path / "nlp", precision="float32")
    learned, saved = (loaded_encoder(each).tensors() for each in (nlp, exact))
    for name, array in learned.items():
        np.testing.assert_array_equal(saved[name], array, err_msg=name)
    docs = [nlp.make_doc(text) for text in TEXTS]
    rounded, vectors = (layer_of(each).predict(docs).vectors for each in (nlp, exact))
    assert 1e-4 < np.abs(rounded - vectors).max() < 0.2
    found, wanted = (
        {(i, *ent) for i, ents in enumerate(entities(each.pipe(TEXTS))) for ent in ents}
        for each in (nlp, exact)
    )
    assert len(found & wanted) > 0.95 * len(found | wanted) > 100


def test_gradients_add_up_until_the_update(checkpoint):
    """As with `accumulate_gradient`: parts of a batch, then one step."""
    found = []
    for parts in (1, 2):
        fix_random_seed(0)
        nlp = windowed_nlp(checkpoint)
        ner = nlp.get_pipe("modernbert_ner")
        examples = make_examples(nlp, 4)
        nlp.initialize(lambda examples=examples: examples)
        for part in np.array_split(np.arange(4), parts):
            # No cutting at random, which would differ.
            ner.cfg["update_with_oracle_cut_size"] = 0
            nlp.update([examples[i] for i in part], sgd=False)
        found.append(gradients_of(loaded_encoder(nlp)))
    assert_same_gradients(found[1], found[0])


def test_averages_are_used_and_saved(checkpoint, tmp_path):
    nlp = train_ner(checkpoint, steps=0)
    examples = make_examples(nlp, 4)
    optimizer = nlp.create_optimizer()
    optimizer.averages = {}
    train(nlp, examples, optimizer, steps=5)
    shim = shim_of(nlp)
    name = "layers.1.mlp.Wi.weight"
    own = np.array(shim.loaded.encoder.tensors()[name])
    with nlp.use_params(optimizer.averages):
        nlp.to_disk(tmp_path / "averaged")
    saved = loaded_encoder(spacy.load(tmp_path / "averaged")).tensors()[name]
    np.testing.assert_array_equal(saved, optimizer.averages[shim.id, name])
    np.testing.assert_array_equal(shim.loaded.encoder.tensors()[name], own)
    assert np.abs(own - saved).max() > 0


@pytest.mark.parametrize("optimizer", ["Adam.v1", "RAdam.v1", "SGD.v1"])
def test_lower_layers_frozen_and_slow(checkpoint, optimizer, tmp_path):
    fix_random_seed(0)
    nlp = windowed_nlp(checkpoint, frozen_layers=2, layer_lr_decay=0.5)
    nlp.config["training"]["optimizer"] = {
        "@optimizers": optimizer,
        "learn_rate": 0.003,
        "L2": 0.1,
    }
    examples = make_examples(nlp, 4)
    sgd = nlp.initialize(lambda: examples)
    encoder = loaded_encoder(nlp)
    before = {name: array.copy() for name, array in encoder.tensors().items()}
    train(nlp, examples, sgd, steps=3)
    with nlp.use_params(sgd.averages):
        nlp.to_disk(tmp_path / "nlp")
    saved = loaded_encoder(spacy.load(tmp_path / "nlp")).tensors()
    frozen = ("embeddings.", "layers.0.", "layers.1.")
    for name, array in encoder.tensors().items():
        stays = name.startswith(frozen)
        assert (array.tobytes() == before[name].tobytes()) == stays, name
        assert (saved[name].tobytes() == before[name].tobytes()) == stays, name


def test_more_frozen_layers_than_there_are(checkpoint):
    nlp = windowed_nlp(checkpoint, frozen_layers=4)
    with pytest.raises(ValueError, match="frozen_layers is 4, but the encoder has 3"):
        nlp.initialize()


@pytest.mark.parametrize("layer_lr_decay", [1.0, 0.5])
def test_new_labels_and_rehearsal(trained, layer_lr_decay):
    key = "components.modernbert_ner.model.tok2vec.layer_lr_decay"
    nlp = spacy.load(trained, config={key: layer_lr_decay})
    ner = nlp.get_pipe("modernbert_ner")
    assert ner.add_label("SHIP") == 1 and ner.add_label("SHIP") == 0
    assert ner.labels == ("PERSON", "PLACE", "SHIP")
    optimizer = nlp.resume_training()
    text = "The Erebus came from Oslo."
    ship = Example.from_dict(nlp.make_doc(text), {"entities": [(4, 10, "SHIP")]})
    old = make_examples(nlp, 4)
    losses: dict = {}
    for _ in range(10):
        nlp.update([ship], sgd=optimizer)
        nlp.rehearse(old, sgd=optimizer, losses=losses)
    assert losses["modernbert_ner"] > 0
    tensors = loaded_encoder(nlp).tensors()
    unrehearsed = {name: array.copy() for name, array in tensors.items()}
    nlp.rehearse(old, sgd=optimizer)
    assert all((tensors[name] != unrehearsed[name]).any() for name in tensors)
    # The model that it rehearses from stays as it was.
    before, after = (
        get_shim(find_layers(model)[0]).loaded.encoder.tensors()
        for model in (ner._rehearsal_model, ner.model)
    )
    for name, array in loaded_encoder(spacy.load(trained)).tensors().items():
        np.testing.assert_array_equal(before[name], array)
    assert any((before[name] != after[name]).any() for name in before)


MEAN = {"@layers": "reduce_mean.v1"}
DROPPING = {
    "@layers": "chain.v1",
    "*": {"mean": MEAN, "dropout": {"@layers": "Dropout.v1", "rate": 0.0}},
}


@pytest.mark.parametrize("pooling", [MEAN, DROPPING], ids=["without", "with"])
def test_dropout_rate(checkpoint, pooling):
    """It reaches layers that drop something out. The encoder is none of them."""
    nlp = make_nlp(checkpoint, pooling=pooling)
    examples = make_examples(nlp, 2)
    nlp.initialize(lambda: examples)
    draw_scores(nlp.get_pipe("modernbert_ner"))
    losses = []
    for drop in (0.0, 0.3, 0.3):
        fix_random_seed(0)
        found = nlp.update(examples, drop=drop, sgd=False, losses={})
        losses.append(found["modernbert_ner"])
    assert (losses[0] != pytest.approx(losses[1])) == (pooling is DROPPING)
    assert losses[1] == pytest.approx(losses[2])


def test_spacy_train(checkpoint, tmp_path):
    """The command line's own loop, with a corpus and a config on disk."""
    from spacy.cli.train import train as spacy_train
    from spacy.tokens import DocBin

    nlp = spacy.blank("en")
    for name, n in (("train", 8), ("dev", 3)):
        docs = [example.reference for example in make_examples(nlp, n)]
        DocBin(docs=docs).to_disk(tmp_path / f"{name}.spacy")
    nlp = windowed_nlp(checkpoint)
    nlp.config.to_disk(tmp_path / "config.cfg")
    spacy_train(
        tmp_path / "config.cfg",
        tmp_path / "out",
        overrides={
            "paths.train": str(tmp_path / "train.spacy"),
            "paths.dev": str(tmp_path / "dev.spacy"),
            "training.max_steps": 4,
            "training.eval_frequency": 2,
            "training.accumulate_gradient": 2,
            "training.optimizer.use_averages": True,
        },
    )
    loaded = spacy.load(tmp_path / "out" / "model-last")
    assert 0 <= loaded.meta["performance"]["ents_f"] <= 1
    before = open_tensors(checkpoint, load_config(checkpoint))
    for name, array in loaded_encoder(loaded).tensors().items():
        assert (array != before[name]).any(), name
    assert (tmp_path / "out" / "model-best" / "modernbert_ner" / "encoder").is_dir()


# -- Running --------------------------------------------------------------------


@pytest.mark.parametrize("then", ["predict", "update", "save"])
def test_a_label_that_came_in_a_memory_zone(trained, tmp_path, parser, then):
    """spaCy adds it, and its string is freed at the end of the zone."""
    nlp = spacy.load(trained)
    ner = nlp.get_pipe("modernbert_ner")
    text, label = "Anna Berg went to Oslo.", f"NEW-{then}-{parser}"
    wanted = some_entities([nlp(text)])
    with nlp.memory_zone():
        doc = nlp.make_doc("Whoever went to Oslo.")
        doc.ents = [Span(doc, 0, 1, label=label)]
        assert entities([ner(doc)])[0][0] == (0, 1, label)
    assert label not in nlp.vocab.strings
    if then == "predict":
        with nlp.memory_zone():
            assert entities([nlp(text)]) == entities(nlp.pipe([text])) == wanted
    elif then == "update":
        doc = nlp.make_doc(text)
        example = Example.from_dict(doc, {"entities": [(0, 9, "PERSON")]})
        nlp.update([example], sgd=nlp.resume_training())
    else:
        nlp.to_disk(tmp_path / "nlp")
        assert label in spacy.load(tmp_path / "nlp").get_pipe("modernbert_ner").labels
    assert label in ner.labels


def test_nothing_and_something_in_one_batch(trained):
    nlp = spacy.load(trained)
    texts = ["", "Anna Berg went to Oslo.", "  ", "\n\n", "", "\u200b"]
    docs = list(nlp.pipe(texts))
    assert [doc.text for doc in docs] == texts
    assert [(ent.text, ent.label_) for ent in docs[1].ents] == [
        ("Anna Berg", "PERSON"),
        ("Oslo", "PLACE"),
    ]
    assert list(nlp.pipe([])) == []
    examples = [Example(nlp.make_doc(text), Doc(nlp.vocab)) for text in ("", "")]
    nlp.update(examples, sgd=nlp.resume_training())


def test_nothing_heavy_is_left_on_docs(trained):
    nlp = spacy.load(trained)
    docs = [nlp(TEXTS[0]), *nlp.pipe(TEXTS[:3])]
    assert docs[0].ents
    for doc in docs:
        assert doc.tensor.size == 0
        assert not doc.user_data and not doc.user_hooks


def test_one_by_one_or_together(trained):
    nlp = spacy.load(trained)
    together = entities(nlp.pipe(TEXTS))
    assert entities([nlp(text) for text in TEXTS]) == together
    assert sum(map(len, together)) > 2 * len(TEXTS)


def test_a_long_document_loses_nothing(trained):
    nlp = spacy.load(
        trained,
        config={
            "components.modernbert_ner.model.tok2vec.get_spans": {
                "@span_getters": "spacy-modernbert.long_context_spans.v1",
                "window": 64,
                "overlap": 32,
            }
        },
    )
    # Names at the very end, which a cut would lose.
    doc = nlp(make_text(0, 60) + " Greta Holm went to Lisbon, they say.")
    assert [ent.text for ent in doc.ents[-2:]] == ["Greta Holm", "Lisbon"]
    names = sum(doc.text.count(name) for name in PEOPLE + PLACES)
    assert len(doc.ents) > 0.95 * names


@needs_forks
def test_two_processes(trained, capfd):
    nlp = spacy.load(trained)
    # So that thread pools are in use when the process is forked.
    wanted = some_entities(nlp.pipe(TEXTS))
    found = entities(nlp.pipe(TEXTS, n_process=2, batch_size=10))
    assert found == wanted
    assert "fork" not in capfd.readouterr().err


def test_sent_to_another_process(trained):
    nlp = spacy.load(trained)
    sent = pickled(nlp.get_pipe("modernbert_ner").pipe)
    docs = [nlp.make_doc(text) for text in TEXTS]
    assert entities(sent(docs)) == some_entities(nlp.pipe(TEXTS))


SPAWN = """
import json, multiprocessing, sys
import spacy, torch
from spacy.language import Language
from spacy.tokens import Doc

Doc.set_extension("n_threads", default=0)

@Language.component("count_threads")
def count_threads(doc):
    doc._.n_threads = torch.get_num_threads()
    return doc

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    nlp = spacy.load(sys.argv[1])
    nlp.add_pipe("count_threads")
    texts = json.loads(sys.stdin.read())
    parallel = list(nlp.pipe(texts, n_process=2, batch_size=10))
    here = list(nlp.pipe(texts))
    found, wanted = (
        [[(e.start, e.end, e.label_) for e in doc.ents] for doc in docs]
        for docs in (parallel, here)
    )
    assert any(wanted) and found == wanted
    assert {doc._.n_threads for doc in parallel} == {1}
    assert {doc._.n_threads for doc in here} == {2}
"""


def test_spawned_processes(trained, tmp_path):
    """As on Windows and macOS, where spaCy's processes are spawned. Each has one
    thread.
    """
    script = tmp_path / "script.py"
    script.write_text(SPAWN)
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    succeeded(run_python(script, trained, stdin=json.dumps(TEXTS), env=env))


FRESH = """
import json, socket, sys

def refuse(*args, **kwargs):
    raise OSError("the network was asked")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import spacy
texts = json.loads(sys.stdin.read())
for folder in sys.argv[1:]:
    docs = spacy.load(folder).pipe(texts)
    print(json.dumps([[(e.start, e.end, e.label_) for e in doc.ents] for doc in docs]))
"""


def test_fresh_process_without_network(checkpoint, tmp_path):
    """Not even the checkpoint that the config names is asked for, be it one of a hub or
    a folder that is gone.
    """
    shutil.copytree(checkpoint, tmp_path / "encoder")
    nlp = train_ner(tmp_path / "encoder", steps=15)
    nlp.to_disk(tmp_path / "folder")
    block = nlp._pipe_configs["modernbert_ner"]["model"]["tok2vec"]
    block["name"] = "owner/some-model"
    nlp.to_disk(tmp_path / "hub")
    shutil.rmtree(tmp_path / "encoder")
    assert len(TEXTS) == 50
    wanted = entities(nlp.pipe(TEXTS))
    assert sum(map(len, wanted)) > 50
    folders = tmp_path / "folder", tmp_path / "hub"
    found = run_script(FRESH, *folders, stdin=json.dumps(TEXTS)).splitlines()
    assert len(found) == 2
    for each in found:
        assert json.loads(each) == [[list(ent) for ent in ents] for ents in wanted]


# -- Configs and other pipelines ------------------------------------------------


def test_config_round_trip(trained, tmp_path):
    nlp = spacy.load(trained)
    config = spacy.util.load_config(trained / "config.cfg")
    assert config["components"] == nlp.config["components"]
    again = spacy.blank("en").from_config(config)
    assert again.config.to_str() == nlp.config.to_str()
    assert again.get_pipe("modernbert_ner").labels == ()


def test_sourced(trained, tmp_path):
    source = spacy.load(trained)
    nlp = spacy.blank("en")
    nlp.add_pipe("modernbert_ner", source=source)
    wanted = some_entities(source.pipe(TEXTS))
    assert entities(nlp.pipe(TEXTS)) == wanted
    nlp.to_disk(tmp_path / "nlp")
    assert entities(spacy.load(tmp_path / "nlp").pipe(TEXTS)) == wanted


def test_two_in_one_pipeline(trained, tmp_path):
    nlp = spacy.load(trained)
    nlp.add_pipe(
        "modernbert_ner",
        name="second",
        config={"model": nlp.get_pipe_config("modernbert_ner")["model"]},
    )
    nlp.get_pipe("second").initialize(lambda: make_examples(nlp, 2), nlp=nlp)
    draw_scores(nlp.get_pipe("second"))
    nlp.to_disk(tmp_path / "nlp")
    found = spacy.load(tmp_path / "nlp")
    assert found.pipe_names == ["modernbert_ner", "second"]
    assert (tmp_path / "nlp" / "second" / "encoder").is_dir()
    # Each alone, since the second one keeps what the first one finds.
    wanted = []
    for other in found.pipe_names:
        wanted.append(some_entities(nlp.pipe(TEXTS, disable=[other])))
        assert entities(found.pipe(TEXTS, disable=[other])) == wanted[-1]
    assert wanted[0] != wanted[1]


@pytest.mark.parametrize("factory", STOCK)
def test_inside_stock_components(checkpoint, factory):
    """What takes a tok2vec takes ours."""
    nlp = spacy.blank("en")
    model = stock_model(factory, tok2vec_config(checkpoint, window=64))
    nlp.add_pipe(factory, config={"model": model})
    examples = make_stock_examples(nlp)
    optimizer = nlp.initialize(lambda: examples)
    losses: dict = {}
    nlp.update(examples[:3], sgd=optimizer, losses=losses)
    assert losses[factory] > 0
    docs = list(nlp.pipe([*TEXTS[:3], "", "  "]))
    again = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    for one, other in zip(docs, again.pipe([doc.text for doc in docs]), strict=True):
        assert one.to_json() == other.to_json()
