"""The encoder as a graph of ONNX, for ONNX Runtime."""

# Before any module here imports ONNX Runtime.
from .. import telemetry  # noqa: F401
