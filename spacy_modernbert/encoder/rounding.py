"""Lengths rounded up to a few values, for libraries that cache each shape."""

# At most how many rounded lengths there are from one power of two to the next.
_STEPS_AN_OCTAVE = 32


def round_up(length: int, least_step: int = 64) -> int:
    """length (int): How many rows there are.
    least_step (int): What rounded lengths are a multiple of, at least.
    RETURNS (int): How many to compute with. For long ones, it is 1.5 % more on average.
    """
    octave = 1 << (max(length, 1).bit_length() - 1)
    step = max(least_step, octave // _STEPS_AN_OCTAVE)
    return -(-length // step) * step
