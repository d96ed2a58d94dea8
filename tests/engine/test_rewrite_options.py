"""Options of a request under each form, limits of the engine, and invalid input."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from opensearchpy import OpenSearch, Search
from opensearchpy.exceptions import TransportError
from querying.bodies import OTHER, QUESTION

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError, MismatchError
from latent_ingest.connector.querying.clause_limit import SETTING, read_clause_limit
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.scoring import Form
from latent_ingest.connector.querying.searcher import Searcher

MATCH = {"match": {"text": QUESTION}}


def hits(client: OpenSearch, rewriter: QueryRewriter, body: Any, **settings: Any) -> list[Any]:
    new = rewriter.rewrite_body(body, **settings)
    found: list[Any] = client.search(index=rewriter.index, body=new)["hits"]["hits"]
    return found


def ids(found: list[Any]) -> list[str]:
    return [hit["_id"] for hit in found]


@pytest.mark.parametrize("form", list(Form))
def test_pages_follow_one_another(client: OpenSearch, rewriter: QueryRewriter, form: str) -> None:
    """Within the hits that all terms rescore, a quarter of the window."""

    def page(start: int, size: int) -> list[Any]:
        body = {"query": MATCH, "from": start, "size": size}
        return hits(client, rewriter, body, form=form, window=120)

    whole = page(0, 30)
    pages = [hit for start in range(0, 30, 6) for hit in page(start, 6)]
    assert len(whole) == 30
    assert [(h["_id"], h["_score"]) for h in pages] == [(h["_id"], h["_score"]) for h in whole]


@pytest.fixture(scope="module")
def sharded(
    client: OpenSearch, rewriter: QueryRewriter, encoder: LatentEncoder
) -> Iterator[QueryRewriter]:
    """The same documents on three shards."""
    name = f"{rewriter.index}-shards"
    ((_, made),) = client.indices.get(index=rewriter.index).items()
    settings = {part: made["settings"]["index"][part] for part in ("analysis", "similarity")}
    body = {"settings": {**settings, "number_of_shards": 3}, "mappings": made["mappings"]}
    client.indices.create(index=name, body=body)
    try:
        copy = {"source": {"index": rewriter.index}, "dest": {"index": name}}
        client.reindex(body=copy, params={"refresh": "true"})
        yield QueryRewriter.from_index(client, name, encoder)
    finally:
        client.indices.delete(index=name)


@pytest.mark.parametrize("matching", ["expand", "keep"])
@pytest.mark.parametrize("form", ["hybrid_two_phase", "two_phase"])
@pytest.mark.parametrize("on", ["rewriter", "sharded"])
def test_no_hit_comes_twice_on_pages_beyond_the_window(
    client: OpenSearch, form: str, matching: str, on: str, request: pytest.FixtureRequest
) -> None:
    rewriter: QueryRewriter = request.getfixturevalue(on)
    seen = []
    for page in range(30):
        body = {"query": MATCH, "from": 4 * page, "size": 4}
        settings = {"form": form, "matching": matching, "window": 17}
        seen += ids(hits(client, rewriter, body, **settings))
    whole = {"query": MATCH, "size": 1000}
    most = len(hits(client, rewriter, whole, form=form, matching=matching))
    assert len({*seen}) == len(seen) == min(120, most) > 20


@pytest.mark.parametrize("form", list(Form))
def test_search_after_goes_through_all_hits_once(
    client: OpenSearch, rewriter: QueryRewriter, form: str
) -> None:
    sort = [{"_score": "desc"}, {"title.keyword": "asc"}]
    body: dict[str, Any] = {"query": MATCH, "sort": sort, "size": 7}
    seen: list[Any] = []
    while page := hits(client, rewriter, body, form=form):
        seen += page
        body["search_after"] = page[-1]["sort"]
    whole = hits(client, rewriter, {"query": MATCH, "size": 1000, "sort": sort}, form=form)
    assert len(whole) > 20
    assert ids(seen) == ids(whole)


@pytest.mark.parametrize("form", list(Form))
def test_collapse_has_the_best_of_each_group(
    client: OpenSearch, rewriter: QueryRewriter, form: str
) -> None:
    one_phase = {"two_phase": "latent", "hybrid_two_phase": "hybrid"}.get(form, form)
    every = hits(client, rewriter, {"query": MATCH, "size": 1000}, form=one_phase)
    best: dict[Any, str] = {}
    for hit in every:
        best.setdefault(hit["_source"]["year"], hit["_id"])
    body = {"query": MATCH, "collapse": {"field": "year"}, "size": 1000}
    assert ids(hits(client, rewriter, body, form=form)) == list(best.values())


@pytest.mark.parametrize("form", list(Form))
def test_min_score_is_of_sums_or_of_words(
    client: OpenSearch, rewriter: QueryRewriter, form: str
) -> None:
    """Of the new scores under "expand", of the old ones under "keep"."""
    one_phase = {"two_phase": "latent", "hybrid_two_phase": "hybrid"}.get(form, form)
    every = hits(client, rewriter, {"query": MATCH, "size": 1000}, form=one_phase)
    limit = every[len(every) // 2]["_score"]
    body = {"query": MATCH, "size": 1000, "min_score": limit}
    found = hits(client, rewriter, body, form=form)
    assert ids(found) == [hit["_id"] for hit in every if hit["_score"] >= limit]
    words = client.search(index=rewriter.index, body={"query": MATCH, "size": 1000})["hits"]["hits"]
    limit = words[len(words) // 2]["_score"]
    kept = hits(client, rewriter, {**body, "min_score": limit}, form=form, matching="keep")
    assert set(ids(kept)) == {hit["_id"] for hit in words if hit["_score"] >= limit}
    assert 0 < len(kept) < len(words)


def test_hits_come_without_latents_unless_the_request_says_so(
    client: OpenSearch, rewriter: QueryRewriter
) -> None:
    (plain, *_) = hits(client, rewriter, {"query": MATCH})
    assert plain["_source"].keys() >= {"title", "text", "year"}
    assert not plain["_source"].keys() & {"latent", "latent_hash"}
    (own, *_) = hits(client, rewriter, {"query": MATCH, "_source": ["latent", "title"]})
    assert own["_source"].keys() == {"latent", "title"}
    (none, *_) = hits(client, rewriter, {"query": MATCH, "stored_fields": ["title"]})
    assert "_source" not in none


@pytest.mark.parametrize(
    "reads_votes",
    [
        {"script_score": {"query": {}, "script": {"source": "_score + doc['votes'].value"}}},
        {"function_score": {"query": {}, "script_score": {"script": "doc['votes'].value"}}},
        {"function_score": {"query": {}, "field_value_factor": {"field": "votes"}}},
    ],
)
def test_a_script_sees_only_what_words_find(
    client: OpenSearch, index: str, load: Any, encoder: LatentEncoder, reads_votes: dict[str, Any]
) -> None:
    """Under "expand" it may see a document without the field that it reads, and fail."""
    rows = [
        {"_id": "a", "text": "Honey insects dance to tell where nectar is.", "votes": 3},
        {"_id": "b", "text": "A bee tells of flowers that it found."},
    ]
    load(client, index, [json.dumps(row) for row in rows])
    rewriter = QueryRewriter.from_index(client, index, encoder)
    ((kind, content),) = reads_votes.items()
    query = {kind: {**content, "query": {"match": {"text": "honey insects"}}}}
    assert ids(hits(client, rewriter, {"query": query})) == ["a"]
    new = rewriter.rewrite_body({"query": query}, matching="expand")
    with pytest.raises(TransportError, match="exception"):
        client.search(index=index, body=new)


def test_fields_within_fed_ones_are_fed_too(rewriter: QueryRewriter) -> None:
    """`title.plain` has the text of `title` in another analyzer; `title.keyword` is not text."""
    given = {"query": {"match": {"title.plain": QUESTION}}}
    assert rewriter.rewrite_and_report(given)[1].rewritten[0].fields == ("title.plain",)
    given = {"query": {"match": {"title.keyword": QUESTION}}}
    assert not rewriter.rewrite_and_report(given)[1].rewritten


def test_searches_of_opensearch_py(client: OpenSearch, rewriter: QueryRewriter) -> None:
    """The new Search has the same client and index; the given one is not changed."""
    search = (
        Search(using=client, index=str(rewriter.index))
        .query("match", text=QUESTION)
        .filter("range", year={"gte": 2003})
        .exclude("term", votes=2)
        .highlight("text", number_of_fragments=1)
        .extra(size=20, min_score=0.5)
    )
    search.aggs.bucket("years", "terms", field="year")
    before = search.to_dict()
    new = rewriter.rewrite_search(search)
    assert search.to_dict() == before
    old, answer = search.execute(), new.execute()
    assert len(old.hits) > 3
    assert {hit.meta.id for hit in answer} == {hit.meta.id for hit in old}
    assert answer.aggregations.to_dict() == old.aggregations.to_dict()
    assert [hit.meta.score for hit in answer] != [hit.meta.score for hit in old]
    assert "latent" not in answer.hits[0]
    two = rewriter.rewrite_search(search, form="two_phase", matching="expand", head_terms=5)
    assert two.to_dict() == rewriter.rewrite_body(
        before, form="two_phase", matching="expand", head_terms=5
    )


@pytest.fixture
def few_clauses(client: OpenSearch) -> Iterator[int]:
    """Lower the engine's clause limit for a test."""
    client.cluster.put_settings(body={"transient": {SETTING: 120}})
    yield 120
    client.cluster.put_settings(body={"transient": {SETTING: None}})


