"""Real corpora to `.spacy`, a converter for each, and the generated corpus."""
