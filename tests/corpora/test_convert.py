import pytest
import spacy
from spacy.tokens import DocBin
from spacy.training import Corpus

from spacy_modernbert.corpora.convert import convert
from spacy_modernbert.corpora.raw import Annotation, RawDocument

TEXT = "  Chapter 1\r\n\r\nAnne  Elliot ,\tof Kellynch Hall .\n “ So ? ” 😀 \n"
SPLITS = {"train": ("one", "two"), "dev": ("three",)}


def annotation(label: str, text: str) -> Annotation:
    start = TEXT.index(text)
    return Annotation(label, ((start, start + len(text)),), text)


def read(name: str) -> RawDocument:
    annotations = (
        annotation("PER", "Anne  Elliot"),
        annotation("FAC", "Kellynch Hall"),
        annotation("PER", "Anne"),
    )
    return RawDocument(name, TEXT, annotations)


def convert_two():
    return convert("novels", ("PER", "FAC"), SPLITS, read)


def load(path):
    return list(DocBin().from_disk(path).get_docs(spacy.blank("en").vocab))


def test_docs():
    corpus = convert_two()
    assert {name: len(docs) for name, docs in corpus.splits.items()} == {
        "train": 2,
        "dev": 1,
    }
    for docs in corpus.splits.values():
        for doc in docs:
            assert doc.text == TEXT
            assert [(ent.label_, ent.text) for ent in doc.ents] == [
                ("PER", "Anne  Elliot"),
                ("FAC", "Kellynch Hall"),
            ]


def test_report():
    report = convert_two().report
    assert report.corpus == "novels"
    assert report.splits["train"].documents == 2
    assert report.splits["train"].entities == {"PER": 2, "FAC": 2}
    assert report.splits["train"].dropped["nested"] == 2
    assert report.total.annotations == 9


def test_report_of_a_split_without_documents():
    splits = {**SPLITS, "test": ()}
    _, rows = convert("novels", ("PER", "FAC"), splits, read).report.table()
    assert ["  nested", "2", "1", "0", "3"] in rows


def test_files(tmp_path):
    corpus = convert_two()
    corpus.write(tmp_path / "deep" / "folder")
    files = sorted(path.name for path in (tmp_path / "deep" / "folder").iterdir())
    assert files == ["dev.spacy", "train.spacy"]
    for split, docs in corpus.splits.items():
        loaded = load(tmp_path / "deep" / "folder" / f"{split}.spacy")
        assert [doc.user_data["id"] for doc in loaded] == list(SPLITS[split])
        for one, other in zip(docs, loaded, strict=True):
            assert other.text == TEXT
            assert [str(token) for token in one] == [str(token) for token in other]
            assert [(e.start, e.end, e.label_) for e in one.ents] == [
                (e.start, e.end, e.label_) for e in other.ents
            ]


def test_files_say_nothing_else(tmp_path):
    convert_two().write(tmp_path)
    doc = load(tmp_path / "dev.spacy")[0]
    assert doc.has_annotation("ENT_IOB", require_complete=True)
    for unknown in ("TAG", "DEP", "SENT_START", "LEMMA"):
        assert not doc.has_annotation(unknown)


def test_files_train_a_pipeline(tmp_path):
    convert_two().write(tmp_path)
    nlp = spacy.blank("en")
    examples = list(Corpus(tmp_path / "train.spacy")(nlp))
    assert len(examples) == 2
    tags = examples[0].get_aligned_ner()
    assert [tag for tag in tags if tag != "O"] == [
        "B-PER", "I-PER", "L-PER", "B-FAC", "L-FAC"
    ]  # fmt: skip


def test_same_documents_same_bytes(tmp_path):
    for folder in ("one", "two"):
        convert_two().write(tmp_path / folder)
    for name in ("train.spacy", "dev.spacy"):
        contents = [
            (tmp_path / folder / name).read_bytes() for folder in ("one", "two")
        ]
        assert contents[0] == contents[1]


def test_old_file_stays_if_writing_fails(tmp_path, monkeypatch):
    convert_two().write(tmp_path)
    before = (tmp_path / "train.spacy").read_bytes()

    def no_space_left(*args):
        raise OSError("no space left")

    monkeypatch.setattr("spacy_modernbert.atomic.os.replace", no_space_left)
    fewer = convert("novels", ("PER", "FAC"), {"train": ("one",)}, read)
    with pytest.raises(OSError, match="no space left"):
        fewer.write(tmp_path)
    assert (tmp_path / "train.spacy").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dev.spacy",
        "train.spacy",
    ]


def test_text_beyond_the_limit_of_spacy():
    text = f"{'w' * 5_000} " * 210
    assert len(text) > spacy.blank("en").max_length
    corpus = convert(
        "x", (), {"train": ["a"]}, lambda name: RawDocument(name, text, ())
    )
    assert len(corpus.splits["train"][0]) == 210


def test_empty_text():
    corpus = convert("x", (), {"train": ["a"]}, lambda name: RawDocument(name, "", ()))
    assert corpus.splits["train"][0].text == ""


def test_unknown_label():
    with pytest.raises(ValueError, match=r"Document one has the labels \['FAC'\]"):
        convert("x", ("PER",), SPLITS, read)
