"""The question table of the shipped model is what its command makes."""

from __future__ import annotations

import pytest

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.questions.building import build_table, vocabulary_words
from latent_ingest.connector.questions.question_table import STOP_WORDS, QuestionTable


def entries(table: QuestionTable) -> dict[str, dict[int, int]]:
    return {
        word: dict(zip(latents.tolist(), weights.tolist(), strict=True))
        for word, latents, weights in table.entries()
    }


def test_words_of_the_backbone_are_in_the_shipped_table(encoder: LatentEncoder) -> None:
    words = vocabulary_words(encoder)
    assert len(words) > 20_000
    assert set(words) <= set(QuestionTable.load().words)


@pytest.mark.slow
def test_shipped_entries_are_made_again(encoder: LatentEncoder) -> None:
    shipped = QuestionTable.load()
    assert shipped.fingerprint == encoder.fingerprint
    some = [word for word in shipped.words[::1500] if word not in STOP_WORDS]
    before, made = entries(shipped), entries(build_table(encoder, some))
    alike = sum(len(before[word].items() & made[word].items()) for word in some)
    every = sum(len(before[word]) for word in some)
    assert every > 1000
    # The table was made in bfloat16, in which roots near .5 are rounded otherwise than in fp32.
    assert alike > 0.97 * every
