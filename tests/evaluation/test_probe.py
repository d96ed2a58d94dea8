"""The probe: its nDCG@10 in memory is that of the encoder with plain BM25."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from reference.bm25 import BM25

from latent_ingest.connector import terms
from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.model_folder import SHIPPED_MODEL
from latent_ingest.connector.evaluation import probe as probe_module
from latent_ingest.connector.evaluation.measures import mean_ndcg
from latent_ingest.connector.evaluation.probe import Probe
from latent_ingest.connector.inspection.vocabulary import Frequencies, word_frequencies


@pytest.fixture
def collection(documents: list[dict[str, str]], tmp_path: Path) -> Collection:
    """A collection in which each document's last words are a question for it."""
    (tmp_path / "c" / "qrels").mkdir(parents=True)
    rows = [{"_id": f"q{n}", "text": d["text"][-18:]} for n, d in enumerate(documents)]
    for name, content in (("corpus", documents), ("queries", rows)):
        text = "".join(json.dumps(row) + "\n" for row in content)
        (tmp_path / "c" / f"{name}.jsonl").write_text(text)
    judged = "".join(f"q{n}\t{d['_id']}\t1\n" for n, d in enumerate(documents))
    (tmp_path / "c" / "qrels" / "test.tsv").write_text(judged)
    return Collection.load(tmp_path / "c")


def test_the_probe_is_the_encoder_and_a_plain_bm25(
    encoder: LatentEncoder, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within .005: embeddings are stored in float16, and the reference has lengths in one byte."""
    monkeypatch.setattr(probe_module, "TEXTS_AT_ONCE", 32)
    done: list[int] = []
    probe = Probe(collection, encoder.backbone, done.append)
    assert sum(done) == 180
    got = probe.ndcg(TokenAutoencoder.load(SHIPPED_MODEL))

    every = list(collection.documents())
    counted = [
        dict(zip(map(str, i.tolist()), terms.counts(v).tolist(), strict=True))
        for i, v in encoder.encode([document.text for document in every], long="truncate")
    ]
    counted = [{name: tf for name, tf in d.items() if tf} for d in counted]
    bm25 = BM25(counted, k1=2.0, b=0.7)
    ranking = {}
    for name, text in collection.queries.items():
        indices, values = encoder.encode([text], kind="query")[0]
        query = dict(zip(map(str, indices.tolist()), np.sqrt(values).tolist(), strict=True))
        scores = {d.id: bm25.score(query, tf) for d, tf in zip(every, counted, strict=True)}
        ranking[name] = dict(sorted(scores.items(), key=lambda item: -item[1])[:20])
    assert 0.5 < got < 1.0
    assert got == pytest.approx(mean_ndcg(collection.qrels, ranking), abs=0.005)
    assert 0.5 < probe.words < 1.0


def test_frequencies_of_a_zipfian_vocabulary_lie_on_a_line() -> None:
    ranks = np.arange(1, 2001)
    zipf = Frequencies.of((100_000 / ranks).astype(np.int64))
    assert zipf.slope == pytest.approx(-1, abs=0.02)
    assert zipf.r2 > 0.99
    flat = Frequencies.of(np.full(2000, 7))
    assert flat.slope == pytest.approx(0, abs=1e-6)
    assert flat.r2 < 0.1
    assert Frequencies.of(np.array([0, 3])).counts.tolist() == [3]


def test_word_frequencies_count_texts() -> None:
    assert word_frequencies(["a b a", "A c"]).counts.tolist() == [2, 1, 1]
