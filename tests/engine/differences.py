"""What differs between engines, as they answer: `python tests/engine/differences.py` writes it into
docs/engines.md. Each engine is asked in an index of its own, which is deleted.
"""

from __future__ import annotations

import math
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import urllib3
from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from latent_ingest.connector.engine.client import Connection, EngineInfo, url_of
from latent_ingest.connector.engine.local import LocalEngine, free_port
from latent_ingest.mappings import MappingConfig, index_body

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "engines.md"
BEGIN, END = "<!-- generated: what differs -->\n", "<!-- end of what is generated -->\n"

DOCUMENTS = {
    "bees": "f1 f1 f1 f2 " + " ".join(f"f{n}" for n in range(100, 120)),
    "ants": "f2 f3",
    "rain": "f4 f5 f6 f7",
}

Ask = Callable[[OpenSearch, str], str]


def table(clients: Mapping[str, OpenSearch]) -> str:
    """The table of what each engine answers, in Markdown, by the names of the engines."""
    answers = {name: asked(client) for name, client in clients.items()}
    rows = ["| | " + " | ".join(answers) + " |", "|---" * (1 + len(answers)) + "|"]
    rows += [
        f"| {what} | " + " | ".join(answer[what] for answer in answers.values()) + " |"
        for what in QUESTIONS
    ]
    return "\n".join(rows) + "\n"


def asked(client: OpenSearch) -> dict[str, str]:
    """What one engine answers, by the question."""
    with made(client) as index:
        return {what: ask(client, index) for what, ask in QUESTIONS.items()}


@contextmanager
def made(client: OpenSearch, **more: Any) -> Iterator[str]:
    """An index of latent terms with three documents; `more` are parts of its settings."""
    name = f"latent-ingest-differences-{uuid.uuid4().hex[:8]}"
    body = index_body(MappingConfig(analyzer="standard"), {})
    body["settings"]["index"].update({"number_of_shards": 1, "number_of_replicas": 0})
    body["mappings"].update(more.pop("mappings", {}))
    body["settings"]["index"].update(more)
    client.indices.create(index=name, body=body)
    try:
        for identifier, latent in DOCUMENTS.items():
            client.index(
                index=name, id=identifier, body={"latent": latent, "text": identifier}, refresh=True
            )
        yield name
    finally:
        client.indices.delete(index=name)


def taken(call: Callable[[], Any]) -> bool:
    """Whether the engine takes a request, rather than refusing it as wrong."""
    try:
        call()
    except TransportError as error:
        if error.status_code not in (400, 405):
            raise
        return False
    return True


def yes(answer: bool) -> str:
    return "yes" if answer else "no"


def default(client: OpenSearch, name: str) -> str | None:
    """The value of a setting of the cluster; None if the engine has no such setting."""
    settings = client.cluster.get_settings(include_defaults=True, flat_settings=True)
    found = {**settings["defaults"], **settings["persistent"], **settings["transient"]}.get(name)
    return None if found is None else str(found)


def factor(client: OpenSearch, index: str) -> str:
    """The engine's score of a term, over that of BM25 without a factor."""
    query = {"query": {"term": {"latent": "f1"}}}
    (hit,) = client.search(index=index, body=query)["hits"]["hits"]
    lengths = [len(latent.split()) for latent in DOCUMENTS.values()]
    norm = 2.0 * (1 - 0.7 + 0.7 * lengths[0] / (sum(lengths) / len(lengths)))
    plain = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5)) * 3 / (3 + norm)
    ratio = hit["_score"] / plain
    assert min(abs(ratio - known) for known in (1.0, 3.0)) < 1e-3, ratio
    return "none" if ratio < 2 else "k1 + 1"


def delimited(client: OpenSearch, _: str) -> str:
    body = {"tokenizer": "keyword", "filter": ["delimited_term_freq"], "text": "f1|2"}
    return yes(taken(lambda: client.indices.analyze(body=body)))


