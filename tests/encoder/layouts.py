"""Small checkpoints in the layouts in which ModernBERTs are published.

The keys of config.json, the special tokens and where they stand, the kind of tokenizer
and the names and dtype of the tensors follow what is known of the published files;
sizes, vocabularies and weights are toys. What stands in the files says how they are to
be read. The names here are only for whoever reads the tests.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import torch
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import ModernBertModel

from .util import encoder_of, make_masked_lm, make_oracle, to_new_dialect

TEXTS = [
    "My father's eyes had closed upon the light of this world six months.",
    "東京都の小説家、夏目漱石は1867年に生まれた。",
    "彼女は「ありがとう」と言った👩‍👩‍👧‍👦🙂🙃。ｶﾀｶﾅと①も。",
    "London　と 東京,  Москва…\n\nnaïve café ﬁn ½ ㍿ が ゙",
    "𠮷野家で🍣を食べた。<mask> </s> [SEP] <0x41>",
]

_CORPUS = TEXTS[:3] * 3


@dataclass(frozen=True)
class Layout:
    """How a checkpoint is published.

    tokenizer (Callable[[], Tokenizer]): Makes the tokenizer.
    special (Dict[str, str]): The special tokens that tokenizer_config.json names.
    around (Tuple[List[str], List[str]]): What the tokenizer puts around a text.
    config (Dict[str, Any]): What config.json says otherwise than ModernBERT-base.
    head (bool): Whether there is one, and the encoder's tensors begin with "model.".
    dtype (torch.dtype): The dtype of the tensors.
    new_dialect (bool): Whether config.json is one of transformers 5.
    """

    tokenizer: Callable[[], Tokenizer]
    special: Dict[str, str]
    around: Tuple[List[str], List[str]]
    config: Dict[str, Any] = field(default_factory=dict)
    head: bool = True
    dtype: torch.dtype = torch.float32
    new_dialect: bool = False


def make(layout: Layout, folder: Path) -> ModernBertModel:
    """Write a checkpoint.

    folder (Path): Where to.
    RETURNS (ModernBertModel): What transformers reads in it.
    """
    tokenizer = layout.tokenizer()
    tokens = {name: tokenizer.token_to_id(t) for name, t in layout.special.items()}
    ids = {f"{name.removesuffix('_token')}_token_id": i for name, i in tokens.items()}
    ids.pop("unk_token_id", None)
    ids.pop("mask_token_id", None)
    make_model = make_masked_lm if layout.head else make_oracle
    settings = {"vocab_size": tokenizer.get_vocab_size() + 9, **ids, **layout.config}
    model = make_model(**settings).to(layout.dtype)
    model.save_pretrained(folder)
    # As read by transformers, which may not know the new dialect yet.
    model = type(model).from_pretrained(folder, torch_dtype=torch.float32)
    if layout.new_dialect:
        to_new_dialect(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        # What transformers writes where there is no limit.
        "model_max_length": int(1e30),
        "model_input_names": ["input_ids", "attention_mask"],
        **layout.special,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    (folder / "special_tokens_map.json").write_text(json.dumps(layout.special))
    return encoder_of(model).eval()


def _surround(tokenizer: Tokenizer, single: str, pair: str) -> Tokenizer:
    names = {word for word in pair.split() if not word.startswith("$")}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single,
        pair=pair,
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in names],
    )
    return tokenizer


def olmo() -> Tokenizer:
    """Byte-level BPE on NFC; runs of spaces as added tokens; `[MASK]` takes the space
    before it. The special tokens come last.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=False, trim_offsets=True, use_regex=True
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=350,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in (4, 3, 2)])
    names = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names])
    tokenizer.add_special_tokens([AddedToken("[MASK]", special=True, lstrip=True)])
    pair = "[CLS] $A [SEP] $B [SEP]"
    return _surround(tokenizer, "[CLS] $A [SEP]", pair)


def _bytes() -> List[str]:
    return [f"<0x{byte:02X}>" for byte in range(256)]


def _unigram(special: List[str], scheme: str) -> Tokenizer:
    """SentencePiece Unigram with byte fallback. Some characters of `TEXTS` are in the
    vocabulary, some have to be spelled in bytes.
    """
    pieces = [
        "▁",
        "東京",
        "東京都",
        "の",
        "小説",
        "は",
        "年",
        "に",
        "生まれ",
        "た",
        "。",
    ]
    pieces += [
        "、",
        "ありがとう",
        "と",
        "言った",
        "彼女",
        "「",
        "」",
        "を",
        "食べ",
        "も",
    ]
    pieces += [
        "▁London",
        "▁the",
        "▁of",
        "株式会社",
        "カタカナ",
        "が",
        *"abcdefghilmnorstu",
    ]
    vocab = [(token, 0.0) for token in special]
    vocab += [(piece, -4.0 - 1 / len(piece)) for piece in pieces]
    vocab += [(byte, -20.0) for byte in _bytes()]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
        prepend_scheme=scheme, split=False
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return tokenizer


