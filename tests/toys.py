"""Backbones and models of some kilobytes, for tests that do not depend on meaning."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from sentence_transformers.base.modules import Dense
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from latent_ingest.connector.encoding.autoencoder import AutoencoderConfig, TokenAutoencoder
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.model_folder import write_modules
from latent_ingest.connector.encoding.projection import projection_paths

WORDS = "a find files that match the trees of words in wait until it ends query passage"

# Character that stands for the space before a word and belongs to the word's token.
SPACES = {"words": "", "metaspace": "▁", "bytes": "Ġ"}

PROMPTS = {"query": "query: ", "document": "the passage: "}

TEXTS = ["find files that match", "trees", " words of the trees", "", "水 in files wait"]


def toy_tokenizer(kind: str = "words") -> PreTrainedTokenizerFast:
    """A tokenizer with one token per word; `kind` is a key of `SPACES`."""
    space = SPACES[kind]
    words = [*WORDS.split(), "query:", ":", "passage:"]
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", space, *words, *(space + word for word in words)]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys(names))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = {
        "words": pre_tokenizers.BertPreTokenizer(),
        "metaspace": pre_tokenizers.Metaspace(),
        "bytes": pre_tokenizers.ByteLevel(add_prefix_space=False),
    }[kind]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]",
    )  # fmt: skip


def toy_backbone(
    folder: Path,
    kind: str = "words",
    *,
    prompts: dict[str, str] | None = None,
    projected: bool = False,
    seed: int = 0,
) -> Path:
    """Write a random backbone; token embeddings are 16 wide, or 8 if `projected`."""
    torch.manual_seed(seed)
    tokenizer = toy_tokenizer(kind)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    if projected:
        home = "sentence_transformers.base.modules."
        modules = [
            {"idx": 0, "name": "0", "path": "", "type": home + "transformer.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Dense", "type": home + "dense.Dense"},
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Dense").mkdir()
        Dense(16, 8, module_input_name="token_embeddings").save(str(folder / "1_Dense"))
    return folder


def toy_model(folder: Path, backbone: Path, *, decoder: bool = True) -> Path:
    """Write an untrained model folder as `latent-ingest train` does: 32 latents, 4 per token."""
    encoder = Backbone.load(str(backbone), device="cpu", dtype="float32")
    autoencoder = TokenAutoencoder(
        AutoencoderConfig(
            d_in=encoder.d_in,
            n_latents=32,
            k=4,
            backbone=str(backbone),
            backbone_fingerprint=encoder.fingerprint,
            n_documents=1000,
        )
    )
    autoencoder.initialize(torch.Generator().manual_seed(0))
    autoencoder.document_frequency = torch.arange(32.0) + 300
    autoencoder.save(folder, decoder=decoder)
    write_modules(
        folder,
        n_latents=32,
        pooling="sum",
        prompts=encoder.prompts,
        projections=projection_paths(backbone),
    )
    return folder
