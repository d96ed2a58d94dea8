"""Clients that nobody here wrote get the answers of the engine through the proxy, in its order.

Each program makes the same requests without the proxy and through it. The answers are equal but for
times and ids of scrolls; only the question to an index of latent terms is answered by meaning.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from elastic_proxy import USER, Elastic, ElasticProxy
from engine.conftest import PREFIX, elasticsearch, elasticsearch_url  # noqa: F401
from indexed import indexed
from opensearchpy import OpenSearch
from proxy.conftest import Running
from proxy_clients.conftest import QUESTION, Program, missing, needed, run

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.querying.rewriter import QueryRewriter

# Parts of answers that differ from one request to the next.
TIMES = {"took", "_scroll_id", "throttled_millis", "_seq_no", "_primary_term", "ingest_took"}

MATCH = {"query": {"match": {"text": QUESTION}}}


def settled(value: Any, index: str) -> Any:
    """An answer without what differs each time, and without the name of the index."""
    if isinstance(value, dict):
        return {name: settled(v, index) for name, v in value.items() if name not in TIMES}
    if isinstance(value, list):
        return [settled(item, index) for item in value]
    return value.replace(index, "INDEX") if isinstance(value, str) else value


def check(program: Program, engine: str, proxied: Running, papers: str) -> None:
    """Run a program both ways and compare."""
    answers = []
    for url, index in ((engine, f"{PREFIX}direct"), (proxied.url, f"{PREFIX}by-proxy")):
        told = program(url, index, papers, QUESTION)
        answers.append((settled(told["steps"], index), told["hits"]))
    (direct, by_words), (through, by_meaning) = answers
    assert through == direct
    assert len(direct) >= 8
    assert by_words != by_meaning
    assert by_words == ids_of(papers, engine, "off")
    assert by_meaning == ids_of(papers, engine, "hybrid")


def ids_of(papers: str, engine: str, form: str) -> list[str]:
    """The hits of the question: those of the engine, or those of the library."""
    client = Connection(engine).open()
    body: Any = MATCH
    if form != "off":
        encoder = LatentEncoder.shared(device="cpu", dtype="float32")
        body = QueryRewriter.from_index(client, papers, encoder).rewrite_body(MATCH)
    found = client.search(index=papers, body=body)["hits"]["hits"]
    assert found
    return [hit["_id"] for hit in found]


def requests_of(client: Any, index: str, papers: str) -> Any:
    """The requests of a Python client: opensearch-py, or elasticsearch 7 and 8 with `body`."""
    steps: dict[str, Any] = {}
    mapping = {"mappings": {"properties": {"group": {"type": "keyword"}}}}
    steps["create"] = client.indices.create(index=index, body=mapping)
    first = {"text": "one document", "group": "a"}
    steps["index"] = client.index(index=index, id="first", body=first, refresh=True)
    lines: list[Any] = []
    for n in range(20):
        lines += [
            {"index": {"_index": index, "_id": f"b{n}"}},
            {"text": f"document number {n}", "n": n, "group": ("even", "odd")[n % 2]},
        ]
    steps["bulk"] = client.bulk(body=lines, refresh=True)
    steps["get"] = client.get(index=index, id="b3")
    groups = {"groups": {"terms": {"field": "group"}}}
    query = {"query": {"match": {"text": "number 7"}}, "size": 3, "aggs": groups}
    steps["search"] = client.search(index=index, body=query)
    every = {"query": {"match_all": {}}, "sort": ["_doc"]}
    page = client.search(index=index, body=every, scroll="1m", size=7)
    seen = []
    while page["hits"]["hits"]:
        seen.append([hit["_id"] for hit in page["hits"]["hits"]])
        page = client.scroll(scroll_id=page["_scroll_id"], scroll="1m")
    steps["scroll"] = seen
    odd = {"query": {"term": {"group": "odd"}}}
    steps["delete_by_query"] = client.delete_by_query(index=index, body=odd, refresh=True)
    steps["alias"] = client.indices.put_alias(index=index, name=f"{index}-alias")
    steps["count"] = client.count(index=f"{index}-alias")
    ask = [{"index": index}, {"query": {"match": {"text": "document"}}, "size": 1}]
    steps["msearch"] = client.msearch(body=ask)
    steps["exists"] = (
        bool(client.exists(index=index, id="b3")),
        bool(client.exists(index=index, id="b2")),
    )
    try:
        client.get(index=index, id="nowhere")
    except Exception as error:  # each client has its own
        steps["missing"] = error.status_code  # type: ignore[attr-defined]
    found = client.search(index=papers, body=MATCH)
    steps["delete"] = client.indices.delete(index=index)
    plain = {name: getattr(answer, "body", answer) for name, answer in steps.items()}
    return {"steps": plain, "hits": [hit["_id"] for hit in found["hits"]["hits"]]}


def test_opensearch_py(opensearch_url: str, proxy: Running, papers: str) -> None:
    check(
        lambda url, index, papers, _: requests_of(OpenSearch(url), index, papers),
        opensearch_url,
        proxy,
        papers,
    )


@pytest.fixture(scope="module")
def elastic(
    elasticsearch_url: str,  # noqa: F811
    elasticsearch: OpenSearch,  # noqa: F811
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
) -> Iterator[tuple[str, str, str]]:
    """An Elasticsearch that asks for a login: its URL, the same without login, and the index."""
    with (
        ElasticProxy(elasticsearch_url).listening(Elastic) as url,
        indexed(elasticsearch, encoder, documents[:40]) as papers,
    ):
        yield url, elasticsearch_url, papers


@pytest.mark.slow
@pytest.mark.parametrize("package", ["elasticsearch7", "elasticsearch8"])
def test_official_elasticsearch_clients(
    package: str, elastic: tuple[str, str, str], serve: Any
) -> None:
    """These clients refuse other engines; so an Elasticsearch stands behind the proxy."""
    module = importlib.import_module(package)
    login = {"http_auth" if package.endswith("7") else "basic_auth": USER}

    def program(url: str, index: str, papers: str, _: str) -> Any:
        given = engine if url == plain else url
        with module.Elasticsearch(given, **login) as client:
            return requests_of(client, index, papers)

    engine, plain, papers = elastic
    with serve(urls=(engine,), connection=Connection(engine)) as proxied:
        check(program, plain, proxied, papers)


def test_curl(opensearch_url: str, proxy: Running, papers: str) -> None:
    needed("curl")

    def program(url: str, index: str, papers: str, question: str) -> Any:
        def curl(method: str, path: str, body: str | None = None, kind: str = "json") -> Any:
            command = ["curl", "-sS", "-X", method, f"{url}/{path}"]
            if body is not None:
                kind = "x-ndjson" if "_bulk" in path or "_msearch" in path else kind
                command += ["-H", f"Content-Type: application/{kind}", "--data-binary", body]
            return json.loads(run(command, Path.cwd()))

        action = json.dumps({"index": {"_index": index, "_id": "b"}})
        query = json.dumps({"query": {"match": {"text": "document"}}})
        steps = {
            "create": curl("PUT", index),
            "index": curl("PUT", f"{index}/_doc/a?refresh=true", '{"text": "one document"}'),
            "bulk": curl("POST", "_bulk?refresh=true", f'{action}\n{{"text": "another"}}\n'),
            "search": curl("GET", f"{index}/_search", query),
            "in_the_url": curl("GET", f"{index}/_search?q=text:another"),
            "alias": curl("PUT", f"{index}/_alias/{index}-alias"),
            "by_alias": curl("POST", f"{index}-alias/_search", query),
            "delete_by_query": curl("POST", f"{index}/_delete_by_query", query),
            "delete": curl("DELETE", index),
        }
        body = json.dumps({"query": {"match": {"text": question}}})
        found = curl("POST", f"{papers}/_search", body)
        return {"steps": steps, "hits": [hit["_id"] for hit in found["hits"]["hits"]]}

    check(program, opensearch_url, proxy, papers)


def test_answers_without_a_body(proxy: Running, papers: str) -> None:
    """Several on one connection: clients ask by HEAD whether something exists."""
    for path, status in [(f"/{papers}", 200), ("/", 200), (f"/{papers}-nowhere", 404)] * 3:
        reply = proxy.ask("HEAD", path)
        assert (reply.status, reply.data) == (status, b"")
    assert proxy.ask("GET", f"/{papers}/_count").json["count"] == 40


def test_msearch_as_dashboards_sends_it(
    opensearch_url: str, proxy: Running, client: OpenSearch, papers: str
) -> None:
    """Lines of JSON, some about an index of latent terms and some about others."""
    plain = f"{PREFIX}dashboards"
    client.index(index=plain, id="1", body={"text": "a pattern", "at": 1}, refresh=True)
    per_day = {"aggs": {"2": {"histogram": {"field": "at", "interval": 1}}}, "size": 0}
    lines = [
        {"index": plain, "ignore_unavailable": True, "preference": 1764_000_000_000},
        {"query": {"bool": {"filter": [{"match_all": {}}]}}, **per_day},
        {"index": papers},
        MATCH,
        {"index": papers},
        {"query": {"bool": {"filter": [{"match_all": {}}]}}, "size": 0, "track_total_hits": True},
        {"index": f"{PREFIX}nowhere"},
        {"query": {"match_all": {}}},
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines)
    path = "/_msearch?max_concurrent_shard_requests=5&ignore_unavailable=false"
    reply = proxy.ask("POST", path, content, content_type="application/x-ndjson", osd_xsrf="true")
    direct = client.transport.perform_request("POST", path, body=content)
    client.indices.delete(index=plain)
    answers, expected = reply.json["responses"], direct["responses"]
    assert reply.status == 200
    assert len(answers) == len(expected) == 4
    for place in (0, 2, 3):
        assert settled(answers[place], "-") == settled(expected[place], "-")
    assert expected[0]["aggregations"]["2"]["buckets"]
    assert expected[3]["status"] == 404
    by_meaning = [hit["_id"] for hit in answers[1]["hits"]["hits"]]
    assert by_meaning == ids_of(papers, opensearch_url, "hybrid")
    assert by_meaning != [hit["_id"] for hit in expected[1]["hits"]["hits"]]


@pytest.mark.slow
@pytest.mark.parametrize("language", ["node", "go", "java"])
def test_other_languages(
    language: str,
    opensearch_url: str,
    proxy: Running,
    papers: str,
    request: pytest.FixtureRequest,
) -> None:
    """@opensearch-project/opensearch, opensearch-go, and the Java REST client."""
    check(request.getfixturevalue(language), opensearch_url, proxy, papers)


LANGCHAIN = """
import json, sys
from langchain_community.retrievers import ElasticSearchBM25Retriever
from opensearchpy import OpenSearch

url, index, question = sys.argv[1:]
found = ElasticSearchBM25Retriever(client=OpenSearch(url), index_name=index).invoke(question)
print(json.dumps([document.page_content for document in found]))
"""


@pytest.mark.slow
def test_langchain_reads_by_text(
    opensearch_url: str,
    proxy: Running,
    client: OpenSearch,
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
    tmp_path: Path,
    load: Callable[..., Any],
) -> None:
    """Its retriever asks for words of the field `content`, which here is encoded."""
    rows = [{"_id": row["_id"], "content": row["text"]} for row in documents[:40]]
    index = f"{PREFIX}langchain"
    lines = [json.dumps(row) for row in rows]
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q", "langchain-community", "opensearch-py"]
    done = subprocess.run(install, capture_output=True, text=True, timeout=400)
    if done.returncode:
        missing(f"langchain-community cannot be installed: {done.stderr[-300:]}")
    load(client, index, lines, wanted={"text_fields": ("content",)})
    try:
        answers = []
        for url in (opensearch_url, proxy.url):
            command = [str(python), "-c", LANGCHAIN, url, index, QUESTION]
            answers.append(json.loads(run(command, tmp_path)))
        rewriter = QueryRewriter.from_index(client, index, encoder)
        body = rewriter.rewrite_body({"query": {"match": {"content": QUESTION}}})
        hits = client.search(index=index, body=body)["hits"]["hits"]
    finally:
        client.indices.delete(index=index)
    assert answers[0] != answers[1]
    assert answers[1] == [hit["_source"]["content"] for hit in hits]
