"""The encoder as a graph of OpenVINO."""

from contextlib import suppress

from ..telemetry import import_openvino

# Before any module here imports it in the ordinary way, which says why it cannot be
# imported, if so.
with suppress(Exception):
    import_openvino()
