"""The encoder as a graph of ONNX, for ONNX Runtime."""
