"""What latents mean, in words: labels that go with a model, or the question's own words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.querying.words import word_spans

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

LABELS_FILE = "labels.json"

# Words of the question that stand for a latent that has no label.
MOST_WORDS = 3


def read_labels(folder: Path) -> dict[int, str]:
    """The labels in a model folder, by latent; none where it has no labels.json.

    Raises:
        ModelError: the file is not an object of latent numbers and strings.
    """
    path = folder / LABELS_FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {int(latent): str(label) for latent, label in stored.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{path}: not an object of latent numbers and labels ({error}); delete it or mend it"
        ) from error


def firing_words(encoder: LatentEncoder, question: str) -> Mapping[int, str]:
    """Of each latent of a question, the words that fire it, the strongest first.

    Raises:
        ModelError: the backbone gives NaN.
    """
    (tokens,) = encoder.encode_tokens([question], kind="query")
    words, places = word_spans(question, tokens.spans)
    strength: dict[int, dict[str, float]] = {}
    rows = zip(places.tolist(), tokens.latents, tokens.activations, strict=True)
    for place, latents, activations in rows:
        word = question[slice(*words[place])].lower()
        for latent, activation in zip(latents.tolist(), activations.tolist(), strict=True):
            if activation > 0:
                of = strength.setdefault(latent, {})
                of[word] = of.get(word, 0.0) + activation
    return {
        latent: ", ".join(sorted(of, key=lambda word: -of[word])[:MOST_WORDS])
        for latent, of in strength.items()
    }
