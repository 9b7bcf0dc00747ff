from dataclasses import replace

import pytest

from experiments.cells import EXPERIMENTS, FROZEN, OVERLAPS, PLAIN, REFERENCE, cells_of

from ..util import ROOT


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_cells(experiment):
    experiment = EXPERIMENTS[experiment]
    cells = list(cells_of(experiment, ["litbank", "craft"], [0, 1]))
    n = len(experiment.cells)
    assert len({cell.name for cell in cells}) == len(cells) == 4 * n
    # All of a seed before the next seed.
    assert [cell.seed for cell in cells] == [0] * n + [1] * n + [0] * n + [1] * n
    for cell in cells:
        assert (ROOT / "configs" / f"{cell.recipe}.cfg").is_file()
        assert cell.window is None or cell.window in OVERLAPS
    # What is compared with sees whole documents, by a pretrained encoder; on the real
    # corpora, it is one of three recipes for any corpus.
    first = experiment.cells[0]
    assert first == replace(REFERENCE, recipe=first.recipe)
    assert first in (REFERENCE, PLAIN, FROZEN) or experiment.corpora == (first.recipe,)
    assert experiment.title


def test_what_is_timed_comes_after_what_it_is_timed_by():
    cells = list(cells_of(EXPERIMENTS["baselines"], ["litbank"], [0]))
    for i, cell in enumerate(cells):
        if cell.budget == "time":
            assert replace(cell, budget="steps") in cells[:i]
