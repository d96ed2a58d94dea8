"""A vocabulary that has learned nothing: directions drawn at random, through the same top k."""

from __future__ import annotations

import torch

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.encoder import LatentEncoder


def random_encoder(encoder: LatentEncoder, autoencoder: TokenAutoencoder) -> LatentEncoder:
    """Encodes as `encoder` does, but by random directions.

    Each latent's row of the encoder is drawn evenly from the sphere; all have the length that the
    model's have in the root mean square, and no bias. Backbone, normalisation, number of latents
    and k are the model's.

    Args:
        encoder: of the model.
        autoencoder: of the model, as loaded.
    """
    random = TokenAutoencoder(autoencoder.config, decoder=False)
    generator = torch.Generator().manual_seed(0)
    W_enc = torch.randn(random.W_enc.shape, generator=generator)
    length = autoencoder.W_enc.float().norm(dim=0).square().mean().sqrt()
    with torch.no_grad():
        random.W_enc.copy_(W_enc / W_enc.norm(dim=0) * length)
        random.b_pre.copy_(autoencoder.b_pre)
    random.register_buffer("data_mean", autoencoder.data_mean)
    return LatentEncoder(encoder.backbone, random, name="random directions", k=encoder.k)
