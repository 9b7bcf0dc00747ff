"""Pipelines that are made, loaded, and trained for a moment."""

import copy
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np
import spacy
from spacy.language import Language
from spacy.pipeline import EntityRecognizer
from spacy.training import Example
from spacy.util import fix_random_seed
from thinc.api import Config, Model, Optimizer

from spacy_modernbert.components import DEFAULT_CONFIG
from spacy_modernbert.encoder.protocol import Encoder
from spacy_modernbert.layers.encode import find_layers, get_shim
from spacy_modernbert.layers.shim import EncoderShim

from .util import make_examples, make_text, tok2vec_config


def make_nlp(checkpoint: Path, lang: str = "en", **tok2vec: Any) -> Language:
    """RETURNS (Language): A pipeline with `modernbert_ner`, not initialized."""
    nlp = spacy.blank(lang)
    tok2vec = {"name": str(checkpoint), "backend": "cpu", **tok2vec}
    nlp.add_pipe("modernbert_ner", config={"model": {"tok2vec": tok2vec}})
    return nlp


def blank_nlp(
    checkpoint: Path, use_upper: bool, labels: Sequence[str] = ()
) -> Language:
    """RETURNS (Language): The same, whose recognizer has an upper layer or none, and
    some labels already.
    """
    nlp = spacy.blank("en")
    model = {"tok2vec": {"name": str(checkpoint), "backend": "cpu"}}
    model["use_upper"] = use_upper
    ner = nlp.add_pipe("modernbert_ner", config={"model": model})
    for label in labels:
        ner.add_label(label)
    return nlp


def lstm_nlp(checkpoint: Path) -> Language:
    """RETURNS (Language): A pipeline with an LSTM over the encoder."""
    tok2vec = {
        "@architectures": "spacy.Tok2Vec.v2",
        "embed": tok2vec_config(checkpoint),
        "encode": {
            "@architectures": "spacy.TorchBiLSTMEncoder.v1",
            "width": 32,
            "depth": 1,
            "dropout": 0.0,
        },
    }
    return nlp_of(ner=ner_config(tok2vec, "modernbert_ner"))


# What listens to spacy-transformers' `transformer`.
LISTENER = {
    "@architectures": "spacy-transformers.TransformerListener.v1",
    "grad_factor": 1.0,
    "pooling": {"@layers": "reduce_mean.v1"},
    "upstream": "*",
}


def shared_config(
    checkpoint: Path, window: int = 64, overlap: int = 16, **changes: Any
) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): The config of a shared encoder, with windows that hold
    a few sentences.
    """
    config = tok2vec_config(checkpoint, window, overlap, **changes)
    del config["pooling"]
    return {**config, "@architectures": "spacy-modernbert.ModernBertModel.v1"}


def ner_config(
    tok2vec: Dict[str, Any], factory: str = "ner", **settings: Any
) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): The config of a `ner`, or of another recognizer, with
    such a tok2vec in it.
    """
    model = {**DEFAULT_CONFIG["modernbert_ner"]["model"], "tok2vec": tok2vec}
    return {"factory": factory, "model": model, **settings}


def nlp_of(**blocks: Dict[str, Any]) -> Language:
    """RETURNS (Language): A pipeline of components, each given by its config."""
    config = spacy.blank("en").config.copy()
    config["nlp"]["pipeline"] = list(blocks)
    config["components"] = blocks
    return spacy.blank("en").from_config(config)


def shared_nlp(
    checkpoint: Path, listener: Dict[str, Any] = LISTENER, **changes: Any
) -> Language:
    """RETURNS (Language): A pipeline whose `ner` listens to a shared encoder."""
    transformer = {
        "factory": "transformer",
        "model": shared_config(checkpoint, **changes),
    }
    return nlp_of(transformer=transformer, ner=ner_config(listener))


def load_with(folder: Path, **tok2vec: Any) -> Language:
    """RETURNS (Language): A pipeline from disk, with other settings of its encoder."""
    config = {"components": {"modernbert_ner": {"model": {"tok2vec": tok2vec}}}}
    return spacy.load(folder, config=config)


def load_exact(folder: Path, backend: str, **tok2vec: Any) -> Language:
    """RETURNS (Language): A pipeline from disk, in float32, so that it says the same on
    every backend.
    """
    return load_with(folder, backend=backend, precision="float32", **tok2vec)


def layer_of(nlp: Language, name: str = "modernbert_ner") -> Model:
    """RETURNS (Model): The layer of a component that has the encoder."""
    (layer,) = find_layers(nlp.get_pipe(name).model)
    return layer


def shim_of(nlp: Language, name: str = "modernbert_ner") -> EncoderShim:
    """RETURNS (EncoderShim): What holds the encoder of a component."""
    return get_shim(layer_of(nlp, name))


