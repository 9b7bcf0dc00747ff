"""Doc ⇄ wordpieces: tokenization, windows, packing, pooling. NumPy only."""
