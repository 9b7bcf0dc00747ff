__title__ = "spacy-modernbert"
__version__ = "0.1.0"
