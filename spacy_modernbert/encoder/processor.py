"""What processor this is, and what it can do, as far as the system tells."""

import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Dict, FrozenSet

_CPUINFO = Path("/proc/cpuinfo")


def processor_name() -> str:
    """RETURNS (str): What the processor is called: its model, or its architecture."""
    named = _read_cpuinfo().get("model name", "") or _ask_macos()
    return named or platform.processor() or platform.machine()


@cache
def _ask_macos() -> str:
    """RETURNS (str): What the processor is called, such as "Apple M4"; empty elsewhere.
    Python says of all of them that they are "arm".
    """
    if platform.system() != "Darwin":
        return ""
    command = ["sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()


@cache  # asked for by every product
def processor_flags() -> FrozenSet[str]:
    """RETURNS (FrozenSet[str]): What the processor can do, by the names of Linux; empty
    where the system does not say, as on macOS and Windows.
    """
    found = _read_cpuinfo()
    # On ARM, they are called features.
    return frozenset((found.get("flags") or found.get("Features", "")).split())


@cache
def _read_cpuinfo() -> Dict[str, str]:
    """RETURNS (Dict[str, str]): What is said of the first core; empty off Linux."""
    try:
        lines = _CPUINFO.read_text(encoding="utf8").splitlines()
    except OSError:
        return {}
    found: Dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    return found
