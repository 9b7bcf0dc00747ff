import re

import pytest

from spacy_modernbert.corpora import craft, litbank
from spacy_modernbert.corpora.__main__ import app
from spacy_modernbert.corpora.files import decode, load_files
from spacy_modernbert.corpora.pretraining import cut_out, gather_raw_texts
from spacy_modernbert.corpora.splits import LITBANK

from ..commands import done, failed, invoke
from ..util import read_jsonl
from .util import raw_corpus


def letters(text):
    return re.sub(r"[\W_]+", "", text)


@pytest.mark.parametrize(
    ("passage", "left"),
    [
        ("`` Where 's Tom ? ''\n", 'He said: "" Nowhere.'),
        ("He said", ': "Where\'s Tom?" Nowhere.'),
        ("Nowhere .", 'He said: "Where\'s Tom?" .'),
    ],
)
def test_cut_out(passage, left):
    text = 'He said: "Where\'s Tom?" Nowhere.'
    found = cut_out(text, passage, "x")
    assert letters(found) == letters(left)
    assert letters(passage) not in letters(found)


@pytest.mark.parametrize("passage", ["Somewhere", "", " . "])
def test_a_passage_that_is_not_there(passage):
    with pytest.raises(ValueError, match="of tom_sawyer is not found"):
        cut_out("Nowhere.", passage, "tom_sawyer")


@pytest.fixture
def checkouts(tmp_path):
    """LitBank and CRAFT in small: each held-out passage in the middle of its novel."""
    litbank, craft = tmp_path / "litbank", tmp_path / "craft"
    passages, novels = litbank / "entities" / "brat", litbank / "original"
    articles, ids = craft / "articles" / "txt", craft / "articles" / "ids"
    for folder in (passages, novels, articles, ids):
        folder.mkdir(parents=True)
    for split, names in LITBANK.items():
        for name in names:
            passage = f"`` This is of {name} , and of {split} . ''"
            (passages / f"{name}_brat.txt").write_text(passage)
            novel = f'Before. "This is of {name}, and of {split}." After {name}.'
            (novels / f"{name}.txt").write_text(novel)
    (ids / "craft-ids-train.txt").write_text("3\n1\n")
    for i in (1, 2, 3):
        (articles / f"{i}.txt").write_text(f"Article {i}.")
    return litbank, craft


def test_what_is_tested_on_is_left_out(checkouts, tmp_path):
    litbank, craft = checkouts
    arguments = ["pretraining", tmp_path / "out", "--novels", litbank]
    arguments += ["--passages", litbank, "--articles", craft]
    found = done(invoke(*arguments, app=app))
    assert "20 of 20 annotated passages were cut out" in found
    assert "None of the works" not in found
    texts = {}
    for name in ("train", "dev"):
        for line in read_jsonl(tmp_path / "out" / f"{name}.jsonl"):
            assert line["meta"]["id"] not in texts
            texts[line["meta"]["id"]] = name, line["text"]
    assert texts["1"] == ("train", "Article 1.") and texts["3"][0] == "train"
    assert "2" not in texts
    assert sum(name == "dev" for name, _ in texts.values()) == 4  # of a hundred novels
    for split, names in LITBANK.items():
        for name in names:
            _, text = texts[name]
            assert ("This is of" in text) == (split == "train")
            assert text.startswith("Before.") and text.endswith(f"After {name}.")


def test_a_novel_of_another_name(checkouts, tmp_path):
    litbank, craft = checkouts
    name = LITBANK["test"][0]
    novels = litbank / "original"
    (novels / f"{name}.txt").rename(novels / "renamed.txt")
    corpus = gather_raw_texts(litbank, litbank, craft)
    assert set(corpus.cuts.values()) == {1} and len(corpus.cuts) == 20
    (text,) = (each.text for each in corpus.train + corpus.dev if each.id == "renamed")
    assert text.startswith("Before.") and "This is of" not in text


