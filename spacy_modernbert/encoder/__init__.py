"""ModernBERT itself. Knows nothing of spaCy."""
