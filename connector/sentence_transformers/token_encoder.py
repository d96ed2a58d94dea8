"""Token embeddings → active latents, as a module of sentence-transformers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.modules import Module
from torch import nn

from latent_ingest.connector.encoding.autoencoder import (
    FREQUENCIES_FILE,
    AutoencoderConfig,
    TokenAutoencoder,
    write_weights,
)
from latent_ingest.connector.encoding.fingerprint import autoencoder_fingerprint
from latent_ingest.connector.encoding.model_folder import read_settings, write_json
from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.inspection.labels import LABELS_FILE, read_labels
from latent_ingest.connector.sentence_transformers.latent_names import LatentNames

VARIANTS = {"standard": "topk", "jumprelu": "jumprelu"}
OUTPUT_FORMATS = ("topk", "dense", "both")

# Settings of the module that the autoencoder's config does not have.
SETTINGS = {"output_format", "replace_token_embeddings", "k_aux", "frozen", "token_batch_size"}


def setting(name: str) -> Any:
    """A property for a setting in the autoencoder's config."""

    def change(module: TokenAutoencoder, value: Any) -> None:
        module.config = dataclasses.replace(module.config, **{name: value})

    return property(lambda module: getattr(module.config, name), change)


class SparseAutoEncoderTokenEncoder(TokenAutoencoder, Module):
    """Adds `token_sparse_values` and `token_sparse_indices` to `token_embeddings`.

    The embeddings are also kept as `backbone_token_embeddings`. In training mode, with a decoder,
    there are also `sae_input_normalized` and `sae_output_decoded`, each `[n_tokens, input_dim]`:
    the tokens that are not padding, one text after the other.
    """

    config_keys: list[str] = [  # noqa: RUF012
        "input_dim", "hidden_dim", "k", "variant", "output_format", "replace_token_embeddings",
        "has_decoder", "k_aux", "frozen", "rms_scale", "token_batch_size",
    ]  # fmt: skip
    input_dim, hidden_dim = setting("d_in"), setting("n_latents")
    k, rms_scale = setting("k"), setting("rms_scale")
    variant: Any = property(lambda self: "standard" if self.theta is None else "jumprelu")
    has_decoder: Any = property(lambda self: self.W_dec is not None)
    frozen: Any = property(
        lambda self: not self.W_enc.requires_grad,
        lambda self, frozen: self.requires_grad_(not frozen),
    )
    target_norm: Any = property(lambda self: math.sqrt(self.input_dim))
    autoencoder: Any = property(lambda self: self)
    """The module itself."""
    output_format = "topk"
    replace_token_embeddings = False
    k_aux: int | None = None
    labels: dict[int, str]
    """Latent → label, if the folder it was loaded from has labels."""

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        k: int = 16,
        variant: str = "standard",
        output_format: str = "topk",
        replace_token_embeddings: bool = False,
        has_decoder: bool = True,
        k_aux: int | None = None,
        frozen: bool = False,
        rms_scale: float | None = None,
        token_batch_size: int | None = None,
    ) -> None:
        """Start untrained: a Kaiming decoder with rows of unit norm, the encoder its transpose.

        Args:
            input_dim: width of a token embedding.
            hidden_dim: number of latents.
            k: active latents per token.
            variant: "standard" (the k largest), or "jumprelu" (those above their threshold).
            output_format: "topk"; or "dense" or "both", which also add `token_sparse_embeddings`,
                `hidden_dim` values for each token.
            replace_token_embeddings: put these in the place of `token_embeddings`, too.
            has_decoder: needed for training; doubles the weights.
            k_aux: dead latents per token that TokenReconstructionLoss revives, by default half of
                `input_dim`.
            frozen: keep the weights out of training.
            rms_scale: factor on embeddings before they are normalized, if there is no mean of the
                data.
            token_batch_size: tokens encoded at once, by default 4,096; fewer need less memory.

        Raises:
            ModelError: sizes do not fit together, or an unknown variant or output format.
        """
        check_choice("variant", variant, VARIANTS)
        check_choice("output_format", output_format, OUTPUT_FORMATS)
        if min(k_aux or 0, token_batch_size or 0) < 0:
            raise ModelError(f"k_aux {k_aux}, token_batch_size {token_batch_size}: below 0")
        config = AutoencoderConfig(input_dim, hidden_dim, k, VARIANTS[variant], rms_scale)
        super().__init__(config, decoder=has_decoder)
        self.initialize(torch.default_generator)
        self.output_format = output_format
        self.replace_token_embeddings = replace_token_embeddings
        self.k_aux = k_aux
        self.frozen = frozen
        self.token_batch_size = token_batch_size
        self._know({}, b"")

    @classmethod
    def of(cls, autoencoder: TokenAutoencoder) -> SparseAutoEncoderTokenEncoder:
        """Wrap an existing autoencoder, without copying it."""
        module = cls.__new__(cls)
        module.__dict__.update(autoencoder.__dict__)
        module._know({}, b"")
        return module

    def _know(self, labels: dict[int, str], file: bytes) -> None:
        """Take over labels, and the file they are from, of the weights as they are now."""
        self.labels, self._labels_file = labels, file
        self._fingerprint = autoencoder_fingerprint(self)

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, device: str = "cpu", **settings: Any
    ) -> SparseAutoEncoderTokenEncoder:
        """Read a file of `torch.save`: a dict of weights, by their names here, and a `config`.

        Args:
            path: of the file; nothing in it is executed.
            device: that the module is moved to.
            settings: of the constructor, in place of those in `config`; frozen by default.

        Raises:
            ModelError: the file cannot be read, or its parts do not make an autoencoder.
        """
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True)
            found = {n: v for n, v in stored.pop("config", {}).items() if n in cls.config_keys}
            found["input_dim"], found["hidden_dim"] = stored["W_enc"].shape
            found["has_decoder"] = "W_dec" in stored
            if "rms_scale" in stored:
                found["rms_scale"] = float(stored.pop("rms_scale"))
            module = cls(**{**found, "frozen": True, **settings})
            if module.W_dec is None:
                stored.pop("W_dec", None)
            module.load_state_dict(stored)
        except Exception as error:
            raise ModelError(f"{path}: no checkpoint of an autoencoder: {error}") from error
        module._know({}, b"")
        return module.to(device)

    def on_model_ready(self, model: Any) -> None:
        """Let `SparseEncoder.decode` name latents instead of tokens."""
        model.decode = LatentNames(self.labels).decode

    def reset_parameters(self) -> None:
        """Make the weights untrained, like those of a new module."""
        self.initialize(torch.default_generator)
        for vector in (self.b_enc, self.b_pre, self.theta):
            if vector is not None:
                nn.init.zeros_(vector)

    def encode_pre_act(self, tokens: torch.Tensor) -> torch.Tensor:
        """`(x - b_pre) @ W_enc + b_enc` of normalized embeddings, `[n_tokens, hidden_dim]`."""
        return (tokens - self.b_pre) @ self.W_enc + self.b_enc

    def encode_tokens(
        self, tokens: torch.Tensor, k: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Values and indices of the active latents, `[n_tokens, k]` each."""
        found = self.encode(tokens, k=k)
        return found.top_acts.to(self.W_enc.dtype), found.top_indices

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Normalized embeddings from dense latents, `[n_tokens, hidden_dim]`.

        Raises:
            ModelError: there is no decoder.
        """
        if self.W_dec is None:
            raise ModelError("the autoencoder has no decoder; use has_decoder=True")
        return latents @ self.W_dec + self.b_pre

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
        found = self.encode(hidden, attention_mask=mask, cu_seq_lens=bounds, k=max_active_dims)
        acts, indices = found.top_acts.to(self.W_enc.dtype), found.top_indices
        if self.training and self.W_dec is not None:
            packed = hidden.flatten(0, -2) if mask is None else hidden[mask.bool()]
            features["sae_input_normalized"] = self.normalize(packed).to(self.W_enc.dtype)
            features["sae_output_decoded"] = self.reconstruct(acts, indices)
        values, indices = unpacked(acts, hidden, mask), unpacked(indices, hidden, mask)
        features["backbone_token_embeddings"] = hidden
        features["token_sparse_values"], features["token_sparse_indices"] = values, indices
        if self.output_format != "topk" or self.replace_token_embeddings:
            dense = values.new_zeros(*values.shape[:-1], self.hidden_dim)
            features["token_sparse_embeddings"] = dense.scatter(-1, indices, values)
        if self.replace_token_embeddings:
            features["token_embeddings"] = features["token_sparse_embeddings"]
        return features

    def get_embedding_dimension(self) -> int:
        """Number of latents."""
        return self.config.n_latents

    def get_config_dict(self) -> dict[str, Any]:
        """Content of config.json, without what is None."""
        return {key: v for key, v in super().get_config_dict().items() if v is not None}

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Write config.json and model.safetensors, in the dtype of the weights.

        Document frequencies and labels are written, too, unless the weights were changed since.
        """
        folder = Path(output_path)
        folder.mkdir(parents=True, exist_ok=True)
        weights = self.state_dict()
        frequency = weights.pop("document_frequency", None)
        write_weights(folder / "model.safetensors", weights)
        write_json(folder / "config.json", self.get_config_dict())
        for file in (FREQUENCIES_FILE, LABELS_FILE):
            (folder / file).unlink(missing_ok=True)
        if autoencoder_fingerprint(self) != self._fingerprint:
            return
        if frequency is not None:
            n_documents = torch.tensor(self.config.n_documents)
            counts = {"document_frequency": frequency, "n_documents": n_documents}
            write_weights(folder / FREQUENCIES_FILE, counts)
        if self._labels_file:
            (folder / LABELS_FILE).write_bytes(self._labels_file)

    @classmethod
    def load(  # type: ignore[override]
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
        stored = read_settings(folder / "config.json")
        for name in SETTINGS & stored.keys():
            setattr(module, name, stored[name])
        if labels := read_labels(folder, module._fingerprint):
            module._know(labels, (folder / LABELS_FILE).read_bytes())
        return module


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Raise ModelError if a setting has an unknown value."""
    if value not in known:
        raise ModelError(f"{name} {value!r}: use one of {', '.join(known)}")


def unpacked(packed: torch.Tensor, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Reshape `[n_tokens, k]` like `hidden` except for the last dimension; padding is zero."""
    shape = (*hidden.shape[:-1], packed.shape[-1])
    if mask is None:
        return packed.reshape(shape)
    return packed.new_zeros(shape).masked_scatter(mask.bool().unsqueeze(-1), packed)
