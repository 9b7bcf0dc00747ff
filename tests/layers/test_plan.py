import numpy as np
import pytest
from spacy.tokens import Doc
from tokenizers import processors

from spacy_modernbert.documents.alignment import align, token_offsets
from spacy_modernbert.documents.wordpieces import WordpieceTokenizer
from spacy_modernbert.layers.plan import make_plan
from spacy_modernbert.span_getters import LongContextSpans

from ..util import make_text, make_tokenizer, whole


@pytest.fixture(scope="module")
def tokenizer():
    return WordpieceTokenizer(make_tokenizer())


def strided(docs):
    """As spacy-transformers' strided_spans.v1 with window 40 and stride 30."""
    return [
        [doc[start : start + 40] for start in range(0, max(len(doc) - 10, 1), 30)]
        for doc in docs
    ]


def ids_of_rows(plan):
    """Each token's wordpieces, read back from the passes."""
    ids = np.concatenate([batch.ids for batch in plan.batches])
    return np.split(ids[plan.rows.rows], np.cumsum(plan.rows.lengths)[:-1])


@pytest.mark.parametrize(
    "get_spans", [LongContextSpans(64, 16), LongContextSpans(512, 0), strided, whole]
)
def test_each_token_has_its_own_wordpieces(nlp, tokenizer, get_spans):
    docs = [nlp(make_text(seed, n)) for seed, n in enumerate([1, 12, 3, 30])]
    docs.insert(1, nlp(""))
    docs.append(nlp("  \n "))
    plan = make_plan(docs, tokenizer, get_spans, limit=128, max_batch_wordpieces=128)
    wanted = []
    for doc, pieces in zip(docs, tokenizer([doc.text for doc in docs]), strict=True):
        alignment = align(pieces, *token_offsets(doc))
        for start, end in zip(alignment.starts, alignment.ends, strict=True):
            wanted.append(pieces.ids[start:end].tolist())
    assert [ids.tolist() for ids in ids_of_rows(plan)] == wanted
    assert plan.doc_lengths.tolist() == [len(doc) for doc in docs]
    assert plan.total == sum(batch.total for batch in plan.batches)


def test_passes_hold_whole_windows_within_the_budget(nlp, tokenizer):
    docs = [nlp(make_text(seed, 10)) for seed in range(5)]
    plan = make_plan(docs, tokenizer, LongContextSpans(64, 16), 512, 150)
    assert len(plan.batches) > 3
    lengths = [length for batch in plan.batches for length in batch.lengths]
    assert lengths == plan.window_lengths.tolist()
    assert max(lengths) <= 64
    assert all(64 < batch.total <= 150 for batch in plan.batches[:-1])
    for batch in plan.batches:
        starts, ends = batch.cu_seqlens[:-1], batch.cu_seqlens[1:] - 1
        assert set(batch.ids[starts]) == {1}  # [CLS]
        assert set(batch.ids[ends]) == {2}  # [SEP]


@pytest.mark.parametrize("max_batch", [32, 64, 128])
def test_foreign_spans_are_cut_at_the_limit(nlp, tokenizer, max_batch):
    """And only there: a window that is longer than a pass is a pass of its own."""
    plan = make_plan([nlp(make_text(0, 30))], tokenizer, whole, 64, max_batch)
    assert len(plan.windows[0]) > 3
    assert 32 < plan.window_lengths.max() <= 64
    assert all(b.total <= max_batch or b.n_seqs == 1 for b in plan.batches)


@pytest.mark.parametrize("around", ["$A", "[CLS] $A", "$A [SEP]"])
def test_tokenizers_that_add_nothing_on_a_side(nlp, around):
    bare = make_tokenizer()
    bare.post_processor = processors.TemplateProcessing(
        single=around, special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer = WordpieceTokenizer(bare)
    docs = [nlp(make_text(0, 30)), nlp("")]
    plan = make_plan(docs, tokenizer, LongContextSpans(64, 16), 512, 512)
    ids = np.concatenate([batch.ids for batch in plan.batches])
    assert ids.dtype == np.int64
    assert ((ids == 1).any(), (ids == 2).any()) == ("CLS" in around, "SEP" in around)
    (pieces,) = tokenizer([docs[0].text])
    alignment = align(pieces, *token_offsets(docs[0]))
    for i, found in enumerate(ids_of_rows(plan)):
        wanted = pieces.ids[alignment.starts[i] : alignment.ends[i]]
        assert found.tolist() == wanted.tolist()


def test_foreign_spans_that_leave_a_token_out(nlp, tokenizer):
    with pytest.raises(ValueError, match="Token 3 of a Doc"):
        make_plan(
            [nlp(make_text(0))], tokenizer, lambda docs: [[docs[0][:3]]], 512, 512
        )


def test_an_encoder_that_takes_no_more_than_the_special_wordpieces(nlp, tokenizer):
    def get_spans(docs):
        return [[doc[:]] for doc in docs]

    assert make_plan([nlp("Oslo")], tokenizer, get_spans, 3, 512).total == 3
    with pytest.raises(ValueError, match="takes 2 wordpieces"):
        make_plan([nlp("Oslo")], tokenizer, get_spans, 2, 512)


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_nothing(nlp, tokenizer, texts):
    docs = [nlp(text) for text in texts]
    plan = make_plan(docs, tokenizer, LongContextSpans(64, 16), 512, 512)
    assert plan.batches == () and plan.total == 0
    assert plan.rows.lengths.size == 0
    assert plan.doc_lengths.tolist() == [0] * len(docs)


def test_a_window_without_wordpieces_is_not_encoded(nlp, tokenizer):
    # As from a tokenizer that strips whitespace.
    docs = [Doc(nlp.vocab, words=["\n"], spaces=[False]), nlp("Oslo")]
    tokenizer = Stripping(tokenizer)
    plan = make_plan(docs, tokenizer, LongContextSpans(64, 16), 512, 512)
    assert plan.window_lengths[0] == 0 and len(plan.batches) == 1
    assert plan.rows.lengths[0] == 0
    assert ids_of_rows(plan)[1].size


class Stripping:
    """A tokenizer that finds nothing in whitespace."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.prefix_ids, self.suffix_ids = tokenizer.prefix_ids, tokenizer.suffix_ids
        self.n_special = tokenizer.n_special

    def __call__(self, texts):
        return self.tokenizer([text.strip() for text in texts])


@pytest.mark.parametrize("get_spans", [LongContextSpans(64, 8), whole])
def test_one_warning_for_a_stream(nlp, get_spans):
    docs = [nlp("the " + "\u0394" * n) for n in (100, 101, 102)]
    tokenizer = WordpieceTokenizer(make_tokenizer())
    with pytest.warns(UserWarning, match="token 1, with 200") as found:
        for doc in docs:
            make_plan([doc], tokenizer, get_spans, 64, 128)
    assert len(found) == 1
