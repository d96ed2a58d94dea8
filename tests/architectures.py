"""Tiny random backbones of the architectures in use, each with a tokenizer of the real one's kind.

All are made here, with a vocabulary learned from `SAMPLE`; nothing is downloaded. Their window is
32 tokens, so that a few sentences are longer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers.base.modules import Dense
from tokenizers import (
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

# Most tokens of a text, special tokens included.
WINDOW = 32

SAMPLE = {
    "english": "The falling of older adults: does vitamin D prevent it? Naïve readers don't know.",
    "chinese": "维生素D能预防老年人跌倒吗？研究表明，补充维生素可以降低风险。我们不知道为什么。",
    "japanese": "ビタミンDは高齢者の転倒を防ぐか。研究によると、リスクが下がります。東京ﾀﾜｰです。",
    "thai": "วิตามินดีช่วยป้องกันการหกล้มในผู้สูงอายุหรือไม่ การศึกษาแสดงว่าน้ำมีความสำคัญ",
    "arabic": "هل يمنع فيتامين د سقوط كبار السن؟ تُظهر الدراسات انخفاض الخطر. لا نعرف السبب",
    "german": "Die Donaudampfschifffahrtsgesellschaft prüft Versicherungskarten für Großeltern.",
    "emoji": "Falls 🙂 and 👩‍👩‍👧 of ﬁve ｗｉｄｅ letters, e\u0301 and ① too.",
}

BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
GEMMA = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Architecture:
    """How to write one kind of backbone."""

    config: type[Any]
    tokenizer: Callable[[], PreTrainedTokenizerFast]
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of `config` besides those in `SMALL`."""
    pooling: str = "mean"
    """Pooling of the sentence-transformers model; empty for a late-interaction model."""
    prompts: dict[str, str] = field(default_factory=dict)
    projected: bool = False
    """Whether a Dense module projects each token to 8 dimensions."""


SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": WINDOW,
}


def enclosed(made: Tokenizer, before: str, after: str) -> None:
    """Put special tokens around each text; `before` or `after` may be empty."""
    ids = [(name, made.token_to_id(name)) for name in {before, after} - {""}]
    made.post_processor = processors.TemplateProcessing(
        single=f"{before} $A {after}".split(), special_tokens=ids
    )


def wordpiece(*, mpnet: bool = False) -> PreTrainedTokenizerFast:
    """WordPiece after BERT's normalization, as of BERT, MPNet, DistilBERT, ELECTRA, NomicBERT."""
    special = ROBERTA if mpnet else BERT
    made = Tokenizer(models.WordPiece(unk_token="<unk>" if mpnet else "[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=400, special_tokens=list(special), show_progress=False
    )
    made.train_from_iterator(SAMPLE.values(), trainer)
    first, last = ("<s>", "</s>") if mpnet else ("[CLS]", "[SEP]")
    enclosed(made, first, last)
    if mpnet:
        made.post_processor = processors.RobertaProcessing(
            (last, made.token_to_id(last)), (first, made.token_to_id(first)), True, False
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        cls_token=first,
        sep_token=last,
        pad_token="<pad>" if mpnet else "[PAD]",
        unk_token="<unk>" if mpnet else "[UNK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def bytes_of(kind: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as of RoBERTa, ModernBERT (special tokens of BERT) and Qwen."""
    special = {"roberta": ROBERTA, "modernbert": BERT, "qwen": QWEN}[kind]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if kind != "roberta":
        made.normalizer = normalizers.NFC()
    if kind == "qwen":
        split = pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated")
        plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made.pre_tokenizer = pre_tokenizers.Sequence([split, plain])
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(SAMPLE.values(), trainer)
    if kind == "roberta":
        made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
        names = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}
    elif kind == "modernbert":
        enclosed(made, "[CLS]", "[SEP]")
        names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    else:
        enclosed(made, "", "<|endoftext|>")
        names = {
            "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "padding_side": "left",
        }  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)


def unigram(special: tuple[str, ...] = ROBERTA) -> PreTrainedTokenizerFast:
    """SentencePiece's Unigram with a space at the front, as of XLM-R and DeBERTa-v2."""
    xlmr = special == ROBERTA
    unknown = "<unk>" if xlmr else "[UNK]"
    made = Tokenizer(models.Unigram())
    space = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    if xlmr:
        made.normalizer = normalizers.NFKC()
        made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), space])
    else:
        made.normalizer = normalizers.Sequence(
            [
                normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "),
                normalizers.NFC(),
                normalizers.Strip(left=False, right=True),
            ]
        )
        made.pre_tokenizer = space
    trainer = trainers.UnigramTrainer(
        vocab_size=500, special_tokens=list(special), unk_token=unknown, show_progress=False
    )
    made.train_from_iterator(SAMPLE.values(), trainer)
    first, last = ("<s>", "</s>") if xlmr else ("[CLS]", "[SEP]")
    enclosed(made, first, last)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        cls_token=first,
        sep_token=last,
        pad_token="<pad>" if xlmr else "[PAD]",
        unk_token=unknown,
    )


