"""The words of an index's table, and where their latents come from."""

from __future__ import annotations

import numpy as np
import pytest

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.questions.building import build_table
from latent_ingest.connector.questions.index_table import build_index_table, choose_words
from latent_ingest.connector.questions.question_analyzer import rules_of
from latent_ingest.connector.questions.question_table import QuestionTable
from latent_ingest.connector.questions.word_counts import WordCounts


@pytest.fixture(scope="module")
def general(encoder: LatentEncoder) -> QuestionTable:
    return build_table(encoder, ["the", "falling", "bone", "1999"])


def counted(*texts: str) -> WordCounts:
    counts = WordCounts()
    for text in texts:
        counts.add_document(text)
    return counts


def test_the_words_of_the_documents_come_first(general: QuestionTable) -> None:
    counts = counted("klf4 bone once 1999 東京", "klf4 wumpus 東京 42", "the klf4 the wumpus 42")
    chosen = choose_words(counts, general)
    # Also words of a single document; numbers, runs of CJK and stop words do not count.
    assert chosen.words == ["klf4", "wumpus", "bone", "once", "falling", "1999"]
    assert chosen.own == 4
    assert chosen.lacking == ["klf4", "wumpus", "once"]
    fewer = choose_words(counts, general, 2)
    assert (fewer.words, fewer.own, fewer.lacking) == (["klf4", "wumpus"], 2, ["klf4", "wumpus"])


@pytest.mark.parametrize("text", ["1999 2000 42", "東京都は水が", "?!", ""])
def test_a_corpus_without_words_has_none_of_its_own(general: QuestionTable, text: str) -> None:
    for table in (general, None):
        chosen = choose_words(counted(text, text), table)
        assert (chosen.own, chosen.lacking) == (0, [])


def test_a_word_of_300_letters_is_left_out(general: QuestionTable) -> None:
    long = "x" * 300
    assert choose_words(counted(f"{long} klf4"), None).words == ["klf4"]
    assert rules_of([(long, {5: 1}), ("bone", {6: 2})]) == {"bone": "f6×2"}
    assert (general.lacking(long), len(general.encode(long)[0])) == ([long], 0)


def test_words_of_other_scripts_count() -> None:
    counts = counted("größe слово 단어", "Größe Слово 단어")
    assert sorted(choose_words(counts, None).words) == ["grosse", "слово", "단어"]


def test_only_what_the_model_lacks_is_encoded(
    encoder: LatentEncoder, general: QuestionTable
) -> None:
    chosen = choose_words(counted("wumpus bone", "wumpus bone"), general)
    encoded: list[int] = []
    table = build_index_table(encoder, chosen, general, encoded.append)
    assert table is not None
    assert sum(encoded) == 1
    assert list(table.rules) == list(chosen.words) == ["bone", "wumpus", "falling", "1999"]
    assert table.origin == "index"
    assert table.fingerprint.digest == encoder.fingerprint.digest
    for word, made in (("wumpus", build_table(encoder, ["wumpus"])), ("bone", general)):
        for one, other in zip(table.encode(word), made.encode(word), strict=True):
            np.testing.assert_array_equal(one, other)


def test_words_are_written_as_questions_are_read(encoder: LatentEncoder) -> None:
    """A model's table may have accents, and the counted words have none."""
    general = build_table(encoder, ["größe", "café"])
    chosen = choose_words(counted("Größe"), general)
    assert (chosen.words, chosen.own, chosen.lacking) == (["grosse", "cafe"], 1, [])
    assert chosen.same
    table = build_index_table(encoder, chosen, general)
    assert table is not None
    assert len(table.encode("GRÖSSE")[0])


def test_a_model_without_a_table_encodes_every_word(encoder: LatentEncoder) -> None:
    chosen = choose_words(counted("wumpus bone", "wumpus bone"), None)
    table = build_index_table(encoder, chosen, None)
    assert table is not None
    assert list(table.rules) == ["bone", "wumpus"]
    assert build_index_table(encoder, choose_words(counted("1999"), None), None) is None


def test_what_progress_raises_ends_the_encoding(encoder: LatentEncoder) -> None:
    def stop(_done: int) -> None:
        raise KeyboardInterrupt

    chosen = choose_words(counted("wumpus", "wumpus"), None)
    with pytest.raises(KeyboardInterrupt):
        build_index_table(encoder, chosen, None, stop)
