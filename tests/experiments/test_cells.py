from dataclasses import replace

import pytest

from experiments.cells import EXPERIMENTS, OVERLAPS, REFERENCE, TITLES, cells_of

from ..util import ROOT


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_cells(experiment):
    cells = list(cells_of(experiment, ["litbank", "craft"], [0, 1]))
    assert len({cell.name for cell in cells}) == len(cells)
    assert len(cells) == 4 * len(EXPERIMENTS[experiment])
    # All of a seed before the next seed.
    n = len(EXPERIMENTS[experiment])
    assert [cell.seed for cell in cells] == [0] * n + [1] * n + [0] * n + [1] * n
    for cell in cells:
        assert (ROOT / "configs" / f"{cell.recipe}.cfg").is_file()
        assert cell.window is None or cell.window in OVERLAPS
        # The reference, which is compared with, is in each.
        assert replace(REFERENCE, corpus=cell.corpus, seed=cell.seed) in cells
    assert experiment in TITLES


def test_what_is_timed_comes_after_what_it_is_timed_by():
    cells = list(cells_of("baselines", ["litbank"], [0]))
    for i, cell in enumerate(cells):
        if cell.budget == "time":
            assert replace(cell, budget="steps") in cells[:i]