def loaded_encoder(nlp: Language, name: str = "modernbert_ner") -> Encoder:
    """RETURNS (Encoder): What a component runs on that is initialized."""
    return shim_of(nlp, name).loaded.encoder


def weights_of(nlp: Language) -> Dict[str, np.ndarray]:
    """RETURNS (Dict[str, np.ndarray]): Copies of all weights of `modernbert_ner`: those
    of the encoder, and those of all other layers.
    """
    found = dict(loaded_encoder(nlp).tensors())
    for i, node in enumerate(nlp.get_pipe("modernbert_ner").model.walk()):
        for name in node.param_names:
            found[f"{i}.{node.name}.{name}"] = node.get_param(name)
    return {name: array.copy() for name, array in found.items()}


def start(nlp: Language, examples: Sequence[Example]) -> Optimizer:
    """Initialize a pipeline.

    RETURNS (Optimizer): One that learns so small a pipeline in some twenty steps.
    """
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = 0.003
    return optimizer


def train(
    nlp: Language, examples: Sequence[Example], optimizer: Optimizer, steps: int
) -> List[float]:
    """RETURNS (List[float]): The loss of `modernbert_ner` in each step."""
    losses = []
    for _ in range(steps):
        found = nlp.update(examples, sgd=optimizer, losses={})
        losses.append(float(found["modernbert_ner"]))
    return losses


def draw_scores(ner: EntityRecognizer) -> None:
    """As if a recognizer had learned something: it finds entities."""
    rng = np.random.default_rng(0)
    for layer in (ner.model.get_ref("lower"), ner.model.get_ref("upper")):
        for name in layer.param_names:
            shape = layer.get_param(name).shape
            layer.set_param(name, rng.normal(size=shape).astype("f"))


# Components of spaCy that take a tok2vec.
STOCK = ["ner", "tagger", "parser", "textcat", "spancat", "senter"]


def stock_model(factory: str, tok2vec: Dict[str, Any]) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): The config of the model of one of `STOCK`, with such a
    tok2vec in it.
    """
    if factory == "textcat":
        return {
            "@architectures": "spacy.TextCatReduce.v1",
            "tok2vec": tok2vec,
            "exclusive_classes": True,
            "use_reduce_first": False,
            "use_reduce_last": False,
            "use_reduce_max": False,
            "use_reduce_mean": True,
        }
    meta = spacy.blank("en").get_factory_meta(factory)
    return {**copy.deepcopy(dict(meta.default_config["model"])), "tok2vec": tok2vec}


def make_stock_examples(nlp: Language) -> List[Example]:
    """RETURNS (List[Example]): Texts with something in them for any of `STOCK` to
    learn. So many that the parser takes no dependency for a rare one.
    """
    examples = []
    for i in range(40):
        text = make_text(i, 1 + i % 7)
        doc = nlp.make_doc(text)
        annotations = {
            "tags": ["AB"[k % 2] for k in range(len(doc))],
            "heads": [1] * len(doc),
            "deps": ["nsubj", "ROOT"] + ["obj"] * (len(doc) - 2),
            "cats": {"A": float(i % 2), "B": float(1 - i % 2)},
            "entities": [(0, doc[1].idx + len(doc[1]), "PERSON")],
            "spans": {"sc": [(0, len(text), "X")]},
        }
        examples.append(Example.from_dict(doc, annotations))
    return examples


def change_settings(
    folder: Path, component: str = "modernbert_ner", **settings: Any
) -> None:
    """Change what the config of a saved pipeline says of an encoder. (`spacy.load`
    cannot put a block in the place of a value.)
    """
    config = Config().from_disk(folder / "config.cfg", interpolate=False)
    config["components"][component]["model"]["tok2vec"].update(settings)
    config.to_disk(folder / "config.cfg")


def add_own_code(folder: Path) -> Path:
    """Let a saved pipeline need a function that no process knows of yet.

    RETURNS (Path): The Python file that registers it, beside the pipeline.
    """
    name = f"of_ones_own_{folder.parent.name}.v1"
    code = folder.parent / "code.py"
    code.write_text(
        f"import spacy\n\n@spacy.registry.callbacks({name!r})\n"
        "def make():\n    return lambda nlp: nlp\n",
        encoding="utf8",
    )
    config = Config().from_disk(folder / "config.cfg", interpolate=False)
    config["nlp"]["after_creation"] = {"@callbacks": name}
    config.to_disk(folder / "config.cfg")
    return code


def train_ner(checkpoint: Path, steps: int = 25) -> Language:
    """RETURNS (Language): A pipeline with `modernbert_ner`, trained for a moment."""
    fix_random_seed(0)
    # Other processes are to find the same, on any processor.
    nlp = make_nlp(checkpoint, precision="float32")
    examples = make_examples(nlp, 8)
    train(nlp, examples, start(nlp, examples), steps)
    return nlp
