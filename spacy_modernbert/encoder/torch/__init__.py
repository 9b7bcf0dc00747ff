"""The encoder in torch: on CUDA, MPS and the CPU."""
