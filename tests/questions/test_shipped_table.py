"""The question table of minilm-32k is what its command makes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.model_folder import SHIPPED_MODEL
from latent_ingest.connector.questions.building import LATENTS, build_table, vocabulary_words
from latent_ingest.connector.questions.pieces import encode_pieces, words_of_pieces
from latent_ingest.connector.questions.question_table import FILE, STOP_WORDS, QuestionTable


def entries(table: QuestionTable) -> dict[str, dict[int, int]]:
    return {
        word: dict(zip(latents.tolist(), weights.tolist(), strict=True))
        for word, latents, weights in table.entries()
    }


def test_words_of_the_backbone_are_in_the_shipped_table(encoder: LatentEncoder) -> None:
    words = vocabulary_words(encoder)
    assert len(words) > 20_000
    assert set(words) <= set(QuestionTable.load().words)


def test_the_table_has_room_in_the_package() -> None:
    assert (SHIPPED_MODEL / FILE).stat().st_size < 8_000_000


def test_pieces_are_made_again_of_the_same_words(encoder: LatentEncoder) -> None:
    shipped = QuestionTable.load()
    of = words_of_pieces(encoder, shipped.words)
    assert list(shipped.pieces) == list(of)
    some = list(of)[::250]
    wanted = {word for piece in some for word in of[piece]}
    found = encode_pieces(encoder, [word for word in shipped.words if word in wanted])
    table = QuestionTable.of("", encoder.fingerprint, found, encoder.idf(), LATENTS)
    rows = shipped.offsets[len(shipped.words) :]
    before, made = entries(replace(shipped, words=shipped.pieces, offsets=rows)), entries(table)
    alike = sum(len(before[piece].items() & made[piece].items()) for piece in some)
    every = sum(len(before[piece]) for piece in some)
    assert every > 300
    assert alike > 0.95 * every


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