def point_in_time(client: OpenSearch, index: str) -> str:
    ours = ("POST", f"/{index}/_search/point_in_time", {"keep_alive": "1m"})
    theirs = ("POST", f"/{index}/_pit", {"keep_alive": "1m"})
    for name, call in (("`_search/point_in_time`", ours), ("`_pit`", theirs)):
        method, path, params = call
        if taken(lambda m=method, p=path, q=params: request(client, m, p, params=q)):  # type: ignore[misc]
            return name
    return "none"


def request(client: OpenSearch, method: str, path: str, **more: Any) -> Any:
    return client.transport.perform_request(method, path, **more)


def of_terms(number: int) -> dict[str, Any]:
    """A query of terms of equal boost."""
    names = [f"f{n}" for n in range(1, number + 1)]
    return {"bool": {"should": [{"term": {"latent": name}} for name in names]}}


def profiled(client: OpenSearch, index: str) -> str:
    body = {"profile": True, "track_total_hits": False, "query": of_terms(3)}
    (shard,) = client.search(index=index, body=body)["profile"]["shards"]
    (search,) = shard["searches"]
    (query,), (collector,) = search["query"], search["collector"]
    return f"`{query['type']}`, `{collector['name'].split('(')[0]}`"


def skipping(client: OpenSearch, index: str) -> str:
    """Whether the collector tells the scorer the least score that still counts."""
    body = {"profile": True, "track_total_hits": False, "query": of_terms(3), "size": 1}
    (shard,) = client.search(index=index, body=body)["profile"]["shards"]
    (query,) = shard["searches"][0]["query"]
    return yes(query["breakdown"].get("set_min_competitive_score_count", 0) > 0)


def rewriting(client: OpenSearch, _: str) -> str:
    found = default(client, "search.query_rewriting.enabled")
    return "no such setting" if found is None else "off" if found == "false" else "on"


def merged(client: OpenSearch, index: str) -> str:
    """What terms of equal boost score where the engine merges them."""
    name = "search.query_rewriting.enabled"
    if default(client, name) is None:
        return "no such setting"
    client.cluster.put_settings(body={"transient": {name: True}})
    try:
        return equal_boosts(client, index)
    finally:
        client.cluster.put_settings(body={"transient": {name: None}})


def equal_boosts(client: OpenSearch, index: str) -> str:
    body = {"query": of_terms(120), "size": 3}
    scores = {hit["_score"] for hit in client.search(index=index, body=body)["hits"]["hits"]}
    return "their own scores" if len(scores) > 1 else "one score"


def concurrent(client: OpenSearch, _: str) -> str:
    found = default(client, "search.concurrent_segment_search.mode")
    return "no such setting" if found is None else f"`{found}`"


def many_clauses(client: OpenSearch, index: str) -> str:
    return yes(taken(lambda: client.search(index=index, body={"query": of_terms(1025)})))


def analysis(client: OpenSearch, index: str) -> str:
    """How the analyzer of an index is changed."""
    change = {"analysis": {"analyzer": {"other": {"type": "custom", "tokenizer": "keyword"}}}}
    put = client.indices.put_settings
    if taken(lambda: put(index=index, body=change)):
        return "open"
    if taken(lambda: put(index=index, body=change, params={"reopen": "true"})):
        return "closed, or with `reopen`"
    client.indices.close(index=index)
    try:
        return "closed" if taken(lambda: put(index=index, body=change)) else "never"
    finally:
        client.indices.open(index=index)
        client.cluster.health(index=index, wait_for_status="green")


def statistics(client: OpenSearch, index: str) -> str:
    body = {"doc": {"latent": "f1 f2"}, "term_statistics": True, "fields": ["latent"]}
    answer = client.termvectors(index=index, body=body)
    terms = answer["term_vectors"]["latent"]["terms"]
    return yes({name: term.get("doc_freq") for name, term in terms.items()} == {"f1": 1, "f2": 2})


