"""`python -m spacy modernbert …`"""
