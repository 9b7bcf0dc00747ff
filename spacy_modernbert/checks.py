"""What counts as a number where a user gives one."""

import math


def is_int(value: object) -> bool:
    """RETURNS (bool): Whether it is a whole number. Booleans do not count."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """RETURNS (bool): Whether it is a whole number or a finite float."""
    return is_int(value) or (isinstance(value, float) and math.isfinite(value))
