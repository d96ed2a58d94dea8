"""Every engine finds what OpenSearch 3 finds, and docs/engines.md says what they answer."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from failing import Failing
from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from latent_ingest.connector import IngestJob, Searcher
from latent_ingest.connector.diagnosis.doctor import examine
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import MismatchError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.index.preparing import ExistingIndex, plan, prepare
from latent_ingest.connector.indexing import batches
from latent_ingest.connector.indexing.enrich import Enrich
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.indexing.journal import Journal
from latent_ingest.connector.indexing.journal_records import RunKey
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.questions.question_table import QuestionTable
from latent_ingest.connector.questions.stored_table import StoredTable

from . import differences
from .test_scores import QUESTIONS


def found_in(
    engine: OpenSearch, index: str, encoder: LatentEncoder
) -> dict[tuple[str, str], list[tuple[str, float]]]:
    """Hits of each question in each form."""
    rewriter = QueryRewriter.from_index(engine, index, encoder)
    found = {}
    for form in ("latent", "hybrid", "hybrid_two_phase", "auto"):
        for question in QUESTIONS:
            body = rewriter.rewrite(question, form=form)
            hits = engine.search(index=index, body=body)["hits"]["hits"]
            assert len(hits) == 10
            found[form, question] = [(hit["_id"], hit["_score"]) for hit in hits]
    return found


def test_every_engine_finds_what_opensearch_3_finds(
    other: OpenSearch,
    client: OpenSearch,
    new_index: Any,
    load: Any,
    corpus: Path,
    documents: list[dict[str, str]],
    encoder: LatentEncoder,
) -> None:
    """Their BM25 has a factor of k1 + 1, which differs for words and latent terms."""
    rankings = []
    for engine in (client, other):
        index = new_index(engine)
        assert load(engine, index, corpus).indexed == len(documents)
        rankings.append(found_in(engine, index, encoder))
    third, found = rankings
    for (form, question), expected in third.items():
        factor = 3.0 if form == "latent" else 2.2  # k1 + 1 of latent terms, and of words
        ids = [name for name, _ in found[form, question]]
        assert ids == [name for name, _ in expected]
        scores = [score for _, score in found[form, question]]
        assert scores == pytest.approx([score * factor for _, score in expected], rel=1e-4)


@pytest.mark.slow
def test_the_table_of_differences_is_what_the_engines_answer(
    client: OpenSearch,
    opensearch_2: OpenSearch,
    elasticsearch: OpenSearch,
    elasticsearch_8: OpenSearch,
    elasticsearch_9: OpenSearch,
) -> None:
    engines = (client, opensearch_2, elasticsearch, elasticsearch_8, elasticsearch_9)
    written = differences.generated(differences.PAGE.read_text())
    answered = differences.table({differences.name_of(engine): engine for engine in engines})
    assert written == answered, "run python tests/engine/differences.py"


@pytest.mark.slow
@pytest.mark.parametrize("version", [8, 9])
def test_clients_of_elasticsearch_reach_its_own_server(
    version: int, request: pytest.FixtureRequest, new_index: Any, encoder: LatentEncoder
) -> None:
    """They check the product, and ask by media types of their version."""
    url = request.getfixturevalue(f"elasticsearch_{version}_url")
    engine = request.getfixturevalue(f"elasticsearch_{version}")
    index = new_index(engine)
    Path("c.jsonl").write_text('{"_id": "bees", "text": "Bees dance to tell of nectar."}\n')
    with importlib.import_module(f"elasticsearch{version}").Elasticsearch(url) as its_client:
        result = IngestJob(its_client, "c.jsonl", index=index, encoder=encoder).run()
        assert result.report.indexed == 1
        searcher = Searcher(its_client, index, [encoder])
        (hit,) = searcher.search("how do bees tell others of flowers")["hits"]["hits"]
    assert hit["_id"] == "bees"


@pytest.mark.slow
@pytest.mark.parametrize("version", [8, 9])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"index.mapping.source.mode": "synthetic"}, "derives .*.source.mode: synthetic"),
        ({"index.mode": "logsdb"}, "derives .* .index.mode: logsdb"),
        ({"index.mapping.source.mode": "disabled"}, "keeps no documents .*source.mode: disabled"),
    ],
)
def test_an_index_that_derives_its_documents_is_refused(
    version: int,
    settings: dict[str, Any],
    said: str,
    request: pytest.FixtureRequest,
    new_index: Any,
    encoder: LatentEncoder,
) -> None:
    engine = request.getfixturevalue(f"elasticsearch_{version}")
    index = new_index(engine)
    mappings = {"properties": {"text": {"type": "text", "store": True}}}
    engine.indices.create(index=index, body={"settings": settings, "mappings": mappings})
    with pytest.raises(MismatchError, match=said):
        plan(ExistingIndex.read(engine, index), encoder, {"text_fields": ["text"]})


@pytest.mark.slow
def test_a_run_that_was_cut_resumes_on_every_engine(
    other: OpenSearch, new_index: Any, encoder: LatentEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_BATCH_LINES", 4)
    index = new_index(other)
    rows = [json.dumps({"_id": str(n % 9), "text": f"text {n}"}) for n in range(20)]
    Path("c.jsonl").write_text("\n".join(rows))
    forbidden = TransportError(403, "forbidden", {})
    indexed = 0
    for stops_after in (2, None):
        failing: Any = Failing(
            other, lambda call, _, most=stops_after: forbidden if most and call > most else None
        )
        meta = open_index(other, index, encoder, {})
        run = Journal(Path("journal.sqlite")).open(
            RunKey("c.jsonl", index, Index(other, index).uuid())
        )
        report = Ingest(failing, index, encoder, meta, "c.jsonl", run=run, concurrency=1).run()
        run.close()
        assert (report.stopped is None) == (stops_after is None)
        assert report.indexed > indexed
        indexed = report.indexed
    other.indices.refresh(index=index)
    hits = other.search(index=index, body={"size": 100})["hits"]["hits"]
    expected = {str(n % 9): f"text {n}" for n in range(20)}
    assert {hit["_id"]: hit["_source"]["text"] for hit in hits} == expected
    assert len(hits) == 9


@pytest.mark.slow
def test_an_index_of_every_engine_gets_latent_terms_and_a_question_table(
    other: OpenSearch, new_index: Any, encoder: LatentEncoder
) -> None:
    """It is closed for a moment, and a plain `match` of the latent field then finds by meaning."""
    index = new_index(other)
    other.indices.create(index=index, body={"mappings": {"properties": {"text": {"type": "text"}}}})
    texts = {
        "bees": "Honey insects dance to tell their hive.",
        "loans": "The bank raised its rate.",
    }
    for name, text in texts.items():
        other.index(index=index, id=name, body={"text": text}, refresh=True)
    table = StoredTable.of(QuestionTable.load(), 20_000)
    existing = ExistingIndex.read(other, index)
    preparation = plan(existing, encoder, {"text_fields": ["text"]}, table)
    prepare(preparation, Retry(other))
    assert Enrich(other, preparation, encoder).run().encoded == 2
    other.indices.refresh(index=index)
    body = {"query": {"match": {"latent": "bees"}}}
    hits = other.search(index=index, body=body)["hits"]["hits"]
    assert hits[0]["_id"] == "bees"


@pytest.mark.slow
def test_the_doctor_finds_every_engine_in_good_order(
    other: OpenSearch, new_index: Any, load: Any
) -> None:
    index = new_index(other)
    load(other, index, ['{"_id": "bees", "text": "Insects dance to tell where nectar is."}'])
    other.indices.refresh(index=index)
    found = {finding.check: finding for finding in examine(other, index, write=True)}
    assert [one for one in found.values() if one.state in ("warning", "problem")] == []
    assert found["version"].state == found["model"].state == "ok"
    assert [one.found for one in found.values() if one.found.startswith("refused")] == []
