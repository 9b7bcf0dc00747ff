"""The encoder as a graph of OpenVINO."""

from ..telemetry import import_openvino

# Before any module here imports it in the ordinary way.
import_openvino()