def test_passages_of_no_novel_here(checkouts, tmp_path):
    """A novel may be absent, or there in words that are not quite those of LitBank."""
    litbank, craft = checkouts
    absent, changed = sorted(LITBANK["test"][:2])
    novels = litbank / "original"
    (novels / f"{absent}.txt").unlink()
    text = (novels / f"{changed}.txt").read_text().replace("This is", "That is")
    (novels / f"{changed}.txt").unlink()
    (novels / "renamed.txt").write_text(text)
    # Another novel is there twice.
    (novels / "twice.txt").write_text((novels / f"{LITBANK['dev'][0]}.txt").read_text())
    arguments = ["pretraining", tmp_path / "out", "--novels", litbank]
    arguments += ["--passages", litbank, "--articles", craft]
    result = invoke(*arguments, app=app)
    assert "18 of 20 annotated passages were cut out" in done(result)
    told = "".join(result.output.split())
    assert f"ofthepassagesof{absent},{changed}" in told
    texts = {
        line["meta"]["id"]: line["text"]
        for name in ("train", "dev")
        for line in read_jsonl(tmp_path / "out" / f"{name}.jsonl")
    }
    assert "This is of" not in texts["twice"] + texts[LITBANK["dev"][0]]


def test_what_is_missing(checkouts, tmp_path):
    litbank, craft = checkouts
    (craft / "articles" / "txt" / "3.txt").unlink()
    arguments = ["pretraining", tmp_path / "out", "--novels", litbank]
    arguments += ["--passages", litbank, "--articles", craft]
    assert "3.txt" in failed(invoke(*arguments, app=app))
    assert not (tmp_path / "out").exists()


# What is no letter or digit of ASCII: to drop that of whole novels is quick.
DROPPED = bytes(i for i in range(128) if not chr(i).isalnum())


def ascii_letters(text):
    return text.encode("ascii", "ignore").translate(None, DROPPED)


def read_held_out():
    """RETURNS (List[str]): The texts of the dev and test sets, from the files: tests of
    the converters compare those with what is converted.
    """
    passages = load_files(
        raw_corpus("litbank-entities.tar.xz"), (litbank.TEXT.format("*"),)
    )
    ids = [craft.IDS.format(split=split) for split in ("dev", "test")]
    articles = load_files(
        raw_corpus("craft.tar.xz"), (*ids, craft.TEXT.format(name="*"))
    )
    names = [name for path in ids for name in decode(articles, path).split()]
    assert len(names) == 7 + 30
    return [
        *(decode(passages, litbank.TEXT.format(name)) for name in LITBANK["dev"]),
        *(decode(passages, litbank.TEXT.format(name)) for name in LITBANK["test"]),
        *(decode(articles, craft.TEXT.format(name=name)) for name in names),
    ]


def test_real_texts(tmp_path):
    """Nothing that LitBank and CRAFT test on is in them."""
    corpus = gather_raw_texts(
        raw_corpus("gutenberg-novels.tar.xz"),
        raw_corpus("litbank-entities.tar.xz"),
        raw_corpus("craft.tar.xz"),
    )
    assert set(corpus.cuts) == {*LITBANK["dev"], *LITBANK["test"]}
    assert len(corpus.cuts) == 20 and set(corpus.cuts.values()) == {1}
    assert (len(corpus.train), len(corpus.dev)) == (153, 7)
    assert not {each.id for each in corpus.train} & {each.id for each in corpus.dev}
    everything = ascii_letters("".join(each.text for each in corpus.train + corpus.dev))
    for text in read_held_out():
        # From its middle: the first words of a novel may be its title.
        middle = ascii_letters(text[len(text) // 2 :])[:200]
        assert len(middle) == 200 and middle not in everything
    corpus.write(tmp_path)
    records = read_jsonl(tmp_path / "train.jsonl")
    assert [record["text"] for record in records] == [
        each.text for each in corpus.train
    ]
