import itertools

import pytest

from spacy_modernbert.pretraining.schedule import WarmupStableDecay


def test_rises_stays_and_falls():
    rates = [WarmupStableDecay(2.0, 4, 5, 20)(step) for step in range(20)]
    assert rates[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert rates[4:16] == [2.0] * 12
    assert rates[16] == pytest.approx(2.0 * (1 - (1 / 5) ** 0.5))
    assert all(a > b for a, b in itertools.pairwise(rates[15:]))
    assert rates[-1] > 0


def test_without_warmup_and_decay():
    assert [WarmupStableDecay(1.0, 0, 0, 3)(step) for step in range(3)] == [1.0] * 3