def rescored(client: OpenSearch, index: str) -> str:
    """Whether two steps of rescoring may follow each other, the second on fewer hits."""
    steps = [
        {"window_size": size, "query": {"rescore_query": {"term": {"latent": "f2"}}}}
        for size in (3, 2)
    ]
    body = {"query": {"match_all": {}}, "rescore": steps}
    scores = sorted(h["_score"] for h in client.search(index=index, body=body)["hits"]["hits"])
    return yes(scores[-1] > 1 and taken(lambda: client.search(index=index, body=body)))


def synthetic(client: OpenSearch, _: str) -> str:
    """How a source that is derived from fields is asked for."""
    for name, settings in {
        "`index.mapping.source.mode`": {"index.mapping.source.mode": "synthetic"},
        "`index.derived_source.enabled`": {"index.derived_source.enabled": True},
    }.items():
        if creates(client, {"settings": settings}):
            return name
    if creates(client, {"mappings": {"_source": {"mode": "synthetic"}}}):
        return "`_source.mode`"
    return "no"


def logsdb(client: OpenSearch, _: str) -> str:
    return yes(creates(client, {"settings": {"index.mode": "logsdb"}}))


def creates(client: OpenSearch, body: dict[str, Any]) -> bool:
    """Whether the engine makes an index of this body; it is deleted."""
    name = f"latent-ingest-differences-{uuid.uuid4().hex[:8]}"
    if not taken(lambda: client.indices.create(index=name, body=body)):
        return False
    client.indices.delete(index=name)
    return True


def media_types(client: OpenSearch, index: str) -> str:
    """The versions of Elasticsearch's media type that are taken."""
    found = []
    for version in range(7, 10):
        kind = f"application/vnd.elasticsearch+json; compatible-with={version}"
        headers = {"accept": kind, "content-type": kind}
        address = f"{url_of(client)}/{index}/_search"
        answer = urllib3.request("POST", address, body=b"{}", headers=headers)
        assert answer.status in (200, 400, 406, 415), answer.data
        found += [str(version)] * (answer.status == 200)
    return ", ".join(found) or "none"


QUESTIONS: dict[str, Ask] = {
    "factor in BM25's scores": factor,
    "filter of `--spelling delimited`": delimited,
    "point in time": point_in_time,
    "statistics of terms by `_termvectors`": statistics,
    "two steps of rescoring": rescored,
    "documents that cannot be hits are skipped": skipping,
    "query and collector in a profile": profiled,
    "`search.query_rewriting`": rewriting,
    "120 terms of equal boost have": equal_boosts,
    "and with it on": merged,
    "`search.concurrent_segment_search.mode`": concurrent,
    "1,025 clauses": many_clauses,
    "an analyzer is added to an index that is": analysis,
    "source derived from fields": synthetic,
    "`index.mode: logsdb`": logsdb,
    "Elasticsearch's media type, versions": media_types,
}


def name_of(client: OpenSearch) -> str:
    info = EngineInfo.read(client)
    title = {"opensearch": "OpenSearch", "elasticsearch": "Elasticsearch"}[info.distribution]
    return f"{title} {info.version[0]}.{info.version[1]}"


def generated(page: str) -> str:
    """The table in the page."""
    return page.split(BEGIN)[1].split(END)[0].strip() + "\n"


def main() -> None:
    """Start each engine, and write the table into the page."""
    sys.path.insert(0, str(ROOT / "tests"))
    from elastic.server import VERSIONS, elasticsearch_server

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        urls = []
        for kind, version in (
            ("opensearch", None),
            ("opensearch", "2.19.1"),
            ("elasticsearch", None),
        ):
            engine = LocalEngine(kind, folder / f"{kind}-{version}", version)
            urls.append(engine.up(port=free_port(), heap="1g", bound_to_us=True).url)
            stack.callback(engine.down)
        for version in VERSIONS:
            (folder / version).mkdir()
            urls.append(stack.enter_context(elasticsearch_server(version, folder / version)))
        clients = {name_of(client): client for client in (Connection(url).open() for url in urls)}
        page = PAGE.read_text()
        before, rest = page.split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n{table(clients)}\n{END}{after}")


if __name__ == "__main__":
    main()
