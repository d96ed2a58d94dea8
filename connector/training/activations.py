"""Texts → shuffled batches of token embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch

from latent_ingest.connector.encoding.backbone import Backbone

# Texts embedded at once: enough to sort by length without padding much.
TEXTS_AT_ONCE = 512


def token_batches(
    backbone: Backbone,
    texts: Iterator[str],
    *,
    batch_tokens: int,
    buffer_tokens: int,
    generator: torch.Generator,
) -> Iterator[torch.Tensor]:
    """Batches `[batch_tokens, d_in]` in the backbone's dtype, each mixing many texts.

    A buffer of `buffer_tokens` tokens is filled and shuffled, one half is given out, and it is
    filled again. Endless as long as `texts` is; what does not fill a batch is dropped.
    """
    buffer = torch.empty(0, backbone.d_in, dtype=backbone.dtype, device=backbone.device)
    ended = False
    while not ended:
        parts = [buffer]
        held = len(buffer)
        while held < buffer_tokens:
            chunk = list(islice(texts, TEXTS_AT_ONCE))
            if not chunk:
                ended = True
                break
            new = [batch.hidden for batch in backbone.embed(chunk)]
            held += sum(map(len, new))
            parts += new
        buffer = torch.cat(parts)
        buffer = buffer[torch.randperm(len(buffer), generator=generator).to(buffer.device)]
        keep = 0 if ended else buffer_tokens // 2
        while len(buffer) - batch_tokens >= keep:
            yield buffer[:batch_tokens]
            buffer = buffer[batch_tokens:]