def test_a_query_in_extra_is_rewritten(client: OpenSearch, rewriter: QueryRewriter) -> None:
    query = {"match": {"text": QUESTION}}
    search = Search(using=client, index=str(rewriter.index)).extra(query=query, size=3)
    new = rewriter.rewrite_search(search)
    assert new.to_dict() == rewriter.rewrite_body({"query": query, "size": 3})
    assert search.to_dict() == {"query": query, "size": 3}
    assert len(new.execute().hits) == 3


@pytest.mark.usefixtures("few_clauses")
def test_a_lowered_limit_is_honoured(
    client: OpenSearch, rewriter: QueryRewriter, encoder: LatentEncoder
) -> None:
    """Each latent term, word and filter counts; what the engine takes is used to the full. A
    searcher notices a limit that is lowered while it runs."""
    assert read_clause_limit(client) == 120
    low = QueryRewriter.from_index(client, str(rewriter.index), encoder)
    votes = {"bool": {"should": [{"term": {"votes": vote}} for vote in range(9)]}}
    filters = [{"terms": {"year": [2001, 2002]}}, votes]
    query = {"bool": {"should": [MATCH, {"match": {"title": OTHER}}], "filter": filters}}
    for form in Form:
        new, report = low.rewrite_and_report({"query": query}, form=form)
        client.search(index=low.index, body=new)
        assert sum(clause.terms for clause in report.rewritten) > 50
        client.search(index=low.index, body=low.rewrite(f"{QUESTION} {OTHER} " * 3, form=form))
    searcher = Searcher(client, str(rewriter.index), [encoder], renew_seconds=0)
    client.cluster.put_settings(body={"transient": {SETTING: 60}})
    searcher.renew()
    assert searcher.rewriter.max_clauses == 60
    assert searcher.search(QUESTION)["hits"]["hits"]
    own = Searcher(client, str(rewriter.index), [encoder], renew_seconds=0, max_clauses=500)
    own.renew()
    assert own.rewriter.max_clauses == 500


