import json
import re

import pytest

from spacy_modernbert.corpora.pretraining import cut_out, gather_raw_texts
from spacy_modernbert.corpora.splits import LITBANK

from .conftest import raw_corpus


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


def test_real_texts(tmp_path, litbank, craft):
    """Nothing that LitBank and CRAFT test on is in them."""
    corpus = gather_raw_texts(
        raw_corpus("gutenberg-novels.tar.xz"),
        raw_corpus("litbank-entities.tar.xz"),
        raw_corpus("craft.tar.xz"),
    )
    assert corpus.n_cut == len(LITBANK["dev"]) + len(LITBANK["test"]) == 20
    assert (len(corpus.train), len(corpus.dev)) == (153, 7)
    assert not {each.id for each in corpus.train} & {each.id for each in corpus.dev}
    everything = letters("".join(each.text for each in corpus.train + corpus.dev))
    for split in ("dev", "test"):
        for converted in (litbank, craft):
            for doc in converted.splits[split][:5]:
                # From its middle: the first words of a novel may be its title.
                middle = letters(doc.text[len(doc.text) // 2 :])[:200]
                assert middle not in everything
    corpus.write(tmp_path)
    lines = (tmp_path / "train.jsonl").read_text(encoding="utf8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == [
        each.text for each in corpus.train
    ]
