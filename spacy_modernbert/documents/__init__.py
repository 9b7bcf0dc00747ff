"""Doc ⇄ wordpieces: tokenization, windows, pooling, in NumPy and without torch."""
