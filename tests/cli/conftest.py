"""`embed` and its files, for test_embed.py and test_vector_files.py."""

import dataclasses
import json

import pytest

from spacy_modernbert.embeddings import Embedder, load_embedder

from ..commands import invoke
from .embedding import TEXTS


@pytest.fixture
def run(checkpoint):
    def run(*arguments, **options):
        model = ["--model", checkpoint, "--backend", "cpu"]
        return invoke("embed", *model, *arguments, **options)

    return run


@pytest.fixture(scope="module")
def wanted(checkpoint):
    return load_embedder(str(checkpoint), backend="cpu").embed(TEXTS)


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf8")
    return path


@pytest.fixture
def jsonl_file(tmp_path):
    path = tmp_path / "texts.jsonl"
    lines = [json.dumps({"id": i, "text": text}) for i, text in enumerate(TEXTS)]
    path.write_text("\n".join(lines), encoding="utf8")
    return path


class Interrupted(Embedder):
    """Makes some vectors, and then no more."""

    def stream(self, texts, *, normalize=False):
        parts = super().stream(texts, normalize=normalize)
        yield next(parts)
        yield next(parts)
        raise KeyboardInterrupt


@pytest.fixture
def interrupt(run, monkeypatch):
    """Run the command, and interrupt it."""

    def interrupt(*arguments, **options):
        def load(name, **settings):
            made = load_embedder(name, **settings)
            return Interrupted(**{key: getattr(made, key) for key in fields})

        fields = [field.name for field in dataclasses.fields(Embedder) if field.init]
        with monkeypatch.context() as patch:
            patch.setattr("spacy_modernbert.embeddings.load_embedder", load)
            return run(*arguments, **options)

    return interrupt