def sarashina() -> Tokenizer:
    """As a Llama tokenizer that is not "legacy": no space put before a text, nothing
    normalized. `<cls>` and `<sep>` are known, and never put around a text.
    """
    names = ["<unk>", "<s>", "</s>", "<mask>", "<sep>", "<pad>", "<cls>"]
    pair = "<s> $A </s> <s> $B </s>"
    return _surround(_unigram(names, "never"), "<s> $A </s>", pair)


def llm_jp() -> Tokenizer:
    """NFKC, which changes lengths; a space put before the text."""
    names = [f"<{name}|LLM-jp>" for name in ("unk", "CLS", "SEP", "pad", "mask")]
    tokenizer = _unigram(names, "always")
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    single = "<CLS|LLM-jp> $A <SEP|LLM-jp>"
    return _surround(tokenizer, single, f"{single} $B <SEP|LLM-jp>")


def gemma() -> Tokenizer:
    """BPE with byte fallback, in which spaces are made "▁"; `<bos> A <eos>`."""
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    characters = sorted({c for c in "".join(TEXTS[:2]) if c != " "} - set("漱石"))
    pieces = [*names, *_bytes(), "▁", *characters, "東京", "▁t", "▁th", "▁the"]
    merges = [("東", "京"), ("▁", "t"), ("▁t", "h"), ("▁th", "e")]
    tokenizer = Tokenizer(
        models.BPE(
            {piece: id for id, piece in enumerate(pieces)},
            merges,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names])
    return _surround(tokenizer, "<bos> $A <eos>", "<bos> $A <eos> $B <eos>")


def bare() -> Tokenizer:
    """Without a post-processor: nothing is put around a text."""
    tokenizer = Tokenizer.from_str(olmo().to_str())
    data = json.loads(tokenizer.to_str())
    data["post_processor"] = None
    return Tokenizer.from_str(json.dumps(data))


_BERT = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}
_SARASHINA = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "cls_token": "<cls>",
    "sep_token": "<sep>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
_LLM_JP = {
    "cls_token": "<CLS|LLM-jp>",
    "sep_token": "<SEP|LLM-jp>",
    "pad_token": "<pad|LLM-jp>",
    "unk_token": "<unk|LLM-jp>",
    "mask_token": "<mask|LLM-jp>",
}
_GEMMA = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "cls_token": "<eos>",
    "sep_token": "<eos>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}

_OLD_NAMES: Dict[str, Any] = {
    "layer_norm_eps": 1e-5,
    "position_embedding_type": "absolute",
}

LAYOUTS: Dict[str, Layout] = {
    "answerdotai/ModernBERT-base": Layout(
        olmo, _BERT, (["[CLS]"], ["[SEP]"]), {**_OLD_NAMES, "num_hidden_layers": 4}
    ),
    "answerdotai/ModernBERT-large": Layout(
        olmo,
        _BERT,
        (["[CLS]"], ["[SEP]"]),
        {
            **_OLD_NAMES,
            "num_hidden_layers": 7,
            "hidden_size": 64,
            "intermediate_size": 164,  # no multiple of 8, nor is 2,624 one of 128
            "classifier_pooling": "mean",
        },
    ),
    "sbintuitions/modernbert-ja": Layout(
        sarashina,
        _SARASHINA,
        (["<s>"], ["</s>"]),
        {"position_embedding_type": "rope", "classifier_pooling": "cls"},
        dtype=torch.bfloat16,
    ),
    "llm-jp/llm-jp-modernbert-base": Layout(
        llm_jp,
        _LLM_JP,
        (["<CLS|LLM-jp>"], ["<SEP|LLM-jp>"]),
        {**_OLD_NAMES, "global_rope_theta": 10000.0},
    ),
    "jhu-clsp/ettin-encoder": Layout(
        olmo,
        _BERT,
        (["[CLS]"], ["[SEP]"]),
        {
            "position_embedding_type": "sans_pos",
            "local_rope_theta": 160000.0,
            "max_position_embeddings": 7999,
        },
    ),
    "jhu-clsp/mmBERT": Layout(
        gemma,
        _GEMMA,
        (["<bos>"], ["<eos>"]),
        {"position_embedding_type": "sans_pos", "local_rope_theta": 160000.0},
        new_dialect=True,
    ),
    "Alibaba-NLP/gte-modernbert-base": Layout(
        olmo,
        _BERT,
        (["[CLS]"], ["[SEP]"]),
        {**_OLD_NAMES, "classifier_pooling": "mean"},
        head=False,
        dtype=torch.float16,
    ),
    "cl-nagoya/ruri-v3": Layout(
        sarashina, _SARASHINA, (["<s>"], ["</s>"]), {"num_hidden_layers": 5}, head=False
    ),
    "without a post-processor": Layout(bare, _BERT, ([], []), _OLD_NAMES),
}
