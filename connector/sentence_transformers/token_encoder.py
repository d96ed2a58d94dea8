"""Token embeddings → active latents, as a module of sentence-transformers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Module

from latent_ingest.connector import terms
from latent_ingest.connector.encoding.autoencoder import (
    FREQUENCIES_FILE,
    AutoencoderConfig,
    TokenAutoencoder,
    write_weights,
)
from latent_ingest.connector.encoding.fingerprint import autoencoder_fingerprint
from latent_ingest.connector.encoding.model_folder import write_json
from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.inspection.labels import LABELS_FILE, read_labels

VARIANTS = {"standard": "topk", "jumprelu": "jumprelu"}


class SparseAutoEncoderTokenEncoder(Module):
    """Adds `token_sparse_values` and `token_sparse_indices` to `token_embeddings`.

    In training mode, with a decoder, also `sae_input_normalized` and `sae_output_decoded`, each
    `[n_tokens, input_dim]`: the tokens that are not padding, one text after the other.
    """

    autoencoder: TokenAutoencoder
    labels: dict[int, str]
    """Latent → label, if the folder it was loaded from has labels."""

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        k: int = 16,
        variant: str = "standard",
        has_decoder: bool = True,
        rms_scale: float | None = None,
    ) -> None:
        """Start untrained: a Kaiming decoder with rows of unit norm, the encoder its transpose.

        Args:
            input_dim: width of a token embedding.
            hidden_dim: number of latents.
            k: active latents per token.
            variant: "standard" (the k largest), or "jumprelu" (those above their threshold).
            has_decoder: needed for training; doubles the weights.
            rms_scale: factor on embeddings before they are normalized, if there is no mean of the
                data.

        Raises:
            ModelError: sizes do not fit together, or an unknown variant.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        if variant not in VARIANTS:
            raise ModelError(f"variant {variant!r}: use one of {', '.join(VARIANTS)}")
        config = AutoencoderConfig(input_dim, hidden_dim, k, VARIANTS[variant], rms_scale)
        autoencoder = TokenAutoencoder(config)
        autoencoder.initialize(torch.default_generator)
        if not has_decoder:
            autoencoder.W_dec = None
        self._hold(autoencoder)

    @classmethod
    def of(cls, autoencoder: TokenAutoencoder) -> SparseAutoEncoderTokenEncoder:
        """Wrap an existing autoencoder, without copying it."""
        module = cls.__new__(cls)
        Module.__init__(module)  # type: ignore[no-untyped-call]
        module._hold(autoencoder)
        return module

    def _hold(self, autoencoder: TokenAutoencoder) -> None:
        self.autoencoder = autoencoder
        self.labels = {}
        self._labels_file = b""
        self._fingerprint = autoencoder_fingerprint(autoencoder)

    def on_model_ready(self, model: Any) -> None:
        """Let `SparseEncoder.decode` name latents instead of tokens."""
        model.decode = LatentNames(self.labels).decode

    @property
    def k(self) -> int:
        """Active latents per token."""
        return self.autoencoder.config.k

    @k.setter
    def k(self, k: int) -> None:
        self.autoencoder.config = dataclasses.replace(self.autoencoder.config, k=k)

    def forward(
        self, features: dict[str, Any], max_active_dims: int | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Add the active latents of each token.

        Args:
            features: `token_embeddings`, padded `[n_texts, seq, input_dim]` with
                `attention_mask`; or packed `[1, n_tokens, input_dim]` or `[n_tokens, input_dim]`
                with `cu_seq_lens_q`; or flattened `[n_tokens, input_dim]`, one text.
            max_active_dims: active latents per token, in place of `k`. (A SparseEncoder's
                `max_active_dims` is a number of latents per text.)
            kwargs: not used.

        Returns:
            The features with `token_sparse_values` and `token_sparse_indices`, shaped like the
            embeddings except for the last dimension, `k`; values of padding are zero.
        """
        hidden = features["token_embeddings"]
        bounds = features.get("cu_seq_lens_q")
        mask = features.get("attention_mask") if bounds is None and hidden.ndim == 3 else None
        model = self.autoencoder
        found = model.encode(hidden, attention_mask=mask, cu_seq_lens=bounds, k=max_active_dims)
        if model.training and model.W_dec is not None:
            packed = hidden.flatten(0, -2) if mask is None else hidden[mask.bool()]
            features["sae_input_normalized"] = model.normalize(packed)
            features["sae_output_decoded"] = model.reconstruct(found.top_acts, found.top_indices)
        features["token_sparse_values"] = unpacked(found.top_acts, hidden, mask)
        features["token_sparse_indices"] = unpacked(found.top_indices, hidden, mask)
        return features

    def get_embedding_dimension(self) -> int:
        """Number of latents."""
        return self.autoencoder.config.n_latents

    def get_config_dict(self) -> dict[str, Any]:
        """Content of config.json, with the pull request's names."""
        config = self.autoencoder.config
        return {
            "input_dim": config.d_in,
            "hidden_dim": config.n_latents,
            "k": config.k,
            "variant": "standard" if config.variant == "topk" else config.variant,
            "has_decoder": self.autoencoder.W_dec is not None,
            "rms_scale": config.rms_scale,
        }

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write config.json and model.safetensors, in the dtype of the weights.

        Document frequencies and labels are written, too, unless the weights were changed since.
        """
        folder = Path(output_path)
        weights = self.autoencoder.state_dict()
        frequency = weights.pop("document_frequency", None)
        write_weights(folder / "model.safetensors", weights)
        write_json(folder / "config.json", self.get_config_dict())
        for file in (FREQUENCIES_FILE, LABELS_FILE):
            (folder / file).unlink(missing_ok=True)
        if autoencoder_fingerprint(self.autoencoder) != self._fingerprint:
            return
        if frequency is not None:
            n_documents = torch.tensor(self.autoencoder.config.n_documents)
            counts = {"document_frequency": frequency, "n_documents": n_documents}
            write_weights(folder / FREQUENCIES_FILE, counts)
        if self._labels_file:
            (folder / LABELS_FILE).write_bytes(self._labels_file)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        init_defaults: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> SparseAutoEncoderTokenEncoder:
        """Read a folder written by `save` or `latent-ingest train`, on disk or on the hub.

        Raises:
            ModelError: a file is missing or broken, or weights and config disagree.
        """
        found = cls.load_dir_path(
            model_name_or_path, subfolder, token, cache_folder, revision, local_files_only
        )
        if found is None:
            raise ModelError(f"{model_name_or_path}: has no folder {subfolder}")
        folder = Path(found)
        module = cls.of(TokenAutoencoder.load(folder))
        model = folder.parent if subfolder else folder
        module.labels = read_labels(model, module._fingerprint)
        if module.labels:
            module._labels_file = (folder / LABELS_FILE).read_bytes()
        return module


class LatentNames:
    """Names latents where `SparseEncoder.decode` would look up tokens."""

    decode: Any = SparseEncoder.decode

    def __init__(self, labels: Mapping[int, str]) -> None:
        """Name latents by their latent terms and, if they have some, their labels."""
        self._labels = labels
        self.tokenizer = self
        """The object `decode` looks up names in."""

    def convert_ids_to_tokens(self, latents: Sequence[int]) -> list[str]:
        """12 → "f12", or "f12 (glob, pattern)"."""
        return [
            terms.term(latent) + (f" ({self._labels[latent]})" if self._labels.get(latent) else "")
            for latent in latents
        ]


def unpacked(packed: torch.Tensor, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Reshape `[n_tokens, k]` like `hidden` except for the last dimension; padding is zero."""
    shape = (*hidden.shape[:-1], packed.shape[-1])
    if mask is None:
        return packed.reshape(shape)
    return packed.new_zeros(shape).masked_scatter(mask.bool().unsqueeze(-1), packed)