def gemma() -> PreTrainedTokenizerFast:
    """SentencePiece's BPE with bytes for unknown letters and no space at the front, as of Gemma."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=480, special_tokens=[*GEMMA, *bytes_], limit_alphabet=60, show_progress=False
    )
    made.train_from_iterator(SAMPLE.values(), trainer)
    enclosed(made, "<bos>", "<eos>")
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>",
        unk_token="<unk>", padding_side="left",
    )  # fmt: skip


ROPED = {"num_key_value_heads": 1, "head_dim": 16}

ARCHITECTURES = {
    "BERT": Architecture(transformers.BertConfig, wordpiece),
    "RoBERTa": Architecture(
        transformers.RobertaConfig,
        lambda: bytes_of("roberta"),
        {"max_position_embeddings": WINDOW + 2, "pad_token_id": 1, "type_vocab_size": 1},
    ),
    "XLM-R": Architecture(
        transformers.XLMRobertaConfig,
        unigram,
        {"max_position_embeddings": WINDOW + 2, "pad_token_id": 1, "type_vocab_size": 1},
        prompts={"query": "query: ", "document": "passage: "},
    ),
    "MPNet": Architecture(
        transformers.MPNetConfig,
        lambda: wordpiece(mpnet=True),
        {"max_position_embeddings": WINDOW + 2, "pad_token_id": 1},
    ),
    "ModernBERT": Architecture(
        transformers.ModernBertConfig,
        lambda: bytes_of("modernbert"),
        {"pad_token_id": 0, "local_attention": 16, "cls_token_id": 2, "sep_token_id": 3},
        pooling="cls",
    ),
    "NomicBERT": Architecture(
        transformers.NomicBertConfig,
        wordpiece,
        prompts={"query": "search_query: ", "document": "search_document: "},
    ),
    "DistilBERT": Architecture(transformers.DistilBertConfig, wordpiece),
    "ELECTRA": Architecture(transformers.ElectraConfig, wordpiece, {"embedding_size": 16}),
    "DeBERTa-v2": Architecture(
        transformers.DebertaV2Config,
        lambda: unigram(BERT),
        {
            "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0,
            "position_biased_input": False, "share_att_key": True, "norm_rel_ebd": "layer_norm",
            "position_buckets": 16,
        },
        pooling="cls",
    ),
    "EmbeddingGemma": Architecture(
        transformers.Gemma3TextConfig,
        gemma,
        {**ROPED, "use_bidirectional_attention": True, "sliding_window": 16},
        prompts={
            "query": "task: search result | query: ", "document": "title: none | text: ",
        },
    ),
    "Qwen3-Embedding": Architecture(
        transformers.Qwen3Config,
        lambda: bytes_of("qwen"),
        ROPED,
        pooling="lasttoken",
        prompts={"query": "Instruct: find passages\nQuery:"},
    ),
    "ColBERT": Architecture(
        transformers.ModernBertConfig,
        lambda: bytes_of("modernbert"),
        {"pad_token_id": 0, "local_attention": 16, "cls_token_id": 2, "sep_token_id": 3},
        pooling="",
        projected=True,
    ),
}  # fmt: skip


def write_backbone(folder: Path, name: str, *, seed: int = 0) -> Path:
    """Write the backbone `name` of `ARCHITECTURES`, with the files of sentence-transformers."""
    architecture = ARCHITECTURES[name]
    tokenizer = architecture.tokenizer()
    settings = {**SMALL, **architecture.settings, "vocab_size": len(tokenizer)}
    torch.manual_seed(seed)
    model = transformers.AutoModel.from_config(architecture.config(**settings))
    with torch.no_grad():  # differences between tokens and positions are to be seen
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    home = "sentence_transformers.models."
    modules = [{"idx": 0, "name": "0", "path": "", "type": home + "Transformer"}]
    if architecture.projected:
        modules.append({"idx": 1, "name": "1", "path": "1_Dense", "type": home + "Dense"})
        (folder / "1_Dense").mkdir()
        Dense(32, 8, module_input_name="token_embeddings").save(str(folder / "1_Dense"))
    if architecture.pooling:
        modules.append({"idx": 1, "name": "1", "path": "1_Pooling", "type": home + "Pooling"})
        (folder / "1_Pooling").mkdir()
        names = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}
        pooling = {
            f"pooling_mode_{name}": key == architecture.pooling for key, name in names.items()
        }
        pooling_file = folder / "1_Pooling" / "config.json"
        pooling_file.write_text(json.dumps({"word_embedding_dimension": 32, **pooling}))
    (folder / "modules.json").write_text(json.dumps(modules))
    prompts = {"prompts": architecture.prompts}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    return folder