def test_the_limit_is_1024_unless_told_otherwise(client: OpenSearch) -> None:
    assert read_clause_limit(client) == 1024


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize(
    "text",
    [
        "the of and",
        "\x07bell\x00 and \x1b[31mred",
        "word " * 400,
        "naïve 日本語 \U0001f600",
        "?!-+",
    ],
)
def test_odd_questions_are_taken(
    client: OpenSearch, rewriter: QueryRewriter, text: str, form: str
) -> None:
    client.search(index=rewriter.index, body=rewriter.rewrite(text, form=form))
    client.search(
        index=rewriter.index,
        body=rewriter.rewrite_body({"query": {"match": {"text": text}}}, form=form),
    )


@pytest.mark.slow
def test_ten_thousand_words_find_by_latents_alone(
    client: OpenSearch, rewriter: QueryRewriter, documents: list[dict[str, str]]
) -> None:
    """The engine would refuse this many words."""
    own = documents[3]["text"].split()
    words = (own * 10_000)[:10_000]
    body = rewriter.rewrite(" ".join(words))
    (first, *_) = client.search(index=rewriter.index, body=body)["hits"]["hits"]
    assert first["_id"] == documents[3]["_id"]
    assert "match" not in json.dumps(body)


def test_what_is_not_there_is_said(
    client: OpenSearch, rewriter: QueryRewriter, encoder: LatentEncoder, index: str
) -> None:
    body = {"query": MATCH}
    for field in ("nowhere", "year", "title.keyword"):
        with pytest.raises(InputError, match=rf"field {field}: .* title, text, words"):
            rewriter.rewrite_body(body, fields=[field])
    assert rewriter.rewrite_and_report(body, fields=["text", "tags"])[1].rewritten
    assert QueryRewriter.from_index(client, str(rewriter.index)).rewrite_body({}) == {
        "_source": {"excludes": ["latent", "latent_hash"]}
    }, "the model that ships is the default, and not loaded before it is needed"
    client.indices.create(index=index)
    with pytest.raises(MismatchError, match=f"latent-ingest enrich --index {index}"):
        QueryRewriter.from_index(client, index, encoder)


