"""The pieces that a backbone's tokenizer continues words with, as "ing" in "seeing".

Words that a table lacks are encoded by them: a piece has the latents that its token has in some
words, on average.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.questions.question_table import Entries
from latent_ingest.connector.questions.words import words_of

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# Words whose mean a piece is. docs/benchmarks.md has what pieces are worth.
WORDS_OF_PIECE = 6

# Words encoded together; on one CPU core they take some 3 s.
WORDS_AT_ONCE = 512


def words_of_pieces(encoder: LatentEncoder, words: Sequence[str]) -> dict[str, list[str]]:
    """Return the first words that each piece is in, up to `WORDS_OF_PIECE`."""
    found: dict[str, list[str]] = defaultdict(list)
    for word, spans in zip(words, encoder.backbone.spans(words), strict=True):
        for start, end in spans.tolist():
            piece = word[start:end]
            if start and words_of(piece) == [piece] and len(found[piece]) < WORDS_OF_PIECE:
                found[piece].append(word)
    return {piece: some for piece, some in found.items() if some}


def encode_pieces(encoder: LatentEncoder, words: Sequence[str]) -> Entries:
    """Return the entries of the pieces of words, which are given most frequent first.

    Raises:
        ModelError: the model gives NaN.
    """
    chosen = words_of_pieces(encoder, words)
    sums: dict[str, dict[int, float]] = {piece: defaultdict(float) for piece in chosen}
    every = list(dict.fromkeys(word for some in chosen.values() for word in some))
    for start in range(0, len(every), WORDS_AT_ONCE):
        some = every[start : start + WORDS_AT_ONCE]
        for word, tokens in zip(some, encoder.encode_tokens(some, kind="query"), strict=True):
            columns = tokens.spans.tolist(), tokens.latents.tolist(), tokens.activations.tolist()
            for (first, last), latents, values in zip(*columns, strict=True):
                piece = word[first:last]
                if first and word in chosen.get(piece, ()):
                    for latent, value in zip(latents, values, strict=True):
                        sums[piece][latent] += value / len(chosen[piece])
    return {piece: as_entry(values) for piece, values in sums.items()}


def as_entry(values: dict[int, float]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the latents of a piece, ascending, and their activations, where above zero."""
    kept = sorted(latent for latent, value in values.items() if value > 0)
    activations = [values[latent] for latent in kept]
    return np.array(kept, dtype=np.int32), np.array(activations, dtype=np.float32)
