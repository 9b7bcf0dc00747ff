"""From Docs to the gradients of the weights. transformers' model and torch's autograd
are the oracle.
"""

import numpy as np
import pytest
import torch
from transformers import AutoModel

from spacy_modernbert.layers.encode import get_shim, plan_docs

from ..encoder.util import assert_close, assert_gradients
from ..util import make_text, make_tok2vec


@pytest.mark.parametrize("budget", [64, 16384])
def test_from_docs_to_gradients(checkpoint, nlp, budget):
    """A Doc of several windows beside a short one, in several passes and in one."""
    settings = {"window": 64, "overlap": 16, "max_batch_wordpieces": budget}
    model = make_tok2vec(checkpoint, precision="float32", **settings)
    docs = [nlp(make_text(0, 12)), nlp(make_text(1, 1))]
    vectors, backprop = model.begin_update(docs)
    plan = plan_docs(model.layers[0], docs)
    assert len(plan.windows[0]) >= 3 and len(plan.windows[1]) == 1
    assert (len(plan.batches) > 1) == (budget == 64)
    # Each window alone, so that nothing is packed or padded.
    oracle = AutoModel.from_pretrained(checkpoint, attn_implementation="sdpa").eval()
    windows = torch.from_numpy(np.concatenate([batch.ids for batch in plan.batches]))
    hidden = torch.cat(
        [
            oracle(ids[None]).last_hidden_state[0]
            for ids in windows.split(plan.window_lengths.tolist())
        ]
    )
    rows = hidden[torch.from_numpy(plan.rows.rows).long()]
    tokens = rows.split(plan.rows.lengths.tolist())
    wanted = torch.stack([pieces.mean(0) for pieces in tokens])
    assert_close(np.concatenate(vectors), wanted.detach().numpy(), "vectors")
    d_wanted = torch.randn(wanted.shape, generator=torch.manual_seed(0))
    wanted.backward(d_wanted)
    backprop(np.split(d_wanted.numpy(), [len(docs[0])]))
    gradients = {name: each.grad.numpy() for name, each in oracle.named_parameters()}
    assert_gradients(get_shim(model.layers[0]).loaded.encoder, gradients)
