"""Questions by the table of an index, read back from its settings: no torch, no model folder."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from indexed import indexed
from opensearchpy import OpenSearch
from opensearchpy.exceptions import AuthorizationException

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError, MismatchError, ModelError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.searcher import Searcher
from latent_ingest.connector.questions.question_table import QuestionTable
from latent_ingest.connector.questions.stored_table import StoredTable
from latent_ingest.connector.terms import term
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
    client: OpenSearch, encoder: LatentEncoder, corpus: Path, table: StoredTable
) -> Iterator[str]:
    with indexed(client, encoder, corpus, name=f"{PREFIX}0", table=table) as name:
        yield name


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


# A model folder that is not there, so that no word is taken from the model's table.
NONE = "none"


def test_the_rewriter_and_the_engine_give_the_same_terms(client: OpenSearch, index: str) -> None:
    rewriter = QueryRewriter.from_index(
        client, index, NONE, questions="table", max_query_terms=1000
    )
    for text in (QUESTION, "bone-loss ÉTÉ file, file", "f12 f55 f12"):
        body = {"analyzer": SEARCH_ANALYZER, "text": text}
        tokens = client.indices.analyze(index=index, body=body)["tokens"]
        expected = Counter(token["token"] for token in tokens)
        assert expected
        assert {item.term: item.weight for item in rewriter.terms(text)} == expected


def test_looked_up_by_the_engine_they_are_the_same(
    client: OpenSearch, index: str, table: StoredTable
) -> None:
    """Without reading the table: each word once, however many questions have it."""
    read, asking = (
        QueryRewriter.from_index(client, index, NONE, questions=questions, max_query_terms=1000)
        for questions in ("table", "engine")
    )
    words = list(table.rules)
    texts = [QUESTION, "the f16 file quux", "f12 f55 f12", "f12|3 f99999", "Été: what?", "水", "¦",
             "x" * 300, " ".join(words[:300]), "quux " * 100 + words[7]]  # fmt: skip
    for text in texts:
        assert asking.terms(text) == read.terms(text), text
        assert asking.unknown(text) == read.unknown(text), text
    assert asking.table == read.table
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.indices, "analyze", None)
        assert asking.terms(f"{QUESTION} {words[299]}")
    body, report = asyncio.run(asking.rewrite_and_report_async(f"{words[301]} quux"))
    assert body == read.rewrite(f"{words[301]} quux")
    assert report.lacking == ("quux",)


def test_indices_with_different_tables_have_the_words_of_all(
    client: OpenSearch, new_index: Any, encoder: LatentEncoder, table: StoredTable
) -> None:
    words = list(table.rules)
    parts = {new_index(): words[:300], new_index(): words[200:500], new_index(): words[:300]}
    for name, some in parts.items():
        part = replace(table, rules={word: table.rules[word] for word in some})
        open_index(client, name, encoder, {}, None, part)
    text = " ".join([*words[100:500:50], "quux"])
    expected = table.encode(text)
    for questions in ("table", "engine"):
        rewriter = QueryRewriter.from_index(
            client, ",".join(parts), NONE, questions=questions, max_query_terms=1000
        )
        found = {item.term: item.weight for item in rewriter.terms(text)}
        assert found == {term(n): w for n, w in zip(*map(np.ndarray.tolist, expected), strict=True)}
        assert rewriter.unknown(text).lacking == ("quux",)
        assert str(rewriter.table).startswith("tables of 2 indices, ")


def test_words_that_the_index_lacks_are_taken_from_the_models_table(
    client: OpenSearch, index: str, table: StoredTable
) -> None:
    general = QuestionTable.load()
    word, *_ = [one for one in general.words[5000:] if one.isalpha() and one not in table.rules]
    known = list(table.rules)[100]
    expected: Counter[str] = Counter()
    parts = (table.encode(known), general.encode(word), general.encode(word))
    for part in (*parts, general.encode("quuxly")):
        for latent, weight in zip(*map(np.ndarray.tolist, part), strict=True):
            expected[term(latent)] += weight
    text = f"{word} {known} {word} quuxly"
    for questions in ("table", "engine"):
        rewriter = QueryRewriter.from_index(
            client, index, questions=questions, max_query_terms=1000
        )
        assert {item.term: item.weight for item in rewriter.terms(text)} == expected
        assert rewriter.unknown(text) == ((word,), ("quuxly",), ())
        _, report = rewriter.rewrite_and_report(text)
        assert report.borrowed == (word,)
        assert (report.pieced, report.lacking) == (("quuxly",), ())
        told = f"questions: by the model's table, since that of the index lacks it: {word}"
        assert {told, "questions: by their parts, since no table has them: quuxly"} <= {
            *report.lines()
        }
    alone = QueryRewriter.from_index(client, index, NONE, questions="table")
    assert alone.unknown(text) == ((), (), (word, "quuxly"))


def test_hits_and_scores_are_those_of_a_match(client: OpenSearch, index: str) -> None:
    rewriter = QueryRewriter.from_index(
        client, index, NONE, questions="table", max_query_terms=1000
    )
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
    rewriter = QueryRewriter.from_index(client, index, NONE, questions="table")
    body, report = rewriter.rewrite_and_report(" ".join(list(table.rules)[100:104]))
    assert clauses(body)
    assert f"questions: table of the index, {len(table.rules):,} words" in list(report.lines())
    _, report = rewriter.rewrite_and_report({"query": {"match": {"text": "model quuxly 水"}}})
    assert report.lacking == ("quuxly",)
    assert any("which lacks quuxly: searched as words alone" in line for line in report.lines())
    assert rewriter.unknown("model quuxly").lacking == ("quuxly",)


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

    expected = QueryRewriter.from_index(client, index, questions="table").terms(QUESTION)
    monkeypatch.setattr(client.indices, "analyze", refuse)
    asking = QueryRewriter.from_index(client, index, questions="engine")
    assert asking.terms(QUESTION) == expected
    monkeypatch.setattr(client.indices, "get_settings", refuse)
    for questions in ("table", "engine"):
        caplog.clear()
        rewriter = QueryRewriter.from_index(client, index, questions=questions)
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
