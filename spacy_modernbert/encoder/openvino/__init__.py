"""The encoder as a graph of OpenVINO."""
