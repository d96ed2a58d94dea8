"""Labels, statistics, the random baseline and neighbours, for known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.model_folder import SHIPPED_MODEL
from latent_ingest.connector.encoding.vectors import TokenVectors
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.inspection.firings import firings_of
from latent_ingest.connector.inspection.labelling import LEAST_TEXTS, Labelling, every_nth
from latent_ingest.connector.inspection.neighbours import NEIGHBOURS, nearest
from latent_ingest.connector.inspection.survey import Survey
from latent_ingest.connector.inspection.vocabulary import Frequencies, random_encoder


def made(texts: list[list[tuple[str, dict[int, float]]]], n_latents: int) -> Survey:
    """A survey of texts whose words activate latents as given."""
    survey = Survey(n_latents)
    written, tokens = [], []
    for words in texts:
        text = " ".join(word for word, _ in words)
        spans, at = [], 0
        for word, _ in words:
            spans.append((at, at + len(word)))
            at += len(word) + 1
        latents = np.zeros((len(words), n_latents), dtype=np.int64) + np.arange(n_latents)
        acts = np.array(
            [[fires.get(latent, 0.0) for latent in range(n_latents)] for _, fires in words],
            dtype=np.float32,
        )
        written.append(text)
        tokens.append(TokenVectors(np.array(spans, dtype=np.int64), latents, acts))
    survey.add(written, firings_of(written, tokens))
    return survey


# Latent 0 is active for a word and a comma, 1 for all words alike, 2 in too few texts, 3 never.
TEXTS = [
    [("Glob", {0: 3.0, 1: 1.0}), (",", {0: 1.0, 1: 1.0}), *[(w, {1: 1.0}) for w in "abcdefghijkl"]]
] * LEAST_TEXTS + [[("once", {2: 1.0})]]


def test_a_label_has_words_of_lift() -> None:
    survey = made(TEXTS, 4)
    labelling = Labelling(survey)
    assert survey.document_frequency.tolist() == [5, 5, 1, 0]
    heavy = labelling.words(0)
    assert [(word.word, word.share) for word in heavy] == [("glob", 0.75), (",", 0.25)]
    assert heavy[0].lift == pytest.approx(0.75 / (5 / 71))
    assert [labelling.label(latent) for latent in range(4)] == ["glob", "", "", ""]
    assert labelling.coverage() == {"latents": 2, "labelled": 1, "covered": 1, "share": 0.5}
    assert labelling.labels() == {0: "glob"}
    assert (survey.contexts.of(3), labelling.words(3)) == ([], [])


def test_a_label_begins_with_what_is_the_latents_own() -> None:
    """A word that is everywhere does not describe a latent, however often it activates it."""
    fires = {"the": {0: 6.0}, "and": {0: 2.2}, "glob": {0: 1.4}, "path": {0: 1.6}}
    text = [(word, fires.get(word, {})) for word in ("the and path glob " + "word " * 80).split()]
    often = [("the", {}), ("and", {}), *[(word, {}) for word in "abcdefgh"]]
    texts = [text] * LEAST_TEXTS + [often] * 78 + [[*often, ("path", {})]] * 12
    labelling = Labelling(made(texts, 1))
    lifts = {word.word: word.lift for word in labelling.words(0)}
    assert [word.word for word in labelling.words(0)] == ["the", "and", "path", "glob"]
    assert lifts["and"] < 3 < lifts["the"] < 10 < lifts["path"] < lifts["glob"] / 2
    assert labelling.label(0) == "glob, path"


def test_a_sample_too_small_for_labels() -> None:
    with pytest.raises(InputError, match=r"too small for labels: in 14 tokens, 0 of 4 latents get"):
        Labelling(made(TEXTS[:1], 4)).labels()


def test_every_nth_is_evenly_spread() -> None:
    assert every_nth(np.arange(100) * 2, 4) == [24, 74, 124, 174]
    assert every_nth(np.arange(3), 20) == [0, 1, 2]
    assert every_nth(np.arange(0), 20) == []


def test_figures_of_zipfs_law() -> None:
    counts = (100_000 / np.arange(1, 1001)).round().astype(np.int64)
    figures = Frequencies.of(np.append(counts, [1] * 250 + [0] * 50)).statistics(100_000)
    assert figures["terms"] == 1250
    assert figures["hapax"] == 250 / 1250
    assert figures["common"] == 1 / 1250
    exact = Frequencies.of(counts).statistics(100_000)
    assert exact["slope"] == pytest.approx(-1.0, abs=1e-3)
    assert exact["r2"] == pytest.approx(1.0, abs=1e-4)
    none = Frequencies.of(np.zeros(4, dtype=np.int64)).statistics(0)
    assert none == {"terms": 0, "slope": 0.0, "r2": 0.0, "hapax": 0.0, "common": 0.0}


def test_the_baseline_is_the_model_but_for_its_directions(encoder: LatentEncoder) -> None:
    autoencoder = TokenAutoencoder.load(SHIPPED_MODEL)
    random = random_encoder(encoder, autoencoder)
    again = random_encoder(encoder, autoencoder)
    assert random.fingerprint == again.fingerprint
    assert random.fingerprint.autoencoder != encoder.fingerprint.autoencoder
    assert (random.n_latents, random.k) == (encoder.n_latents, encoder.k)
    lengths = random._autoencoder.W_enc.norm(dim=0)
    wanted = autoencoder.W_enc.norm(dim=0).square().mean().sqrt()
    torch.testing.assert_close(lengths, wanted.expand_as(lengths), rtol=1e-4, atol=1e-4)
    assert len(random.encode(["Vitamin D prevents falls."]).indices) > 20


def test_neighbours_by_direction(generator: torch.Generator) -> None:
    decoder = torch.randn(600, 16, generator=generator)
    latents = np.arange(0, 600, 2)
    near = nearest(Survey(600), latents, decoder)
    assert list(near) == latents.tolist()
    rows = torch.nn.functional.normalize(decoder)
    for latent in (0, 100, 598):
        cosine = {other: float(rows[latent] @ rows[other]) for other in latents.tolist()}
        del cosine[latent]
        assert near[latent] == sorted(cosine, key=lambda i: -cosine[i])[:NEIGHBOURS]


def test_neighbours_by_common_texts(found: Survey) -> None:
    alive = found.alive
    near = nearest(found, alive, None)
    sets: dict[int, set[int]] = {}
    for text, latents in enumerate(found.latents_of_texts):
        for latent in latents.tolist():
            sets.setdefault(latent, set()).add(text)
    seldom = [latent for latent in alive.tolist() if len(sets[latent]) < LEAST_TEXTS]
    assert seldom
    assert not near.keys() & set(seldom)
    often = [latent for latent in alive.tolist() if len(sets[latent]) >= LEAST_TEXTS]
    assert len(often) > 300

    def cosine(one: int, other: int) -> float:
        return len(sets[one] & sets[other]) / (len(sets[one]) * len(sets[other])) ** 0.5

    for latent in often[:: len(often) // 10]:
        best = sorted((cosine(latent, other) for other in often if other != latent), reverse=True)
        assert [cosine(latent, other) for other in near[latent]] == pytest.approx(
            [value for value in best[:NEIGHBOURS] if value > 0]
        )
