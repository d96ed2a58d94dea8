"""Counts of a sample, compared with plain loops over its tokens."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.words import word_spans
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.inspection import survey as module
from latent_ingest.connector.inspection.contexts import CONTEXTS
from latent_ingest.connector.inspection.labelling import Labelling
from latent_ingest.connector.inspection.survey import Survey, survey
from latent_ingest.connector.inspection.vocabulary import words_of
from latent_ingest.connector.inspection.word_mass import WordMass


def by_hand(
    encoder: LatentEncoder, texts: list[str]
) -> tuple[dict[tuple[int, str], float], dict[int, list[float]], Counter[str]]:
    """Activation by latent and word, the strongest word of each text by latent, word counts."""
    masses: dict[tuple[int, str], float] = defaultdict(float)
    strongest: dict[int, list[float]] = defaultdict(list)
    tokens_of: Counter[str] = Counter()
    for text, tokens in zip(texts, encoder.encode_tokens(texts), strict=True):
        words, places = word_spans(text, tokens.spans)
        here: dict[tuple[int, int], float] = defaultdict(float)
        for place, latents, acts in zip(
            places.tolist(), tokens.latents.tolist(), tokens.activations.tolist(), strict=True
        ):
            tokens_of[text[slice(*words[place])].lower()] += 1
            for latent, activation in zip(latents, acts, strict=True):
                if activation > 0:
                    here[latent, place] += activation
        of_text: dict[int, float] = defaultdict(float)
        for (latent, place), activation in here.items():
            masses[latent, text[slice(*words[place])].lower()] += activation
            of_text[latent] = max(of_text[latent], activation)
        for latent, activation in of_text.items():
            strongest[latent].append(activation)
    return masses, strongest, tokens_of


def test_counts_are_those_of_plain_loops(
    encoder: LatentEncoder, texts: list[str], found: Survey, labelling: Labelling
) -> None:
    masses, strongest, tokens_of = by_hand(encoder, texts)
    vectors = encoder.encode(texts)
    assert found.n_tokens == vectors.n_tokens.sum() == tokens_of.total() > 5000
    df = np.bincount(vectors.indices, minlength=encoder.n_latents)
    np.testing.assert_array_equal(found.document_frequency, df)
    summed = np.bincount(vectors.indices, weights=vectors.values, minlength=encoder.n_latents)
    np.testing.assert_allclose(found.mass, summed, rtol=1e-3, atol=1e-3)
    assert found.text_frequency == Counter(word for text in texts for word in words_of(text))

    alive = found.alive.tolist()
    assert len(alive) == len(strongest) > 5000
    for latent in alive[::50]:
        words = labelling.words(latent)
        assert {word.word for word in words} == {w for own, w in masses if own == latent}
        assert sum(word.share for word in words) == pytest.approx(1.0, rel=1e-3)
        for word in words:
            share = masses[latent, word.word] / found.mass[latent]
            assert word.share == pytest.approx(share, rel=1e-3)
            background = tokens_of[word.word] / found.n_tokens
            assert word.lift == pytest.approx(share / background, rel=1e-3)
        contexts = found.contexts.of(latent)
        best = sorted(strongest[latent], reverse=True)[:CONTEXTS]
        assert [c.activation for c in contexts] == pytest.approx(best, rel=1e-3)


def test_firing_words_are_marked_in_passages(found: Survey, labelling: Labelling) -> None:
    seen = 0
    for latent in found.alive.tolist()[::40]:
        words = {word.word for word in labelling.words(latent)}
        for context in found.contexts.of(latent):
            assert context.marks
            assert "\n" not in context.text
            bounds = [at for mark in context.marks for at in mark]
            assert bounds == sorted(bounds)
            assert bounds[-1] <= len(context.text)
            marked = [context.text[start:end].lower() for start, end in context.marks]
            assert set(marked) <= words
            seen += len(marked)
    assert seen > 200


def test_groups_change_nothing(
    encoder: LatentEncoder, texts: list[str], found: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUP", 5000)
    (other,) = survey([encoder], texts, tokens=10**9)
    np.testing.assert_array_equal(other.document_frequency, found.document_frequency)
    np.testing.assert_allclose(other.mass, found.mass, rtol=1e-3, atol=1e-3)
    assert other.words.vocabulary == found.words.vocabulary
    np.testing.assert_array_equal(other.words.tokens, found.words.tokens)
    for one, another in zip(other.latents_of_texts, found.latents_of_texts, strict=True):
        np.testing.assert_array_equal(np.sort(one), np.sort(another))


def test_a_sample_ends_where_it_was_told(encoder: LatentEncoder, texts: list[str]) -> None:
    done: list[int] = []
    (few,) = survey([encoder], texts, tokens=500, progress=done.append)
    assert 500 <= few.n_tokens < 1500
    assert sum(done) == few.n_tokens
    with pytest.raises(InputError, match=r"the sample has no text"):
        survey([encoder], [" ", ""], tokens=500)


def test_the_lightest_pairs_are_forgotten(found: Survey) -> None:
    """A latent keeps its heaviest words."""
    few = WordMass(most_pairs=1000)
    few.vocabulary, few.tokens = found.words.vocabulary, found.words.tokens
    keys, values = found.words._masses.merged()
    assert len(keys) > 50_000
    few._masses.add(keys, values)
    offsets, words, masses = few.table(found.n_latents)
    assert offsets[-1] == len(words) == 500
    np.testing.assert_allclose(np.sort(masses), np.sort(values)[-500:])
