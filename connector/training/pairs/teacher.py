"""A cross-encoder as a teacher: it reads a question and a document together and gives one score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from latent_ingest.connector.encoding.hub import find_folder
from latent_ingest.connector.encoding.transformer.loading import first_line, quiet
from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.training.pairs.reading import Pair

# Questions and documents that are read at once.
READ_AT_ONCE = 32

# Tokens of a question and its document; longer ones are cut. Cross-encoders are trained on as many.
MAX_TOKENS = 512


class CrossEncoder:
    """A model for sequence classification with one output; it stays as it is."""

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self._model, self._tokenizer, self._name = model, tokenizer, name
        positions = getattr(model.config, "max_position_embeddings", MAX_TOKENS)
        self._max_tokens = min(MAX_TOKENS, positions, tokenizer.model_max_length)

    @classmethod
    def load(cls, name: str, device: torch.device) -> CrossEncoder:
        """Load a folder or a model of the Hugging Face hub, in float32.

        Raises:
            ModelError: it is not found, cannot be loaded, or gives other than one score.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        folder = find_folder(name)
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
            with quiet():
                model, told = AutoModelForSequenceClassification.from_pretrained(
                    folder, dtype=torch.float32, output_loading_info=True, **options
                )
        except Exception as error:  # transformers raises many kinds of errors
            reason = first_line(error)
            raise ModelError(f"{name}: cannot be loaded as a cross-encoder: {reason}") from error
        if missing := sorted(told["missing_keys"]):
            raise ModelError(
                f"{name}: {missing[0]} is not in its files, so it gives no score of a question "
                f"and a document; name a trained cross-encoder"
            )
        if tokenizer.pad_token is None:
            raise ModelError(f"{name}: its tokenizer has no padding; name another cross-encoder")
        if model.config.num_labels != 1:
            raise ModelError(
                f"{name}: gives {model.config.num_labels} values for a question and a document; "
                f"name a cross-encoder that gives one score"
            )
        # Causal models find a text's last token by it.
        model.config.pad_token_id = tokenizer.pad_token_id
        return cls(model.to(device).eval().requires_grad_(False), tokenizer, name)

    @torch.no_grad()
    def scores(self, pairs: Sequence[Pair]) -> torch.Tensor:
        """How well each document answers its question: logits, float32 `[n_pairs]`.

        Raises:
            ModelError: a score is not finite.
        """
        found = [torch.empty(0, device=self._model.device)]
        for start in range(0, len(pairs), READ_AT_ONCE):
            some = pairs[start : start + READ_AT_ONCE]
            read = self._tokenizer(
                [pair.question for pair in some],
                [pair.document for pair in some],
                padding=True,
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            ).to(self._model.device)
            found.append(self._model(**read).logits[:, 0].float())
        logits = torch.cat(found)
        if not logits.isfinite().all():
            raise ModelError(f"{self._name}: gives NaN or infinity as a score; check its weights")
        return logits
