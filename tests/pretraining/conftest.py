import json
from pathlib import Path

import numpy as np
import pytest

from spacy_modernbert.encoder.checkpoint import save_checkpoint
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.weights import init_tensors

from ..encoder.util import SMALL, make_byte_tokenizer


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> Path:
    """An encoder, and texts to train and to test it on. Not to be changed."""
    folder = tmp_path_factory.mktemp("pretraining")
    config = ModernBertConfig.from_dict(
        {"model_type": "modernbert", **SMALL, "initializer_range": 0.1}
    )
    tensors = init_tensors(config, seed=0)
    save_checkpoint(folder / "encoder", config, tensors, make_byte_tokenizer().to_str())
    rng = np.random.default_rng(0)
    for name, n in (("train", 12), ("dev", 3)):
        words = ["tom", "becky", "huck", "river", "cave", "fence"]
        texts = [" ".join(rng.choice(words, 60)) for _ in range(n)]
        lines = [json.dumps({"text": text}) for text in texts]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder
