"""Indices with a question table: made, opened again, enriched, copied, tuned, made anew."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from opensearchpy import OpenSearch
from shop import make

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import InputError, MismatchError
from latent_ingest.connector.index.creation import QUESTION_SETTINGS
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import list_indices
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.index.preparing import ExistingIndex, plan, prepare
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.indexing.jobs.enrich_job import EnrichJob
from latent_ingest.connector.indexing.jobs.ingest_job import IngestJob
from latent_ingest.connector.questions.question_table import QuestionTable
from latent_ingest.connector.questions.stored_table import INDEX_WORDS, Digest, StoredTable
from latent_ingest.connector.tuning.tuned_index import in_place, on_a_copy
from latent_ingest.mappings import SEARCH_ANALYZER

pytestmark = pytest.mark.question_tables

WORDS = 2000
QUESTION = "Write a list of strings to the file"


@pytest.fixture(scope="module")
def table() -> StoredTable:
    """The first words of minilm-32k's table, so that indices are made quickly."""
    made = StoredTable.of(QuestionTable.load(), WORDS)
    assert made is not None
    return made


@pytest.fixture
def ingested(
    client: OpenSearch, index: str, encoder: LatentEncoder, corpus: Path, table: StoredTable
) -> str:
    """An index with a table, and the corpus in it."""
    meta = open_index(client, index, encoder, {}, None, table)
    assert Ingest(client, index, encoder, meta, corpus).run().ok
    return index


def analyzed(client: OpenSearch, index: str, text: str) -> Counter[str]:
    body = {"analyzer": SEARCH_ANALYZER, "text": text}
    answer = client.indices.analyze(index=index, body=body)
    return Counter(token["token"] for token in answer["tokens"])


def terms_of(table: StoredTable, text: str) -> Counter[str]:
    latents, weights = table.encode(text)
    return Counter(
        {f"f{latent}": int(w) for latent, w in zip(latents.tolist(), weights, strict=True)}
    )


def search_analyzer(client: OpenSearch, index: str, field: str = "latent") -> str | None:
    found: str | None = Index(client, index).mapping()["properties"][field].get("search_analyzer")
    return found


def match(client: OpenSearch, index: str, text: str, field: str = "latent") -> list[str]:
    body = {"query": {"match": {field: text}}, "_source": False}
    return [hit["_id"] for hit in client.search(index=index, body=body)["hits"]["hits"]]


def test_a_match_finds_by_the_weights_of_the_table(
    client: OpenSearch, ingested: str, table: StoredTable
) -> None:
    """A plain match scores as a boosted term clause of each latent does."""
    latents, weights = table.encode(QUESTION)
    clauses = [
        {"term": {"latent": {"value": f"f{latent}", "boost": float(weight)}}}
        for latent, weight in zip(latents.tolist(), weights, strict=True)
    ]
    size = {"size": 20, "_source": False}
    by_terms = client.search(index=ingested, body={"query": {"bool": {"should": clauses}}, **size})
    by_match = client.search(
        index=ingested, body={"query": {"match": {"latent": QUESTION}}, **size}
    )
    scores = {hit["_id"]: hit["_score"] for hit in by_match["hits"]["hits"]}
    assert scores
    for hit in by_terms["hits"]["hits"]:
        assert scores[hit["_id"]] == pytest.approx(hit["_score"], rel=1e-5)


def test_the_meta_says_what_table_it_is(
    client: OpenSearch, ingested: str, encoder: LatentEncoder, table: StoredTable
) -> None:
    meta = Index(client, ingested).meta()
    assert meta.questions == {
        "digest": table.note()["digest"],
        "words": len(table.rules),
        "origin": "model",
        "fingerprint": encoder.fingerprint.digest,
    }
    assert search_analyzer(client, ingested) == SEARCH_ANALYZER
    settings = Index(client, ingested).settings()
    again = StoredTable.from_index(ingested, meta.questions, meta.model, settings)
    assert again == table
    assert open_index(client, ingested, encoder, {}) == meta
    assert open_index(client, ingested, encoder, {}, None, table) == meta


