import copy
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.util import load_config_from_str, registry
from tokenizers import Tokenizer

from spacy_modernbert.span_getters import (
    LongContextSpans,
    _most_pieces,
    check_window,
    ensure_span_getters_registry,
    long_context_spans_v1,
)

from .documents.toys import NAMES, TEXT, texts, toy
from .scripts import run_script
from .util import pickled, require, whole

pytestmark = pytest.mark.filterwarnings("ignore:Some tokens of a Doc")


@pytest.fixture(scope="module", params=NAMES)
def tokenizer(request):
    return toy(request.param)


def bounds(spans):
    return [(span.start, span.end) for span in spans]


def check_covered(doc, spans):
    held = {token.i for span in spans for token in span}
    assert held == set(range(len(doc)))
    assert all(len(span) for span in spans)


# -- Unbound --------------------------------------------------------------------


@settings(max_examples=100)
@given(st.data())
def test_spans_fit_any_tokenizer(tokenizer, nlp, data):
    """Tokenized by themselves, with special wordpieces: as stock spacy-transformers
    does."""
    docs = [nlp(text) for text in data.draw(st.lists(texts, max_size=3))]
    window = data.draw(st.integers(16, 60))
    getter = LongContextSpans(window, data.draw(st.integers(0, window - 1)))
    nested = getter(docs)
    assert len(nested) == len(docs)
    for doc, spans in zip(docs, nested, strict=True):
        check_covered(doc, spans)
        for span, wordpieces in zip(
            spans, tokenizer([span.text_with_ws for span in spans]), strict=True
        ):
            fits = len(wordpieces) + tokenizer.n_special <= window
            assert fits or len(span) == 1


@settings(max_examples=300)
@given(texts)
def test_bytes_bound_every_normal_form(text):
    most = _most_pieces(text)
    assert len(most) == len(text) + 1
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        normal = normalize(form, text)
        assert len(normal.encode()) <= most[-1]
        assert len(normal.lower().encode()) <= most[-1]
        assert len(normalize(form, text.lower()).encode()) <= most[-1]
    assert len(text.encode()) <= most[-1]
    assert all(most[1:] > most[:-1])


def test_bytes_of_ascii():
    assert _most_pieces("a b\x00").tolist() == [0, 1, 2, 3, 4]


def test_literal_bytes():
    # é is three bytes decomposed, ﷺ expands to 33.
    assert _most_pieces("aé\ufdfa ").tolist() == [0, 1, 4, 37, 38]


def test_unbound_windows_leave_room(nlp):
    doc = nlp("abc " * 40)
    (spans,) = LongContextSpans(36, 0)([doc])
    assert bounds(spans) == [(i, i + 8) for i in range(0, 40, 8)]


def test_unbound_oversized_token(nlp):
    docs = [nlp("the " + "z" * n + " end") for n in (100, 101)]
    getter = LongContextSpans(64, 8)
    with pytest.warns(UserWarning, match="token 1, with up to 100") as found:
        spans = getter(docs) + getter(docs)
    assert len(found) == 1
    assert list(map(bounds, spans)) == 4 * [[(0, 1), (1, 2), (2, 3)]]


def test_docs_that_are_empty(nlp):
    docs = [nlp(""), nlp("text"), nlp("  "), Doc(nlp.vocab)]
    getter = LongContextSpans(8192, 512)
    found = [bounds(spans) for spans in getter(docs)]
    assert found == [[], [(0, 1)], [(0, 1)], []]
    assert getter([]) == []


def test_cut_at_paragraphs(nlp):
    doc = nlp("Six short words stand in here.\n\n" * 9)
    (spans,) = LongContextSpans(84, 0)([doc])
    assert len(spans) > 1
    assert all(span.text.endswith(".\n\n") for span in spans)


# -- In a model of this package ---------------------------------------------------


