"""spacy-transformers' component and spaCy's `ner` that listens to it, as the recipe for
GPUs of `spacy init config` has them.
"""

from pathlib import Path
from typing import Any, Dict

import spacy

from spacy_modernbert.types import Floats

from ..points import Peer, Unavailable
from . import Pipeline, make_examples
from .fake import draw_vectors

SPANS: Dict[str, Dict[str, Any]] = {
    "strided": {
        "@span_getters": "spacy-transformers.strided_spans.v1",
        "window": 128,
        "stride": 96,
    },
    "whole": {"@span_getters": "spacy-transformers.doc_spans.v1"},
}


def make(peer: Peer, folder: Path, n_labels: int) -> Pipeline:
    try:
        import spacy_transformers  # noqa: F401
    except ImportError as error:
        raise Unavailable("spacy-transformers is not installed") from error
    if peer.device != "cpu":
        try:
            spacy.require_gpu()
        except ValueError as error:
            raise Unavailable(str(error)) from error
    nlp = spacy.blank("en")
    nlp.max_length = 10_000_000
    model = {
        "@architectures": "spacy-transformers.TransformerModel.v3",
        "name": str(folder),
        "get_spans": SPANS[peer.options["spans"]],
        "mixed_precision": peer.precision != "float32",
    }
    component: Any = nlp.add_pipe("transformer", config={"model": model})
    listener = {
        "@architectures": "spacy-transformers.TransformerListener.v1",
        "grad_factor": 1.0,
        "pooling": {"@layers": "reduce_mean.v1"},
    }
    parser = {
        "@architectures": "spacy.TransitionBasedParser.v2",
        "state_type": "ner",
        "extra_state_tokens": False,
        "hidden_width": 64,
        "maxout_pieces": 2,
        "use_upper": False,
        "tok2vec": listener,
    }
    nlp.add_pipe("ner", config={"model": parser})
    nlp.initialize(lambda: make_examples(nlp, n_labels))
    if peer.options.get("fake"):
        _make_instant(component.model.transformer)

    def hidden(text: str) -> Floats:
        batch = component.model.predict([nlp.make_doc(text)])
        vectors: Floats = batch.model_output.last_hidden_state[0].cpu().numpy()
        return vectors

    # A longer span is truncated, without a word. Windows of 128 tokens are shorter.
    is_whole = peer.options["spans"] == "whole"
    limit = component.model.tokenizer.model_max_length if is_whole else None
    return Pipeline(nlp, hidden, limit)


def _make_instant(transformer: Any) -> None:
    import torch
    from transformers.modeling_outputs import BaseModelOutput

    width = transformer.config.hidden_size
    table = torch.from_numpy(draw_vectors(65536, width))

    def forward(input_ids: Any, **_: Any) -> BaseModelOutput:
        vectors: Any = table[: input_ids.numel()].view(*input_ids.shape, width)
        return BaseModelOutput(vectors)

    transformer.forward = forward