def rewrite(index: str, *options: str, body: str) -> Any:
    arguments = ["rewrite", "--index", index, "--dtype", "float32", *options]
    return CliRunner().invoke(cli, arguments, input=body)


def test_the_command_rewrites_a_body(
    rewriter: QueryRewriter, opensearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The body goes to standard output, the report to standard error."""
    monkeypatch.setenv("OPENSEARCH_URL", opensearch_url)
    index = str(rewriter.index)
    given = {"query": {"bool": {"must": [MATCH], "filter": [{"match_phrase": {"text": "a b"}}]}}}
    ran = rewrite(index, "--body", "-", "--form", "two_phase", body=json.dumps(given))
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout) == rewriter.rewrite_body(given, form="two_phase")
    assert "query.bool.must[0].match: two_phase, " in ran.stderr
    options = ("--body", "-", "--matching", "keep", "--fields", "text")
    ran = rewrite(index, *options, body=json.dumps(given))
    assert json.loads(ran.stdout) == rewriter.rewrite_body(given, matching="keep", fields=["text"])
    assert "matching: keep (as asked for)" in ran.stderr


def test_the_command_says_what_a_question_lost(
    rewriter: QueryRewriter, opensearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is printed if nothing was pruned."""
    monkeypatch.setenv("OPENSEARCH_URL", opensearch_url)
    index = str(rewriter.index)
    ran = rewrite(index, QUESTION, body="")
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert json.loads(ran.stdout) == rewriter.rewrite(QUESTION)
    ran = rewrite(index, QUESTION, "--max-query-terms", "9", body="")
    assert re.fullmatch(r"query.match: hybrid, 9 latent terms, \d\d% of the weight\n", ran.stderr)


@pytest.mark.usefixtures("few_clauses")
def test_terms_of_a_set_count_each(
    client: OpenSearch, rewriter: QueryRewriter, encoder: LatentEncoder
) -> None:
    """Clauses on numbers count twice; the engine refuses requests above its limit."""
    low = QueryRewriter.from_index(client, str(rewriter.index), encoder)
    terms = [f"t{number}" for number in range(45)]
    minimum = {"minimum_should_match_script": {"source": "1"}}
    some = {"terms_set": {"tags": {"terms": ["a", *terms], **minimum}}}
    years = {"terms_set": {"year": {"terms": list(range(2000, 2020)), **minimum}}}
    given = {"query": {"bool": {"should": [MATCH, some, years]}}}
    new, report = low.rewrite_and_report(given)
    assert client.search(index=low.index, body=new)["hits"]["hits"]
    assert 10 < report.rewritten[0].terms < 120 - 45 - 2 * 20


@pytest.mark.parametrize(
    ("options", "body", "message"),
    [
        (("--body", "-"), "[1]", "the request body is of type list"),
        (("--body", "-"), "{", "<stdin>: not JSON"),
        (("--body", "-"), "[" * 100_000, "<stdin>: not JSON"),
        (("--body", "nowhere.json"), "", "nowhere.json"),
        ((), "", "give either a question or --body FILE"),
        (("question", "--body", "-"), "{}", "give either a question or --body FILE"),
        (("--body", "-", "--size", "3"), "{}", "--size and --filter are for a question"),
        (
            ("question", "--matching", "keep"),
            "",
            "--matching, --fields and --endpoint are for --body",
        ),
        (("--body", "-", "--fields", "nowhere"), "{}", "field nowhere: the index has no such"),
    ],
)
def test_the_command_refuses_what_it_cannot_use(
    rewriter: QueryRewriter,
    opensearch_url: str,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    body: str,
    message: str,
) -> None:
    monkeypatch.setenv("OPENSEARCH_URL", opensearch_url)
    ran = rewrite(str(rewriter.index), *options, body=body)
    assert ran.exit_code == 2
    assert message in ran.stderr
    assert "Traceback" not in ran.output
