"""What must agree between an index and the queries sent to it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import torch

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder


@dataclass(frozen=True, slots=True)
class ModelFingerprint:
    """The parts of a model that decide which latents a text gets."""

    backbone: str
    """SHA-256 of the backbone's weights, 16 hexadecimal digits."""
    autoencoder: str
    """SHA-256 of the encoder half of the autoencoder, 16 hexadecimal digits."""
    k: int
    pooling: str
    prompts: dict[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 over all of it, 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def autoencoder_fingerprint(autoencoder: TokenAutoencoder) -> str:
    """SHA-256 of all that `encode` uses, in fp16, 16 hexadecimal digits.

    In fp16, so that a model kept in fp32 and the same model saved in fp16 agree.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(autoencoder.state_dict().items()):
        if name not in ("W_dec", "document_frequency"):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().to(torch.float16).contiguous().numpy().data)
    return digest.hexdigest()[:16]
