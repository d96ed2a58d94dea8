"""Fingerprints: what must agree between index and query, and between backbone and autoencoder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from latent_ingest.connector.errors import ModelError

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.autoencoder import AutoencoderConfig, TokenAutoencoder
    from latent_ingest.connector.encoding.backbone import Backbone


@dataclass(frozen=True, slots=True)
class ModelFingerprint:
    """The parts of a model that determine the latents of a text."""

    backbone: str
    """SHA-256 of the backbone's weights, 16 hexadecimal digits."""
    autoencoder: str
    """SHA-256 of the encoder half of the autoencoder, 16 hexadecimal digits."""
    k: int
    pooling: str
    prompts: dict[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 over all parts, 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def autoencoder_fingerprint(autoencoder: TokenAutoencoder) -> str:
    """SHA-256 of all weights that `encode` uses, in float16, 16 hexadecimal digits.

    In float16, so that a model in float32 and the same model saved in float16 agree.
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(autoencoder.state_dict().items()):
        if name not in ("W_dec", "document_frequency"):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().to(torch.float16).contiguous().numpy().data)
    return digest.hexdigest()[:16]


def check_fit(config: AutoencoderConfig, backbone: Backbone, name: str = "") -> None:
    """Raise ModelError unless an autoencoder was trained on this backbone.

    `name` is that of the model, for the message.
    """
    this = f"the autoencoder {name or '(unnamed)'}"
    if config.d_in != backbone.d_in:
        raise ModelError(
            f"{this} takes {config.d_in} dimensions, but the backbone {backbone.name} gives "
            f"{backbone.d_in}; use the one it was trained on, {config.backbone or 'another one'}"
        )
    if config.backbone_fingerprint not in ("", backbone.fingerprint):
        raise ModelError(
            f"{this} was trained on {config.backbone} with weights {config.backbone_fingerprint}, "
            f"but {backbone.name} has weights {backbone.fingerprint}; use the backbone it was "
            f"trained on"
        )
