import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_modernbert.evaluation.charts import (
    PERCENT,
    Axis,
    draw,
    length_axis,
    linear_axis,
)


def test_by_hand():
    x = Axis(0, 10, (0, 5, 10))
    chart = draw(
        "F",
        ("step", x, str),
        (PERCENT, str),
        [(0, 0.0, "a"), (5, 1.0, "b")],
        joined=True,
    )
    assert chart.points == ((0.0, 100.0, "a"), (50.0, 0.0, "b"))
    assert chart.line == "M0.0 100.0L50.0 0.0"
    assert chart.x_ticks == ((0.0, "0"), (50.0, "5"), (100.0, "10"))


def test_a_logarithmic_axis():
    axis = length_axis([100, 9000])
    assert axis.is_log and (axis.low, axis.high) == (64, 16384)
    assert axis.place(1024) == pytest.approx(50)
    # Of the same order: no use for it.
    axis = length_axis([2074, 2900])
    assert not axis.is_log and axis.ticks == (2000, 2200, 2400, 2600, 2800, 3000)


@pytest.mark.parametrize("lengths", [[101, 102], [7, 7, 9], [250]])
def test_lengths_are_named_once(lengths):
    """A length is a whole number: between two, there is nothing to name."""
    ticks = length_axis(lengths).ticks
    assert all(tick.is_integer() for tick in ticks) and len(set(ticks)) == len(ticks)


def test_steps_are_named_once():
    ticks = linear_axis([0, 1, 2], whole=True).ticks
    assert ticks == (0, 1, 2)


@given(
    st.lists(st.floats(0, 1e9), min_size=1).filter(lambda v: not 0 < max(v) < 1e-9),
    st.booleans(),
)
def test_linear_axes_hold_all_values(values, from_zero):
    axis = linear_axis(values, from_zero=from_zero)
    assert axis.low < axis.high
    assert 2 <= len(axis.ticks) <= 8
    for value in values:
        assert -0.01 <= axis.place(value) <= 100.01


@given(st.lists(st.integers(1, 10**6), min_size=1))
def test_axes_of_lengths_hold_all_values(values):
    axis = length_axis(values)
    assert axis.low < axis.high
    assert 2 <= len(axis.ticks) <= 8
    for value in values:
        assert -0.01 <= axis.place(value) <= 100.01
