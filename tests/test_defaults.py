"""A default that is written in several places is the same in all of them."""

import inspect
import json
import re
from dataclasses import MISSING, fields

import pytest
import srsly

from spacy_modernbert.architectures import ModernBertModel_v1, Tok2VecModernBert_v1
from spacy_modernbert.components import DEFAULT_CONFIG
from spacy_modernbert.layers.settings import EncoderSettings
from spacy_modernbert.pretraining.settings import PretrainingSettings
from spacy_modernbert.span_getters import long_context_spans_v1

from .util import ROOT


def of_arguments(function):
    """RETURNS (Dict[str, Any]): The defaults of a function."""
    parameters = inspect.signature(function).parameters.values()
    return {
        each.name: each.default for each in parameters if each.default is not each.empty
    }


def of_fields(settings):
    """RETURNS (Dict[str, Any]): The defaults of a dataclass."""
    return {
        each.name: each.default
        for each in fields(settings)
        if each.default is not MISSING
    }


def read_table(page, head):
    """RETURNS (Dict[str, str]): The first two columns of the one table on a page of
    `docs/` whose first row begins so.
    """
    text = (ROOT / "docs" / page).read_text(encoding="utf8")
    (table,) = re.findall(rf"^\| {head} \|.*\n\| ---.*\n((?:\|.*\n)+)", text, re.M)
    found = {}
    for row in table.splitlines():
        names, values = (cell.strip() for cell in row.split(" | ")[:2])
        # A row may have several, as of `window`, `overlap`.
        names, values = (cell.strip("| ").split(", ") for cell in (names, values))
        for name, value in zip(names, values, strict=True):
            found[name.strip("`")] = value.strip("`")
    return found


INLINE = of_arguments(Tok2VecModernBert_v1)


def test_both_architectures():
    shared = of_arguments(ModernBertModel_v1)
    # What no config sets: callers that name a backend do.
    assert {**shared, "heed_variable": True} == of_fields(EncoderSettings)
    assert shared.items() <= INLINE.items()


def test_the_factory():
    block = DEFAULT_CONFIG["modernbert_ner"]["model"]["tok2vec"]
    # As they are written, so that 1 is not 1.0.
    found = {name: json.dumps(block[name]) for name in INLINE}
    assert found == {name: json.dumps(value) for name, value in INLINE.items()}
    parameters = inspect.signature(Tok2VecModernBert_v1).parameters
    assert block.keys() == {"@architectures", *parameters}
    spans = {**block["get_spans"]}
    assert spans.pop("@span_getters") == "spacy-modernbert.long_context_spans.v1"
    assert spans == of_arguments(long_context_spans_v1)


@pytest.mark.parametrize(
    ("page", "defaults"),
    [
        ("training.md", INLINE),
        ("pretraining.md", of_fields(PretrainingSettings)),
    ],
    ids=["training", "pretraining"],
)
def test_tables_of_settings(page, defaults):
    table = read_table(page, r"setting \| default")
    assert len(table) > 4
    assert table == {name: json.dumps(defaults[name]) for name in table}


def test_the_table_of_variables():
    table = read_table("training.md", r"variable \| default")
    variables = srsly.read_yaml(ROOT / "project.yml")["vars"]
    wanted = {
        name: re.sub(r"\$\{vars\.(\w+)\}", r"<\1>", str(value))
        for name, value in variables.items()
    }
    assert table == wanted
