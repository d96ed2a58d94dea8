"""A loss for training the autoencoder with the trainer of sentence-transformers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from sentence_transformers import SparseEncoder
from torch import nn

from latent_ingest.connector.encoding.autoencoder import TOKENS_AT_ONCE
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.sentence_transformers.token_encoder import (
    SparseAutoEncoderTokenEncoder,
)
from latent_ingest.connector.sentence_transformers.token_pooling import SparseTokenPooling
from latent_ingest.connector.training.config import DEAD_AFTER
from latent_ingest.connector.training.objective import Objective
from latent_ingest.connector.training.optimization import (
    normalize_decoder,
    remove_parallel_gradient,
)


class TokenReconstructionLoss(nn.Module):
    """Reconstructs token embeddings from k and from 4k latents, and revives dead latents.

    The objective of `latent-ingest train`, for one process. All modules before the autoencoder are
    frozen and in evaluation mode. The first batch gives the mean that embeddings are centered on.
    Decoder rows keep unit norm. A resumed run counts again which latents are dead.
    """

    def __init__(
        self, model: SparseEncoder, dead_after: int = DEAD_AFTER, multi_k: bool = True
    ) -> None:
        """Train the autoencoder of a model.

        Args:
            model: with a SparseTokenPooling, and a SparseAutoEncoderTokenEncoder that has a
                decoder.
            dead_after: a latent that was not active for this many tokens is dead.
            multi_k: also reconstruct from 4k latents.

        Raises:
            InputError: the model lacks one of the modules or the decoder, or its autoencoder is
                frozen or not in float32.
        """
        super().__init__()
        modules: list[Any] = list(model)
        kinds = [type(module) for module in modules]
        if SparseAutoEncoderTokenEncoder not in kinds or SparseTokenPooling not in kinds:
            raise InputError(
                "the model has no SparseAutoEncoderTokenEncoder with a SparseTokenPooling: "
                + ", ".join(kind.__name__ for kind in kinds)
            )
        place = kinds.index(SparseAutoEncoderTokenEncoder)
        # Not registered as submodules: they belong to the model.
        self._before = modules[:place]
        self._pooling: list[SparseTokenPooling] = [modules[kinds.index(SparseTokenPooling)]]
        autoencoder = modules[place]
        if autoencoder.W_dec is None:
            raise InputError("the autoencoder has no decoder to train with; use has_decoder=True")
        if autoencoder.frozen:
            raise InputError("the autoencoder is frozen; set frozen=False to train it")
        if autoencoder.W_enc.dtype != torch.float32:
            raise InputError(
                f"the autoencoder is in {autoencoder.W_enc.dtype}, which is too coarse for "
                f"training: call model.float(), and let the trainer compute with bf16=True"
            )
        for module in self._before:
            module.requires_grad_(False)
        self.model = model
        self.objective = Objective(
            autoencoder, dead_after=dead_after, multi_k=multi_k, k_aux=autoencoder.k_aux
        )
        autoencoder.W_dec.register_post_accumulate_grad_hook(
            lambda _: remove_parallel_gradient(autoencoder)
        )

    def forward(
        self, sentence_features: Iterable[dict[str, Any]], labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The loss over the tokens of all columns, `[]`; labels are ignored.

        Raises:
            InputError: several processes train, whose gradients would not be averaged.
        """
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            raise InputError(
                "TokenReconstructionLoss is for one process; for several, use torchrun with "
                "'latent-ingest train'"
            )
        hidden = torch.cat([self._embed(features) for features in sentence_features])
        autoencoder = self.objective.autoencoder
        if len(hidden) < 2:  # texts without tokens: nothing to learn, and no variance
            return torch.stack([p.sum() for p in self.objective.parameters()]).sum() * 0.0
        if autoencoder.data_mean is None:
            autoencoder.data_mean = hidden.float().mean(dim=0)
        normalize_decoder(autoencoder)
        self.objective.train(self.training and autoencoder.training)
        # Parts of equal size: a last part of one token would have no variance.
        parts = torch.tensor_split(hidden, math.ceil(len(hidden) / TOKENS_AT_ONCE))
        losses = [self.objective(part).total * (len(part) / len(hidden)) for part in parts]
        return torch.stack(losses).sum()

    @torch.no_grad()
    def _embed(self, features: dict[str, Any]) -> torch.Tensor:
        """Token embeddings that count, `[n_tokens, d_in]`."""
        for module in self._before:
            features = module.eval()(features)
        hidden: torch.Tensor = features["token_embeddings"]
        counted = self._pooling[0].counted(features, hidden)
        return hidden.reshape(*counted.shape, -1)[counted]

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {"dead_after": self.objective.dead_after, "multi_k": self.objective.multi_k}

    @property
    def citation(self) -> str:
        """Citation for the model card."""
        return """
@misc{latent-terms,
    title={Latent Terms: Dense Retrievers Contain Trivially Extractable BM25-ready Zipfian Vocabularies},
    year={2026},
    eprint={2605.29384},
    archivePrefix={arXiv},
    url={https://arxiv.org/abs/2605.29384},
}
"""  # noqa: E501
