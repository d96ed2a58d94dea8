"""Neighbours of latents: by direction in the decoder, or by the texts in which they are active."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from latent_ingest.connector.inspection.labelling import LEAST_TEXTS
from latent_ingest.connector.inspection.survey import Survey

NEIGHBOURS = 5

# Latents whose cosines with all others are in memory at once: 33 MB for 32,768 latents.
ROWS = 256

# Most texts of a latent whose other latents are counted; more change little.
TEXTS = 200


def nearest(
    survey: Survey,
    latents: NDArray[np.int64],
    decoder: torch.Tensor | None,
    *,
    progress: Callable[[int], object] = lambda more: None,
) -> dict[int, list[int]]:
    """The nearest neighbours of each latent among `latents`, nearest first.

    By direction in the decoder `W_dec`, `[n_latents, d_in]`. Without a decoder, by the texts of the
    sample in which they are active; latents in fewer than `LEAST_TEXTS` texts then have none.
    `progress` is called with the number of latents just done.
    """
    if decoder is not None:
        return by_direction(latents, decoder, progress)
    return by_cooccurrence(survey, latents, progress)


def by_direction(
    latents: NDArray[np.int64], decoder: torch.Tensor, progress: Callable[[int], object]
) -> dict[int, list[int]]:
    """Neighbours by the cosine of the decoder's rows."""
    rows = torch.nn.functional.normalize(decoder.detach().float()[torch.from_numpy(latents)])
    found: dict[int, list[int]] = {}
    number = min(NEIGHBOURS, len(latents) - 1)
    for start in range(0, len(latents), ROWS):
        cosines = rows[start : start + ROWS] @ rows.T
        places = torch.arange(len(cosines))
        cosines[places, places + start] = -2.0
        top = cosines.topk(number, dim=1).indices.numpy()
        for latent, near in zip(latents[start : start + ROWS].tolist(), top, strict=True):
            found[latent] = latents[near].tolist()
        progress(len(cosines))
    return found


def by_cooccurrence(
    survey: Survey, latents: NDArray[np.int64], progress: Callable[[int], object]
) -> dict[int, list[int]]:
    """Neighbours by the cosine of the sets of texts."""
    texts = survey.latents_of_texts
    every = np.concatenate([*texts, np.zeros(0, dtype=np.int32)])
    order = np.argsort(every, kind="stable")
    text_of = np.repeat(np.arange(len(texts)), [len(some) for some in texts])[order]
    starts = np.searchsorted(every[order], np.arange(survey.n_latents + 1))
    frequency = np.diff(starts)
    eligible = np.isin(np.arange(survey.n_latents), latents) & (frequency >= LEAST_TEXTS)
    root = np.sqrt(np.maximum(frequency, 1))
    found: dict[int, list[int]] = {}
    for latent in latents[eligible[latents]].tolist():
        own = text_of[starts[latent] : starts[latent + 1]]
        own = own[:: -(-len(own) // TEXTS)]
        together = np.bincount(
            np.concatenate([texts[text] for text in own]), minlength=survey.n_latents
        )
        cosines = together / root
        cosines[~eligible] = cosines[latent] = 0.0
        top = np.argpartition(cosines, -NEIGHBOURS)[-NEIGHBOURS:]
        top = top[np.argsort(-cosines[top], kind="stable")]
        found[latent] = top[cosines[top] > 0].tolist()
        progress(1)
    return found
