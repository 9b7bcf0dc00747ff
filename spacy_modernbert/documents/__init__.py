"""Doc ⇄ wordpieces: tokenization, windows, pooling. NumPy only."""
