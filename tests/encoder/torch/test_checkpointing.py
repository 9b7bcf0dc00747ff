"""When gradient checkpointing pays, and where it cannot be."""

import pytest
import torch

from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.torch import checkpointing
from spacy_modernbert.encoder.torch.checkpointing import recomputes
from spacy_modernbert.types import PackedBatch

from ..util import DROPOUTS, bytes_kept, load

CPU = torch.device("cpu")


def test_auto_counts_what_is_trained(oracle, ids, monkeypatch):
    """Its estimate is what a pass keeps indeed, within 15 %, however many layers are
    frozen.
    """
    for frozen in range(oracle.config.num_hidden_layers):
        setting = {"frozen_layers": frozen}
        encoder = load(oracle, gradient_checkpointing=False, **setting)
        # Less what does not grow with the pass: the weights, which are there anyway.
        once, twice = (bytes_kept(encoder, PackedBatch.of([ids] * n)) for n in (1, 2))
        kept = twice - once
        n_trained = oracle.config.num_hidden_layers - frozen
        for budget, wanted in ((0.85 * kept, True), (1.15 * kept, False)):
            monkeypatch.setattr(checkpointing, "_AUTO_BYTES", budget)
            found = recomputes(
                "auto", encoder.config, CPU, torch.float32, n_trained, len(ids)
            )
            assert found == wanted, (frozen, budget)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_auto_asks_a_gpu_for_what_is_free(oracle, monkeypatch, dtype):
    """Half of it is taken, and what torch holds in reserve counts as free."""
    cuda, gib = torch.device("cuda", 1), 1 << 30
    config = ModernBertConfig.from_dict(
        {**oracle.config.to_dict(), "hidden_size": 768, "intermediate_size": 1152}
    )
    kept = dtype.itemsize * 10_000 * 22 * (9 * 768 + 3 * 1152)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 * gib)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4 * gib)
    for free, wanted in ((1.9 * kept, True), (2.1 * kept, False), (80 * gib, False)):
        info = (int(free) - gib, 80 * gib)
        monkeypatch.setattr(torch.cuda, "mem_get_info", {cuda: info}.__getitem__)
        assert recomputes("auto", config, cuda, dtype, 22, 10_000) == wanted
        assert recomputes(True, config, cuda, dtype, 22, 10_000)
        assert not recomputes(False, config, cuda, dtype, 22, 10_000)


@pytest.mark.parametrize("setting", [True, False, "auto"])
def test_on_mps_nothing_is_dropped_out_twice(oracle, monkeypatch, setting):
    """Torch would draw other random numbers the second time."""
    monkeypatch.setattr(checkpointing, "_AUTO_BYTES", 0)
    for changes in ({}, DROPOUTS):
        config = ModernBertConfig.from_dict({**oracle.config.to_dict(), **changes})
        assert recomputes(setting, config, CPU, torch.float32, 4, 100) == bool(setting)
        mps = torch.device("mps")
        if setting is True and changes:
            with pytest.raises(ValueError, match="'auto' or false, set every"):
                recomputes(setting, config, mps, torch.float32, 4, 100)
        else:
            found = recomputes(setting, config, mps, torch.float32, 4, 100)
            assert found == (bool(setting) and not changes)
