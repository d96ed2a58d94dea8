"""Models that ship: backbone, autoencoder, question table and labels of each belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.frameworks.latent_index import LatentIndex
from latent_ingest.connector.inspection.labels import read_labels
from latent_ingest.connector.questions.building import build_table
from latent_ingest.connector.questions.question_table import QuestionTable

# Question → its document; they share no word.
ANSWERS = {
    "does vitamin D prevent fractures": "Cholecalciferol lowers the risk of broken bones.",
    "fix a punctured bicycle": "Patch the inner tube of your bike when its tire goes flat.",
    "heart attack symptoms": "Chest pain may be a sign of myocardial infarction.",
    "how do planes fly": "Wings give an aircraft lift.",
    "cheap places to sleep in London": "Budget hotels and hostels near the Thames.",
    "who rules Japan": "Tokyo is the seat of the emperor and the prime minister.",
}


@pytest.fixture(
    scope="module",
    params=["minilm-32k", pytest.param("mpnet-32k", marks=pytest.mark.slow)],
)
def shipped(request: pytest.FixtureRequest) -> LatentEncoder:
    return LatentEncoder.load(request.param, device="cpu")


def test_questions_find_documents_that_share_no_word_with_them(shipped: LatentEncoder) -> None:
    index = LatentIndex(list(ANSWERS.values()), model=shipped)
    found = {question: index.search(question, form="latent", size=1) for question in ANSWERS}
    assert {question: hit.text for question, (hit,) in found.items()} == ANSWERS


def test_the_question_table_has_what_the_model_encodes(shipped: LatentEncoder) -> None:
    table = QuestionTable.load(shipped.folder)
    assert len(table.words) > 30_000
    stored = {word: (latents, weights) for word, latents, weights in table.entries()}
    again = build_table(shipped, ["vitamin", "bicycle"])
    assert again.words == ["vitamin", "bicycle"]
    for word, latents, weights in again.entries():
        kept = dict(zip(*(each.tolist() for each in stored[word]), strict=True))
        made = dict(zip(latents.tolist(), weights.tolist(), strict=True))
        shared = sum(min(made[latent], kept.get(latent, 0)) for latent in made)
        assert shared > 0.9 * sum(made.values()), word


def test_most_latents_have_labels(shipped: LatentEncoder) -> None:
    assert isinstance(shipped.folder, Path)
    labels = read_labels(shipped.folder, shipped.fingerprint.autoencoder)
    assert len(labels) > 0.5 * shipped.n_latents
