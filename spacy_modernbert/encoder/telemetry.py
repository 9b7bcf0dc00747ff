"""Libraries that would tell their makers over the network that they are used, unless
they are kept from it: nothing here goes there that the user has not asked for.
"""

import importlib
import os
import sys
import threading
from types import ModuleType

# ONNX Runtime asks for it when it is imported. A value that the user has set is left as
# it is.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_OF_OPENVINO = "openvino_telemetry"
_importing = threading.Lock()


def import_openvino(module: str = "openvino") -> ModuleType:
    """Import OpenVINO without the library by which it would report that. It goes
    without that library where it is not installed.

    module (str): OpenVINO, or a module of it.
    RETURNS (ModuleType): The module.
    RAISES (Exception): Of any kind, if it cannot be imported.
    """
    with _importing:
        if "openvino" in sys.modules:
            return importlib.import_module(module)
        before = sys.modules.get(_OF_OPENVINO)
        # As Python has what cannot be imported.
        sys.modules[_OF_OPENVINO] = None  # type: ignore[assignment]
        try:
            return importlib.import_module(module)
        finally:
            del sys.modules[_OF_OPENVINO]
            if before is not None:
                sys.modules[_OF_OPENVINO] = before
