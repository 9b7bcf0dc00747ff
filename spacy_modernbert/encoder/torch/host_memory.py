"""Memory of the host that torch has freed, and that the C library keeps.

torch aligns its arrays. The next one of the same size does not fit where an aligned one
was freed, in the GNU C library before version 2.38
(https://sourceware.org/bugzilla/show_bug.cgi?id=14581). So each layer of a long pass is
given new memory, and what the layers before it have freed stays resident beside that.
"""

import ctypes
import sys
from functools import cache
from typing import Callable, Optional


def give_back() -> None:
    """Give memory that is free back to the system, where the C library is GNU's.
    Elsewhere, nothing happens.
    """
    trim = _find_trim()
    if trim is not None:
        trim(0)


@cache
def _find_trim() -> Optional[Callable[[int], int]]:
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):  # of another C library, such as musl
        return None
