"""Latents of tokens → one vector per text, as a module of sentence-transformers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Module
from sentence_transformers.sentence_transformer.modules import Pooling

from latent_ingest.connector.encoding.autoencoder import TokenLatents, boundaries
from latent_ingest.connector.encoding.pooling import POOLINGS, pool
from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.sentence_transformers.model_card import describe


class SparseTokenPooling(Pooling):
    """Pools `token_sparse_values` and `token_sparse_indices` to `sentence_embedding`.

    Special tokens are not counted, as in `LatentEncoder`, which never counts prompts either. It is
    a `Pooling` so that `SparseEncoder.set_pooling_include_prompt` finds it.
    """

    POOLING_STRATEGIES = POOLINGS

    config_keys: list[str] = [  # noqa: RUF012
        "embedding_dimension",
        "pooling_strategy",
        "include_prompt",
        "values_key",
        "indices_key",
    ]

    def __init__(
        self,
        embedding_dimension: int,
        pooling_strategy: str = "sum",
        include_prompt: bool = True,
        values_key: str = "token_sparse_values",
        indices_key: str = "token_sparse_indices",
        special_tokens: tuple[int, int] | None = None,
    ) -> None:
        """Pool over texts.

        Args:
            embedding_dimension: number of latents.
            pooling_strategy: "sum", "max" or "max_log1p".
            include_prompt: whether to count the prompt's tokens; a model for an index must not.
            values_key: feature with the activations.
            indices_key: feature with the latents.
            special_tokens: number of special tokens before and after each text; by default what the
                model's tokenizer adds, once the module is part of a SparseEncoder, and none before.

        Raises:
            ModelError: an unknown strategy.
        """
        Module.__init__(self)  # type: ignore[no-untyped-call]
        if pooling_strategy not in POOLINGS:
            raise ModelError(f"pooling {pooling_strategy!r}: use one of {', '.join(POOLINGS)}")
        self.embedding_dimension = embedding_dimension
        self.pooling_strategy = pooling_strategy
        self.include_prompt = include_prompt
        self.values_key = values_key
        self.indices_key = indices_key
        self.special_tokens = special_tokens
        self._tokenizer_adds: tuple[int, int] = (0, 0)
        self._tokenizer: Any = None
        # In a list, so that torch does not register the model as a submodule of its module.
        self._model: list[BaseModel] = []

    def on_model_ready(self, model: BaseModel) -> None:
        """Ask the model's tokenizer for its special tokens, and describe the model in its card."""
        describe(model.model_card_data)
        self._tokenizer = tokenizer_before(self, model)
        if self._tokenizer is not None:
            self._model = [model]
            special = self._tokenizer("x", return_special_tokens_mask=True)["special_tokens_mask"]
            self._tokenizer_adds = (special.index(0), special[::-1].index(0))

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `sentence_embedding`, dense `[n_texts, embedding_dimension]`, in the values' dtype.

        Values and indices are padded, packed or flattened like the embeddings of
        `SparseAutoEncoderTokenEncoder`, with the same masks and bounds.
        """
        values, indices = features[self.values_key], features[self.indices_key]
        counted = self.counted(features, values).flatten()
        text, n_texts = texts_of(features, values)
        latents = TokenLatents(
            values.flatten(0, -2)[counted].float(),
            indices.flatten(0, -2)[counted],
            boundaries(torch.bincount(text[counted], minlength=n_texts)),
        )
        texts, found, pooled = pool(latents, self.embedding_dimension, self.pooling_strategy)
        vectors = values.new_zeros(n_texts, self.embedding_dimension)
        features["sentence_embedding"] = vectors.index_put((texts, found), pooled.to(vectors.dtype))
        return features

    def counted(self, features: dict[str, Any], tokens: torch.Tensor) -> torch.Tensor:
        """Which tokens count: bool `[n_texts, seq]` if padded, else `[n_tokens]`.

        `tokens` is a feature of the tokens: padded, packed or flattened.
        """
        text, n_texts = texts_of(features, tokens)
        mask = torch.ones_like(text, dtype=torch.bool)
        padded = tokens.ndim == 3 and "cu_seq_lens_q" not in features
        if padded and "attention_mask" in features:
            mask = features["attention_mask"].flatten().bool()
        lengths = torch.bincount(text[mask], minlength=n_texts)
        place = mask.cumsum(0) - 1 - (lengths.cumsum(0) - lengths)[text]
        before, after = self.special_tokens or self._tokenizer_adds
        counted = mask & (place >= before) & (place < lengths[text] - after)
        if not self.include_prompt:
            counted &= ~self._of_prompt(features, mask, place)
        return counted.reshape(tokens.shape[:2]) if padded else counted

    def _of_prompt(
        self, features: dict[str, Any], mask: torch.Tensor, place: torch.Tensor
    ) -> torch.Tensor:
        """Which tokens belong to the prompt, bool.

        The library measures the length of a prompt alone. With tokenizers whose tokens begin with
        the space before a word, the last token of a prompt that ends in a space is that space;
        before a text, the space is part of the first word's token, which counts.
        """
        length = int(torch.as_tensor(features.get("prompt_length", 0)).flatten()[0])
        tokens: torch.Tensor = mask & (place < length)
        if length > 1 and "input_ids" in features:
            ids = features["input_ids"].reshape(place.shape)
            for prompt in self._prompts_ending_in_a_space():
                if len(prompt) == length:
                    same: torch.Tensor = ids == ids.new_tensor(prompt)[place.clamp(0, length - 1)]
                    if same[tokens & (place < length - 1)].all():
                        return tokens & same
        return tokens

    def _prompts_ending_in_a_space(self) -> Iterator[list[int]]:
        """Token ids of the model's prompts whose last token is a space, like the library's."""
        for prompt in {*filter(None, (p for m in self._model for p in m.prompts.values()))}:
            ids, shorter = self._ids(prompt), self._ids(prompt.rstrip())
            if ids[:-1] == shorter:
                yield ids

    def _ids(self, prompt: str) -> list[int]:
        """Token ids without special tokens at the end."""
        ids: list[int] = self._tokenizer(prompt)["input_ids"]
        return ids[: len(ids) - self._tokenizer_adds[1]]

    def get_config_dict(self) -> dict[str, Any]:
        """Content of config.json, with the pull request's names."""
        own = {} if self.special_tokens is None else {"special_tokens": self.special_tokens}
        return super().get_config_dict() | own

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write config.json."""
        Path(output_path).mkdir(parents=True, exist_ok=True)
        self.save_config(output_path)

    @classmethod
    def load_config(cls, model_name_or_path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The settings in config.json.

        Raises:
            ModelError: a setting is unknown.
        """
        config: dict[str, Any] = super().load_config(model_name_or_path, *args, **kwargs)
        if unknown := config.keys() - {*cls.config_keys, "special_tokens"}:
            raise ModelError(
                f"{model_name_or_path}: unknown {', '.join(sorted(unknown))} in the config.json of "
                f"its {cls.__name__}; made by a newer version?"
            )
        return config

    def get_embedding_dimension(self) -> int:
        """Number of latents."""
        return self.embedding_dimension


def tokenizer_before(module: Module, model: BaseModel) -> Any:
    """The tokenizer whose tokens come to a module: a Router has one on each route; None if none."""
    routes = [route for part in model for route in getattr(part, "sub_modules", {}).values()]
    part = next((route[0] for route in routes if module in list(route)), model)
    return getattr(part, "tokenizer", None)


def texts_of(features: dict[str, Any], tokens: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The text of each token, `[n_tokens]`, padding included; and the number of texts."""
    bounds = features.get("cu_seq_lens_q")
    if bounds is None:
        rows = tokens.shape[0] if tokens.ndim == 3 else 1
        lengths = torch.full((rows,), tokens.shape[-2], device=tokens.device)
    else:
        lengths = bounds.diff()
    return torch.arange(len(lengths), device=tokens.device).repeat_interleave(lengths), len(lengths)