def test_window_over_the_limit_of_the_model():
    getter = LongContextSpans(8192, 512)
    with pytest.raises(ValueError, match=r"8192 .* which is 512\. Set window to 512"):
        check_window(getter, 512, 16384)
    check_window(getter, 8192, 8192)


def test_window_over_what_a_pass_holds():
    with pytest.raises(ValueError, match=r"max_batch_wordpieces .*8191"):
        check_window(LongContextSpans(8192, 512), 8192, 8191)
    # What other span getters give is cut to what a pass holds.
    check_window(whole, 512, 511)
    with pytest.raises(ValueError, match=r"max_batch_wordpieces is 15"):
        check_window(whole, 512, 15)


@pytest.mark.parametrize("copied_by", [copy.deepcopy, pickled])
def test_copies(nlp, copied_by):
    doc = nlp(TEXT)
    getter = LongContextSpans(32, 8)
    assert copied_by(getter) == getter
    assert bounds(copied_by(getter)([doc])[0]) == bounds(getter([doc])[0])


# -- Values -----------------------------------------------------------------------


@pytest.mark.parametrize("window", [15, 0, -1, 128.0, True, "128", None])
def test_bad_windows(window):
    with pytest.raises(ValueError, match=f"at least 16, but it is {window!r}"):
        long_context_spans_v1(window, 0)


@pytest.mark.parametrize("overlap", [16, 17, -1, 2.0, False, "2", None])
def test_bad_overlaps(overlap):
    with pytest.raises(ValueError, match=rf"\(16\), but it is {overlap!r}"):
        long_context_spans_v1(16, overlap)


def test_smallest_and_largest():
    long_context_spans_v1(16, 0)
    long_context_spans_v1(16, 15)


# -- Registered -------------------------------------------------------------------

CONFIG = """
[get_spans]
@span_getters = "spacy-modernbert.long_context_spans.v1"
window = 64
overlap = 8
"""


def test_registered():
    ensure_span_getters_registry()
    config = load_config_from_str(CONFIG)
    getter = registry.resolve(config)["get_spans"]
    assert getter == LongContextSpans(window=64, overlap=8)


def test_registry_is_made_where_it_is_missing(monkeypatch):
    if hasattr(registry, "span_getters"):
        monkeypatch.delattr(registry, "span_getters")
    ensure_span_getters_registry()
    made = registry.span_getters
    assert made.get("spacy-modernbert.long_context_spans.v1") is long_context_spans_v1
    ensure_span_getters_registry()
    assert registry.span_getters is made


def test_import_is_light():
    program = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None; "
        "import spacy_modernbert.span_getters"
    )
    run_script(program)


@pytest.fixture(scope="module")
def small_modernbert(tmp_path_factory):
    """A checkpoint as transformers writes it, that takes 64 wordpieces."""
    transformers = require("transformers")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(toy("byte_level").to_json()),
        pad_token="[PAD]",
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
    )
    config = transformers.ModernBertConfig(
        vocab_size=toy("byte_level").vocab_size,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        reference_compile=False,
    )
    folder = tmp_path_factory.mktemp("modernbert")
    transformers.ModernBertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_in_a_stock_spacy_transformers_model(nlp, small_modernbert):
    """Stock spacy-transformers tokenizes each span by itself, and gives zeros to
    tokens whose wordpieces are beyond what the model takes. There are none."""
    require("spacy_transformers")
    architecture = registry.architectures.get("spacy-transformers.TransformerModel.v3")
    model = architecture(
        name=str(small_modernbert), get_spans=LongContextSpans(window=64, overlap=8)
    )
    docs = [nlp(""), nlp(TEXT), nlp("東京都 " * 20 + " 👩\u200d👩\u200d👧 " * 20)]
    model.initialize(X=docs)
    output = model.predict(docs)
    for doc, spans in zip(docs, output.spans, strict=True):
        check_covered(doc, spans)
    assert len(output.align.lengths) == sum(len(doc) for doc in docs)
    assert (output.align.lengths > 0).all()
