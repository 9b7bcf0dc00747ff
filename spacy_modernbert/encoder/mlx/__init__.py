"""The encoder in MLX: on Metal, CUDA and the CPU."""