def test_term_clauses_and_texts_of_terms_are_left_alone(client: OpenSearch, ingested: str) -> None:
    stored = client.get(index=ingested, id=match(client, ingested, QUESTION)[0])["_source"]
    some = stored["latent"].split()[:5]
    assert analyzed(client, ingested, " ".join(some)) == Counter(some)
    found = match(client, ingested, " ".join(set(some)))
    bool_query = {"bool": {"should": [{"term": {"latent": one}} for one in set(some)]}}
    body = {"query": bool_query, "_source": False}
    hits = client.search(index=ingested, body=body)["hits"]["hits"]
    assert found == [hit["_id"] for hit in hits]


def test_a_job_makes_an_index_with_a_table(
    either: OpenSearch, new_index: Any, encoder: LatentEncoder, corpus: Path
) -> None:
    index = new_index(either)
    result = IngestJob(either, corpus, index=index, encoder=encoder, question_words=600).run()
    assert result.ok
    handle = Index(either, index)
    meta = handle.meta()
    assert meta.questions is not None
    assert 500 < meta.questions["words"] <= 600
    table = StoredTable.from_index(index, meta.questions, meta.model, handle.settings())
    assert table is not None
    assert analyzed(either, index, QUESTION) == terms_of(table, QUESTION)
    assert match(either, index, QUESTION)
    again = IngestJob(either, corpus, index=index, encoder=encoder, questions=False).run()
    assert again.meta.questions == meta.questions


PROGRAM = """
import sys
from latent_ingest.cli.main import cli
cli(sys.argv[1:], standalone_mode=False)
print("torch" in sys.modules, file=sys.stderr)
"""


def test_commands_ask_by_the_table_of_the_index(
    client: OpenSearch, opensearch_url: str, index: str, encoder: LatentEncoder, corpus: Path
) -> None:
    """Without torch; explain explains that score."""
    job = IngestJob(client, corpus, index=index, encoder=encoder, question_words=600)
    assert job.run().table is not None
    where = ["--index", index, "--url", opensearch_url, "--json"]

    def asked(command: str, *options: str) -> tuple[dict[str, Any], list[str]]:
        call = [sys.executable, "-c", PROGRAM, command, QUESTION, *where, *options]
        done = subprocess.run(call, capture_output=True, text=True, check=True)
        return json.loads(done.stdout), done.stderr.splitlines()

    answer, lines = asked("search")
    assert lines[-1] == "False"
    assert answer["questions"] == "table of the index, 600 words"
    assert any(line.startswith("questions: table of the index, 600 words;") for line in lines)
    assert asked("search", "--questions", "table")[0]["hits"] == answer["hits"]
    by_model, lines = asked("search", "--questions", "model")
    assert lines[-1] == "True"
    assert "questions" not in by_model
    assert by_model["hits"] != answer["hits"]
    for question in ("書", "what is the"):
        told = CliRunner().invoke(cli, ["search", question, *where])
        assert told.exit_code == 0, told.output
        assert told.stderr.splitlines()[1:] == [
            "no word of the question is in the table, so it is searched as words alone"
        ]
    told = CliRunner().invoke(cli, ["search", "quuxly", *where])
    assert "in no table, so taken from its parts: quuxly" in told.stderr.splitlines()
    first = answer["hits"]["hits"][0]
    like = CliRunner().invoke(cli, ["search", "--like", first["_id"], *where])
    assert "questions" not in json.loads(like.stdout)
    assert like.stderr == ""
    explained, _ = asked("explain", "--id", first["_id"])
    assert explained["score"] == pytest.approx(first["_score"], rel=1e-4)


