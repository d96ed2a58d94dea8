"""Questions by the table of an index, read back from its settings: no torch, no model folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import AuthorizationException

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError, MismatchError, ModelError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.searcher import Searcher
from latent_ingest.connector.questions.question_table import QuestionTable
from latent_ingest.connector.questions.stored_table import StoredTable
from latent_ingest.mappings import SEARCH_ANALYZER

QUESTION = "Write a list of strings to the file"
PREFIX = "latent-ingest-test-questions-"


@pytest.fixture(scope="module")
def table() -> StoredTable:
    made = StoredTable.of(QuestionTable.load(), 2000)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def index(
    client: OpenSearch,
    encoder: LatentEncoder,
    corpus: Path,
    table: StoredTable,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    name = f"{PREFIX}0"
    meta = open_index(client, name, encoder, {}, None, table)
    with pytest.MonkeyPatch.context() as patch:
        journal = tmp_path_factory.mktemp("journal") / "journal.sqlite"
        patch.setenv("LATENT_INGEST_JOURNAL", str(journal))
        assert Ingest(client, name, encoder, meta, corpus).run().ok
    yield name
    client.indices.delete(index=name)


def clauses(body: dict[str, Any]) -> dict[str, float]:
    """Latent terms of a request in the latent form, and their boosts."""
    found: dict[str, float] = {}

    def look(part: Any) -> None:
        if isinstance(part, dict):
            if "latent" in part and isinstance(part["latent"], dict):
                found[part["latent"]["value"]] = part["latent"].get("boost", 1.0)
            for value in part.values():
                look(value)
        elif isinstance(part, list):
            for value in part:
                look(value)

    look(body["query"])
    return found


def test_the_rewriter_and_the_engine_give_the_same_terms(client: OpenSearch, index: str) -> None:
    rewriter = QueryRewriter.from_index(client, index, questions="table", max_query_terms=1000)
    for text in (QUESTION, "bone-loss ÉTÉ file, file", "f12 f55 f12"):
        body = {"analyzer": SEARCH_ANALYZER, "text": text}
        tokens = client.indices.analyze(index=index, body=body)["tokens"]
        expected = Counter(token["token"] for token in tokens)
        assert expected
        assert {item.term: item.weight for item in rewriter.terms(text)} == expected


def test_hits_and_scores_are_those_of_a_match(client: OpenSearch, index: str) -> None:
    rewriter = QueryRewriter.from_index(client, index, questions="table", max_query_terms=1000)
    rewritten = rewriter.rewrite(QUESTION, form="latent")
    by_match = {"query": {"match": {"latent": QUESTION}}, "_source": False}
    one, other = (
        {hit["_id"]: hit["_score"] for hit in client.search(index=index, body=body)["hits"]["hits"]}
        for body in (rewritten, by_match)
    )
    assert one == pytest.approx(other, rel=1e-4)


def test_no_model_folder_is_needed(client: OpenSearch, index: str, tmp_path: Path) -> None:
    for options in ({}, {"statistics_seconds": None}):
        rewriter = QueryRewriter.from_index(
            client, index, tmp_path / "none", questions="table", **options
        )
        assert rewriter.terms(QUESTION)
        hits = client.search(index=index, body=rewriter.rewrite(QUESTION))["hits"]["hits"]
        assert hits
    with pytest.raises(ModelError):
        _ = rewriter.encoder


def test_the_report_says_which_table(client: OpenSearch, index: str, table: StoredTable) -> None:
    rewriter = QueryRewriter.from_index(client, index, questions="table")
    body, report = rewriter.rewrite_and_report(" ".join(list(table.rules)[100:104]))
    assert clauses(body)
    assert f"questions: table of the index, {len(table.rules):,} words" in list(report.lines())
    _, report = rewriter.rewrite_and_report({"query": {"match": {"text": "model quuxly 水"}}})
    assert report.lacking == ("quuxly",)
    assert any("which lacks quuxly: searched as words alone" in line for line in report.lines())
    assert rewriter.lacking("model quuxly") == ["quuxly"]


def test_terms_that_no_model_has_are_left_out(client: OpenSearch, index: str) -> None:
    rewriter = QueryRewriter.from_index(client, index, questions="table")
    assert [item.term for item in rewriter.terms("f12 f999999")] == ["f12"]


def test_an_index_without_a_table_is_asked_by_that_of_the_model(
    client: OpenSearch, new_index: Any, encoder: LatentEncoder
) -> None:
    name = new_index()
    open_index(client, name, encoder, {})
    rewriter = QueryRewriter.from_index(client, name, questions="table", statistics_seconds=None)
    _, report = rewriter.rewrite_and_report(QUESTION)
    assert "questions: by the table of words" in list(report.lines())


def test_the_model_encodes_unless_the_table_is_asked_for(
    client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    by_model = QueryRewriter.from_index(client, index, encoder).terms(QUESTION)
    auto = QueryRewriter.from_index(client, index, encoder, questions="auto").terms(QUESTION)
    by_table = QueryRewriter.from_index(client, index, questions="table").terms(QUESTION)
    assert auto == by_model != by_table


def test_a_table_of_another_model_is_refused(
    client: OpenSearch, new_index: Any, encoder: LatentEncoder, table: StoredTable
) -> None:
    name = new_index()
    open_index(client, name, encoder, {}, None, table)
    Index(client, name).update_meta(questions={**table.note(), "fingerprint": "0" * 16})
    with pytest.raises(MismatchError, match=r"made by another model \(0{16}\) than the index"):
        QueryRewriter.from_index(client, name, questions="table")
    Index(client, name).update_meta(questions={**table.note(), "digest": "0" * 16})
    with pytest.raises(MismatchError, match=r"is about 0{16}; make it again with 'latent-ingest"):
        QueryRewriter.from_index(client, name, questions="table")


def test_questions_are_given_once(client: OpenSearch, index: str) -> None:
    with pytest.raises(InputError, match="give questions to the QueryEncoder"):
        QueryRewriter.from_index(client, index, QueryEncoder(), questions="table")
    with pytest.raises(InputError, match="use one of"):
        QueryRewriter.from_index(client, index, questions="tables")


def test_a_searcher_takes_over_a_new_table(
    client: OpenSearch, new_index: Any, encoder: LatentEncoder, table: StoredTable
) -> None:
    one, other, alias = new_index(), new_index(), f"{PREFIX}alias"
    small = replace(table, rules=dict(list(table.rules.items())[:500]))
    for name, some in ((one, table), (other, small)):
        open_index(client, name, encoder, {}, None, some)
    client.indices.put_alias(index=one, name=alias)
    searcher = Searcher(client, alias, [QueryEncoder(questions="table")], renew_seconds=0)
    assert "2,0" in reported(searcher) or "1,9" in reported(searcher)
    actions = [
        {"remove": {"index": one, "alias": alias}},
        {"add": {"index": other, "alias": alias}},
    ]
    client.indices.update_aliases(body={"actions": actions})
    searcher.search(QUESTION)
    assert "table of the index, 500 words" in reported(searcher)


def reported(searcher: Searcher) -> str:
    return "\n".join(searcher.rewriter.rewrite_and_report(QUESTION)[1].lines())


def test_a_login_that_may_not_read_settings_uses_the_table_of_the_model(
    client: OpenSearch, index: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AuthorizationException(403, "security_exception", {})

    monkeypatch.setattr(client.indices, "get_settings", refuse)
    rewriter = QueryRewriter.from_index(client, index, questions="table")
    assert rewriter.terms(QUESTION)
    assert any("may not read the settings" in line for line in caplog.messages)


def test_torch_is_not_imported(opensearch_url: str, index: str) -> None:
    program = (
        "import sys, json\n"
        "from latent_ingest.connector import Connection, QueryRewriter\n"
        "client = Connection(sys.argv[1]).open()\n"
        "rewriter = QueryRewriter.from_index(client, sys.argv[2], questions='table')\n"
        "body = rewriter.rewrite('list of files')\n"
        "print(json.dumps([len(str(body)), [m for m in ('torch', 'transformers') "
        "if m in sys.modules]]))\n"
    )
    command = [sys.executable, "-c", program, opensearch_url, index]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    length, imported = json.loads(done.stdout)
    assert length > 100
    assert imported == []
