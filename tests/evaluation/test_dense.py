"""Dense vectors: those of plain transformers, kept on disk, compared with all documents."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.hub import find_folder
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation import dense

TEXTS = [
    "Bees dance to tell each other where flowers are.",
    "Cholecalciferol lowers the risk of tumbling in older adults. " * 30,
    "Paper.",
]


def test_vectors_are_those_of_plain_transformers(backbone: Backbone) -> None:
    """Mean of all token states, then unit length, to 1e-4; the second text is truncated."""
    from transformers import AutoModel, AutoTokenizer

    folder = find_folder(backbone.name)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    plain = []
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        with torch.no_grad():
            mean = model(**inputs).last_hidden_state[0].mean(dim=0)
        plain.append(mean / mean.norm())
    assert torch.allclose(backbone.text_vectors(TEXTS), torch.stack(plain), atol=1e-4)


@pytest.fixture
def collection(documents: list[dict[str, str]], tmp_path: Path) -> Collection:
    corpus = tmp_path / "corpus.jsonl"
    rows = documents[:12]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = {"q1": rows[3]["text"][:80], rows[5]["_id"]: rows[5]["text"][:80]}
    return Collection("ours", corpus, queries, {query: {"x": 1} for query in queries})


def test_ranks_are_those_of_the_plain_cosine(
    backbone: Backbone, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "COMPARE_DOCUMENTS", 5)
    monkeypatch.setattr(dense, "HITS", 8)
    done: list[int] = []
    ranking = dense.rank_by_dense(collection, backbone, tmp_path / "cache", done.append)
    assert sum(done) == 12
    documents = list(collection.documents())
    vectors = backbone.text_vectors([document.text for document in documents])
    for query, text in collection.queries.items():
        cosine = (vectors @ backbone.text_vectors([text], kind="query")[0]).tolist()
        ids = [document.id for document in documents]
        expected = dict(sorted(zip(ids, cosine, strict=True), key=lambda pair: -pair[1])[:8])
        expected.pop(query, None)  # a document that is the question
        assert list(ranking[query]) == list(expected)
        assert ranking[query] == pytest.approx(expected, abs=1e-3)


def test_vectors_are_kept_and_an_interrupted_run_resumes(
    backbone: Backbone, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "EMBED_DOCUMENTS", 5)
    embedded: list[int] = []
    plain = backbone.text_vectors

    def counted(texts: list[str], *, kind: str = "document") -> torch.Tensor:
        embedded.append(len(texts))
        if len(embedded) == 2:
            raise KeyboardInterrupt
        return plain(texts, kind=kind)

    monkeypatch.setattr(backbone, "text_vectors", counted)
    with pytest.raises(KeyboardInterrupt):
        dense.document_vectors(collection, backbone, tmp_path / "cache", lambda done: None)
    found = dense.document_vectors(collection, backbone, tmp_path / "cache", lambda done: None)
    assert embedded == [5, 5, 5, 2]
    again = dense.document_vectors(collection, backbone, tmp_path / "cache", lambda done: None)
    assert embedded == [5, 5, 5, 2]
    assert np.array_equal(found, again)
    expected = plain([document.text for document in collection.documents()]).numpy()
    assert found.shape == expected.shape
    assert np.allclose(found, expected, atol=2e-3)


def test_other_texts_have_other_vectors(backbone: Backbone, collection: Collection) -> None:
    first = dense.key(collection, backbone)
    assert collection.corpus is not None
    collection.corpus.write_text('{"_id": "d", "text": "wasps"}\n')
    assert dense.key(Collection("ours", collection.corpus, {}, {}), backbone) != first


def test_an_error_names_a_cache_that_cannot_be_written(
    backbone: Backbone, collection: Collection, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(InputError, match=r"name another folder with --cache"):
        dense.document_vectors(collection, backbone, tmp_path / "cache", lambda done: None)