def test_commands_ask_by_the_model_where_the_table_has_other_words(
    opensearch_url: str, ingested: str
) -> None:
    """Its documents may be about what the most frequent words of the model are not."""
    command = ["search", QUESTION, "--index", ingested, "--url", opensearch_url, "--json"]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    assert "questions" not in json.loads(done.stdout)


def test_a_model_gives_its_most_frequent_words(encoder: LatentEncoder) -> None:
    table = StoredTable.of_model(encoder)
    assert table is not None
    assert len(table.rules) == pytest.approx(INDEX_WORDS, rel=0.02)
    assert (
        list(table.rules)[:100] == [w for w in QuestionTable.load().words if w in table.rules][:100]
    )


def test_without_a_table_the_index_is_as_before(
    client: OpenSearch, index: str, encoder: LatentEncoder, corpus: Path
) -> None:
    result = IngestJob(client, corpus, index=index, encoder=encoder, questions=False).run()
    assert result.meta.questions is None
    assert search_analyzer(client, index) is None
    assert not [k for k in Index(client, index).settings() if k.startswith(QUESTION_SETTINGS)]


def test_a_model_without_a_table_makes_indices_without(
    encoder: LatentEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (None, tmp_path):
        monkeypatch.setattr(encoder, "folder", folder)
        assert StoredTable.of_model(encoder) is None


def test_an_unreadable_table_is_named_and_left_out(
    encoder: LatentEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "questions.safetensors").write_bytes(b"no table")
    monkeypatch.setattr(encoder, "folder", tmp_path)
    assert StoredTable.of_model(encoder) is None
    (line,) = caplog.messages
    assert "cannot be read" in line


def test_a_table_of_another_model_is_refused(
    client: OpenSearch, index: str, encoder: LatentEncoder, table: StoredTable
) -> None:
    other = replace(table, name="theirs", fingerprint=Digest("0" * 16))
    with pytest.raises(MismatchError, match=r"table was made by model theirs \(0{16}\)"):
        open_index(client, index, encoder, {}, None, other)
    assert not client.indices.exists(index=index)


def test_a_table_that_was_changed_by_hand_is_refused(client: OpenSearch, ingested: str) -> None:
    handle = Index(client, ingested)
    rule = {"index.analysis.char_filter.latent_table.mappings": ["¦bone¦ => f1"]}
    handle.put_settings_closed(rule, Retry(client))
    meta = handle.meta()
    with pytest.raises(MismatchError, match=r"about \w{16}; make it again"):
        StoredTable.from_index(ingested, meta.questions, meta.model, handle.settings())


def test_an_empty_index_is_made_anew_with_its_table(
    client: OpenSearch, index: str, encoder: LatentEncoder, table: StoredTable
) -> None:
    open_index(client, index, encoder, {}, None, table)
    meta = open_index(client, index, encoder, {"lean": True}, None, table)
    assert meta.lean
    assert analyzed(client, index, QUESTION) == terms_of(table, QUESTION)
    assert search_analyzer(client, index) == SEARCH_ANALYZER
    without = open_index(client, index, encoder, {"lean": False})
    assert without.questions is None
    assert search_analyzer(client, index) is None
    assert not [k for k in Index(client, index).settings() if k.startswith(QUESTION_SETTINGS)]


def test_an_empty_index_keeps_its_table_if_it_cannot_be_made_anew(
    client: OpenSearch, index: str, encoder: LatentEncoder, table: StoredTable
) -> None:
    open_index(client, index, encoder, {}, None, table)
    with pytest.raises(InputError, match="nonsense"):
        open_index(client, index, encoder, {"analyzer": "nonsense"}, None, table)
    assert analyzed(client, index, QUESTION) == terms_of(table, QUESTION)
    assert Index(client, index).meta().questions == table.note()


@pytest.mark.parametrize("spelling", ["repeat", "delimited"])
def test_an_enriched_index_gets_a_table(
    client: OpenSearch,
    index: str,
    encoder: LatentEncoder,
    table: StoredTable,
    documents: list[dict[str, str]],
    spelling: str,
) -> None:
    rows = [{"_id": d["_id"], "title": "", "body": d["text"]} for d in documents[:20]]
    make(client, index, rows)
    existing = ExistingIndex.read(client, index)
    wanted = {"text_fields": ("body",), "latent_field": "meaning", "spelling": spelling}
    preparation = plan(existing, encoder, wanted, table)
    assert "closed for a moment" in str(preparation.warning)
    prepare(preparation, Retry(client))
    assert analyzed(client, index, QUESTION) == terms_of(table, QUESTION)
    assert search_analyzer(client, index, "meaning") == SEARCH_ANALYZER
    again = plan(ExistingIndex.read(client, index), encoder, {}, table)
    assert (again.settings, again.mapping) == ({}, {})
    job = EnrichJob(client, index=index, encoder=encoder)
    assert job.run().ok
    client.indices.refresh(index=index)
    assert match(client, index, QUESTION, "meaning")


def test_a_copy_that_takes_an_alias_has_the_table(
    client: OpenSearch, index: str, encoder: LatentEncoder, documents: list[dict[str, str]]
) -> None:
    rows = [{"_id": d["_id"], "title": "", "body": d["text"]} for d in documents[:20]]
    make(client, index, rows)
    alias = f"{index}-alias"
    job = EnrichJob(client, index=index, alias=alias, text_fields=["body"], encoder=encoder)
    try:
        result = job.run()
        assert result.ok
        assert result.meta.questions is not None
        assert match(client, alias, QUESTION)
        assert search_analyzer(client, result.index) == SEARCH_ANALYZER
    finally:
        for version in list_indices(client, f"{alias}-*"):
            client.indices.delete(index=version.name)


def test_tuning_leaves_the_table(client: OpenSearch, ingested: str, table: StoredTable) -> None:
    retry = Retry(client)
    for tuned in (in_place, on_a_copy):
        with tuned(ExistingIndex.read(client, ingested), retry) as changed:
            changed.set(1.1, 0.3)
            assert analyzed(client, changed.index.name, QUESTION) == terms_of(table, QUESTION)
        assert analyzed(client, ingested, QUESTION) == terms_of(table, QUESTION)
        assert Index(client, ingested).meta().questions == table.note()


def test_metas_of_indices_without_a_table_are_read(client: OpenSearch, ingested: str) -> None:
    stored = {k: v for k, v in Index(client, ingested).stored_meta().items() if k != "questions"}
    assert IndexMeta.from_stored(ingested, stored).questions is None


def test_the_listing_says_nothing_of_the_rules(opensearch_url: str, ingested: str) -> None:
    result = CliRunner().invoke(cli, ["indices", "--json", "--url", opensearch_url])
    assert result.exit_code == 0, result.output
    assert ingested in [row["index"] for row in json.loads(result.output)["indices"]]
    assert len(result.output) < 100_000


@pytest.mark.slow
def test_an_engine_that_takes_no_request_so_large_says_so_in_one_line(
    client: OpenSearch, index: str, encoder: LatentEncoder, table: StoredTable
) -> None:
    """Engines take 100 MB, unless they are told otherwise."""
    rules = {f"word{number}": "f12345×9 " * 28 for number in range(450_000)}
    large = replace(table, rules=rules)
    with pytest.raises(InputError, match=r"table of 450,000 words: .* use fewer words") as caught:
        open_index(client, index, encoder, {}, None, large)
    assert "\n" not in str(caught.value)
    make(client, index, [{"_id": "1", "title": "", "body": "text"}])
    existing = ExistingIndex.read(client, index)
    preparation = plan(existing, encoder, {"text_fields": ("body",)}, large)
    with pytest.raises(InputError, match=r"table of 450,000 words: .* use fewer words"):
        prepare(preparation, Retry(client))
    after = ExistingIndex.read(client, index)
    assert (after.open, after.settings) == (True, existing.settings)
