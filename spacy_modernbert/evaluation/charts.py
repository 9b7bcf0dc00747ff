"""Where things are in a chart, in percent of its width and height."""

import math
from dataclasses import dataclass
from typing import Callable, List, Sequence, Tuple

# About how many steps the ticks divide an axis into.
_TICKS = 5
# Lengths get a logarithmic axis if the longest is this many times the shortest.
_LOG_FROM = 4


@dataclass(frozen=True)
class Axis:
    """An axis.

    low, high (float): The values at its ends. `low` is less than `high`.
    ticks (Tuple[float, ...]): The values to name.
    is_log (bool): Whether it is logarithmic; then all values are above 0.
    """

    low: float
    high: float
    ticks: Tuple[float, ...]
    is_log: bool = False

    def place(self, value: float) -> float:
        """RETURNS (float): Where a value is, from 0 to 100."""
        low, high, at = (
            (math.log(self.low), math.log(self.high), math.log(value))
            if self.is_log
            else (self.low, self.high, value)
        )
        return round(100 * (at - low) / (high - low), 3)


@dataclass(frozen=True)
class Chart:
    """A chart of points.

    title (str): What it shows, for those who do not see it.
    x_name (str): What the horizontal axis is. The title says what the other is.
    x_ticks, y_ticks (Tuple[Tuple[float, str], ...]): Places, with what to write there.
    points (Tuple[Tuple[float, float, str], ...]): Places, from the left and from the
        top, with what to say of the point.
    line (str): An SVG path through points; empty for none.
    """

    title: str
    x_name: str
    x_ticks: Tuple[Tuple[float, str], ...]
    y_ticks: Tuple[Tuple[float, str], ...]
    points: Tuple[Tuple[float, float, str], ...]
    line: str = ""


def linear_axis(
    values: Sequence[float], *, from_zero: bool = True, whole: bool = False
) -> Axis:
    """RETURNS (Axis): From 0, or without `from_zero` from a round number, to a round
    number. It holds all values. With `whole`, all ticks are whole numbers, as what is
    counted is.
    """
    low, high = (0.0 if from_zero else min(values)), max(values)
    step = _round_up((high - low) / _TICKS)
    if whole:
        step = float(math.ceil(step))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(step * i for i in range(first, max(last, first + 1) + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def length_axis(values: Sequence[float]) -> Axis:
    """RETURNS (Axis): Between powers of 2 that hold all values, which are at least 1;
    a linear one where they are of the same order.
    """
    if max(values) < _LOG_FROM * min(values):
        return linear_axis(values, from_zero=False, whole=True)
    low, high = math.floor(math.log2(min(values))), math.ceil(math.log2(max(values)))
    every = math.ceil((high - low + 1) / (_TICKS + 2))
    ticks = tuple(float(2**power) for power in range(low, high + 1, every))
    return Axis(2.0**low, 2.0**high, ticks, is_log=True)


PERCENT = Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))


def draw(
    title: str,
    x: Tuple[str, Axis, Callable[[float], str]],
    y: Tuple[Axis, Callable[[float], str]],
    points: Sequence[Tuple[float, float, str]],
    *,
    joined: bool,
) -> Chart:
    """Lay out a chart.

    title (str): What it shows.
    x (Tuple[str, Axis, Callable[[float], str]]): The name of the axis, the axis, and
        how to write a value on it.
    y (Tuple[Axis, Callable[[float], str]]): The same without a name, which is that of
        the chart.
    points (Sequence[Tuple[float, float, str]]): Values, with what to say of them.
    joined (bool): Whether a line leads from one to the next.
    RETURNS (Chart): The chart.
    """
    (x_name, x_axis, write_x), (y_axis, write_y) = x, y
    placed = tuple(
        (x_axis.place(a), 100 - y_axis.place(b), text) for a, b, text in points
    )
    corners: List[str] = [f"{a} {b}" for a, b, _ in placed] if joined else []
    return Chart(
        title,
        x_name,
        tuple((x_axis.place(tick), write_x(tick)) for tick in x_axis.ticks),
        tuple((100 - y_axis.place(tick), write_y(tick)) for tick in y_axis.ticks),
        placed,
        "M" + "L".join(corners) if corners else "",
    )


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5 and 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        (
            factor * power
            for factor in (1, 2, 2.5, 5)
            if factor * power >= value * (1 - 1e-9)
        ),
        10 * power,
    )
