"""LangChain, LlamaIndex, Haystack and assistants, over one index of each real engine."""

from __future__ import annotations

import datetime
import importlib
import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from haystack import Document as HaystackDocument
from haystack import Pipeline
from haystack_integrations.document_stores.opensearch import OpenSearchDocumentStore
from langchain_core.documents import Document
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
from mcp import Client, StdioServerParameters, stdio_client
from opensearchpy import AsyncOpenSearch, OpenSearch
from toys import toy_backbone, toy_model

from latent_ingest.connector import (
    EnrichJob,
    IngestJob,
    InputError,
    LatentEncoder,
    MismatchError,
    ModelError,
)
from latent_ingest.connector.engine.client import EngineInfo, url_of
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.frameworks import haystack, langchain, llama_index
from latent_ingest.connector.frameworks.filters import Fields, from_dollars, from_llama
from latent_ingest.connector.frameworks.mcp import server
from latent_ingest.connector.frameworks.store import LatentStore
from latent_ingest.connector.index.guard import Loading
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import IndexInfo
from latent_ingest.connector.indexing.actions import LINES_PER_RUN

QUESTION = "does vitamin D prevent falls"
ROWS: list[tuple[str, str, dict[str, Any]]] = [
    ("bees", "Insects dance.", {"year": 2019, "lang": "en", "tags": ["animals", "sky"]}),
    (
        "42",
        "Cholecalciferol lowers the risk of tumbling.",
        {"year": 2024, "lang": "en", "tags": ["bones"]},
    ),
    ("bread", "Bake the loaf until its crust is brown.", {"year": 2021, "lang": "de"}),
    ("bones", "Calcium and sunlight keep bones firm in old people.", {"year": 2020}),
]


ELSEWHERE = ("opensearch_2", "elasticsearch", "elasticsearch_8", "elasticsearch_9")


@pytest.fixture(
    scope="module",
    params=["client", *(pytest.param(name, marks=pytest.mark.slow) for name in ELSEWHERE)],
)
def engine(request: pytest.FixtureRequest) -> OpenSearch:
    """Each engine, one after the other."""
    client: OpenSearch = request.getfixturevalue(request.param)
    return client


@pytest.fixture(scope="module")
def papers(engine: OpenSearch, encoder: LatentEncoder) -> Iterator[str]:
    """An index that the store made."""
    index = f"latent-ingest-test-{uuid.uuid4().hex[:12]}"
    assert LatentStore(index, engine, model=encoder).add(ROWS) == [row[0] for row in ROWS]
    yield index
    engine.indices.delete(index=index)


def asynchronous_client(engine: OpenSearch) -> Any:
    """The asynchronous client that applications have for an engine."""
    info = EngineInfo.read(engine)
    if info.distribution == "opensearch" or info.version < (8,):
        return AsyncOpenSearch(url_of(engine))
    package = importlib.import_module(f"elasticsearch{info.version[0]}")
    return package.AsyncElasticsearch(url_of(engine))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_documents_are_added_replaced_and_deleted(
    engine: OpenSearch, new_index: Any, encoder: LatentEncoder
) -> None:
    """By the library's own sender: versions count runs, no guard is left, ids are kept."""
    client, index = engine, new_index(engine)
    retriever = langchain.LatentTermsRetriever(index=index, client=client, model=encoder)
    with pytest.raises(MismatchError, match="no index or alias"):
        retriever.invoke(QUESTION)
    day = datetime.date(2024, 5, 1)
    ids = retriever.add_texts(["Insects dance.", "Bake."], [{"day": day}, {}], ids=["bees", "b"])
    assert ids == ["bees", "b"]
    (found,) = retriever.invoke("dancing insects", k=1)
    assert (found.id, found.page_content) == ("bees", "Insects dance.")
    assert found.metadata.pop("_score") > 0
    assert found.metadata == {"day": "2024-05-01"}
    changed = Document("Insects dance and sing.", metadata={"year": 3}, id="bees")
    made = retriever.add_documents([changed, Document("A text without an id.")])
    stored = client.get(index=index, id="bees")
    assert stored["_source"]["latent"]
    assert stored["_version"] // LINES_PER_RUN == 2
    assert IndexInfo.read(client, index).guards == []
    assert client.count(index=index)["count"] == 3
    with pytest.raises(InputError, match=r"1 of 2 documents are not in index .*; number 1: .*year"):
        retriever.add_texts(["wrong", "right"], [{"year": "none"}, {}], ids=["wrong", "right"])
    assert retriever.delete([made[1], "right", "was never there"])
    assert client.count(index=index)["count"] == 2
    assert retriever.add_texts(["Right again."], ids=["right"]) == ["right"]
    for wrong, message in (
        ({"metadatas": [{}, {}]}, "1 texts and 2 metadatas"),
        ({"ids": ["1", "2"]}, "1 documents and 2 ids"),
        ({"metadatas": [{"text": "b"}]}, "metadata has a field 'text'"),
    ):
        with pytest.raises(InputError, match=message):
            retriever.add_texts(["a"], **wrong)


def test_a_document_in_chunks_is_read_whole_and_deleted_whole(
    engine: OpenSearch, new_index: Any, load: Any, encoder: LatentEncoder
) -> None:
    client, index = engine, new_index(engine)
    text = " ".join(f"Paragraph {n} of the report on bones." for n in range(60))
    rows = [
        json.dumps({"_id": "long", "text": text, "year": 2024}),
        '{"_id": "b", "text": "Bake."}',
    ]
    load(client, index, rows, wanted={"long": "chunks"})
    store = LatentStore(index, client, model=encoder)
    hit, *others = store.search("a report on bones", 5)
    assert hit.metadata["parent_id"] == "long"
    assert "long" not in {other.metadata["parent_id"] for other in others}
    for identifier in ("long", hit.id):
        found = store.read(identifier)
        assert (found.id, found.text, found.metadata) == ("long", text, {"year": 2024})
    assert store.delete(["long"]) > 1
    assert client.count(index=index)["count"] == 1


@pytest.mark.parametrize(
    ("dollars", "llama", "wanted"),
    [
        ({"lang": "de"}, [("lang", "==", "de")], {"bread"}),
        ({"year": {"$gt": 2019, "$lte": 2021}}, [("year", ">", 2019), ("year", "<=", 2021)],
         {"bread", "bones"}),
        ({"lang": ["de", "fr"]}, [("lang", "in", ["de", "fr"])], {"bread"}),
        ({"year": {"$nin": [2019, 2020]}}, [("year", "nin", [2019, 2020])], {"42", "bread"}),
        ({"lang": {"$ne": "en"}}, [("lang", "!=", "en")], {"bread", "bones"}),
        ({"lang": {"$exists": False}}, [("lang", "is_empty", None)], {"bones"}),
        ({"tags": {"$contains": "sky"}}, [("tags", "contains", "sky")], {"bees"}),
        ({"$or": [{"year": 2024}, {"lang": "de"}]}, None, {"42", "bread"}),
        ({"$not": {"lang": "en"}, "year": {"$lt": 2021}}, None, {"bones"}),
        (None, [("tags", "all", ["animals", "sky"])], {"bees"}),
        (None, [("text", "text_match", "the loaf")], {"bread"}),
    ],
)  # fmt: skip
def test_filters_select_what_they_say(
    engine: OpenSearch, papers: str, dollars: Any, llama: Any, wanted: set[str]
) -> None:
    fields = Fields(engine.indices.get_mapping(index=papers))
    clauses = [from_dollars(dollars, fields)] if dollars else []
    if llama:
        filters = [MetadataFilter(key=k, operator=o, value=v) for k, o, v in llama]
        clauses.append(from_llama(MetadataFilters(filters=filters), fields))
    for clause in clauses:
        answer = engine.search(index=papers, body={"query": {"bool": {"filter": [clause]}}})
        assert {hit["_id"] for hit in answer["hits"]["hits"]} == wanted, clause


def test_nested_conditions_of_llama_index(engine: OpenSearch, papers: str) -> None:
    fields = Fields(engine.indices.get_mapping(index=papers))
    old = MetadataFilter(key="year", operator="<", value=2020)
    german = MetadataFilter(key="lang", value="de")
    either = MetadataFilters(filters=[old, german], condition="or")
    none = MetadataFilters(filters=[either], condition="not")
    answer = engine.search(index=papers, body={"query": from_llama(none, fields)})
    assert {hit["_id"] for hit in answer["hits"]["hits"]} == {"42", "bones"}


@pytest.mark.parametrize(
    ("filter", "message"),
    [
        ({"year": {"$near": 3}}, r"filter on 'year': operator '\$near'; use \$eq"),
        ({"year": {"$in": 3}}, "'in' needs a list, not 3"),
        ({"year": {"$gt": [3]}}, "'>' needs a string or a number"),
        ({"text": "Insects dance."}, "field 'text' is text without a sub-field of type keyword"),
        ({"$or": ["year"]}, "filter 'year': write an object"),
    ],
)
def test_filters_that_cannot_be_used_give_one_line(
    engine: OpenSearch, papers: str, filter: Any, message: str
) -> None:
    fields = Fields(engine.indices.get_mapping(index=papers))
    with pytest.raises(InputError, match=message):
        from_dollars(filter, fields)


@pytest.mark.anyio
async def test_langchain(engine: OpenSearch, papers: str, encoder: LatentEncoder) -> None:
    """Filters at both places, scores of the engine, and the same hits asynchronously."""
    asynchronous = asynchronous_client(engine)
    retriever = langchain.LatentTermsRetriever(
        index=papers, client=engine, async_client=asynchronous, model=encoder, k=2
    )
    found = retriever.invoke(QUESTION)
    assert [document.id for document in found][:1] == ["42"]
    assert found[0].metadata["_score"] > found[1].metadata["_score"] > 0
    assert found == await retriever.ainvoke(QUESTION)
    recent = {"year": {"$lt": 2024}}
    assert "42" not in {d.id for d in await retriever.ainvoke(QUESTION, k=4, filter=recent)}
    plain = retriever.model_copy(update={"engine_filter": {"term": {"year": 2020}}})
    assert [document.id for document in plain.invoke(QUESTION)] == ["bones"]
    with pytest.raises(InputError, match="0 hits: ask for 1 to 10000"):
        retriever.invoke(QUESTION, k=0)
    with pytest.raises(InputError, match="unknown option 'top_k'"):
        retriever.invoke(QUESTION, top_k=3)
    await asynchronous.close()


@pytest.mark.anyio
async def test_llama_index(engine: OpenSearch, papers: str, encoder: LatentEncoder) -> None:
    asynchronous = asynchronous_client(engine)
    retriever = llama_index.LatentTermsRetriever(
        papers,
        engine,
        async_client=asynchronous,
        model=encoder,
        similarity_top_k=3,
        filters=MetadataFilters(filters=[MetadataFilter(key="lang", value="en")]),
    )
    found = retriever.retrieve(QUESTION)
    assert found[0].node_id == "42"
    assert found[0].text == "Cholecalciferol lowers the risk of tumbling."
    assert found[0].metadata == {"year": 2024, "lang": "en", "tags": ["bones"]}
    assert {node.metadata["lang"] for node in found} == {"en"}
    again = await retriever.aretrieve(QUESTION)
    assert [(n.node_id, n.score) for n in again] == [(n.node_id, n.score) for n in found]
    await asynchronous.close()


@pytest.mark.anyio
@pytest.mark.parametrize("version", [3, pytest.param(2, marks=pytest.mark.slow)])
async def test_haystack(
    version: int, request: pytest.FixtureRequest, new_index: Any, encoder: LatentEncoder
) -> None:
    """Over the index of its own store, in a pipeline that comes back from YAML."""
    client = request.getfixturevalue("client" if version == 3 else "opensearch_2")
    index = new_index(client)
    store = OpenSearchDocumentStore(
        hosts=url_of(client),
        index=index,
        mappings={"properties": {"content": {"type": "text"}}},
        settings={},
    )
    store.write_documents(
        [HaystackDocument(id=name, content=text, meta=meta) for name, text, meta in ROWS]
    )
    job = EnrichJob(client, index, encoder=encoder, text_fields=["content"])
    assert job.run().report.encoded == len(ROWS)
    pipeline = Pipeline()
    pipeline.add_component(
        "retriever", haystack.LatentTermsRetriever(document_store=store, top_k=2)
    )
    pipeline = Pipeline.loads(pipeline.dumps(), allowed_modules=[haystack.__name__])
    (first, second) = pipeline.run({"retriever": {"query": QUESTION}})["retriever"]["documents"]
    assert (first.id, first.content) == ("42", ROWS[1][1])
    assert first.meta == ROWS[1][2]
    assert first.score > second.score > 0
    retriever = pipeline.get_component("retriever")
    old = {"field": "meta.year", "operator": "<", "value": 2021}
    for found in (
        retriever.run(query=QUESTION, filters=old, top_k=4),
        await retriever.run_async(query=QUESTION, filters=old, top_k=4),
    ):
        assert [d.id for d in found["documents"]][:1] == ["bones"]
        assert {d.meta["year"] for d in found["documents"]} <= {2019, 2020}
    with pytest.raises(InputError, match="document_store is str"):
        haystack.LatentTermsRetriever(document_store="papers")
    store.close()
    await store.close_async()


@pytest.mark.anyio
async def test_an_assistant_starts_the_command(opensearch_url: str) -> None:
    """By the SDK's own client, which reads nothing but the protocol; no model is needed yet."""
    program = str(Path(sys.executable).parent / "latent-ingest")
    arguments = ["mcp", "--index", "latent-ingest-test-none", "--url", opensearch_url]
    command = StdioServerParameters(command=program, args=arguments)
    async with Client(stdio_client(command)) as assistant:
        tools = (await assistant.list_tools()).tools
        assert [tool.name for tool in tools] == ["search", "explain", "read"]
        assert all(tool.annotations.read_only_hint for tool in tools)
        answer = await assistant.call_tool("search", {"question": QUESTION})
        assert answer.is_error
        assert "no index or alias latent-ingest-test-none" in answer.content[0].text


@pytest.mark.anyio
async def test_an_assistant_searches_asks_why_and_reads(
    engine: OpenSearch, papers: str, encoder: LatentEncoder
) -> None:
    async with Client(server(LatentStore(papers, engine, model=encoder))) as assistant:
        asked = {"question": QUESTION, "filter": {"term": {"year": 2024}}}
        answer = await assistant.call_tool("search", asked)
        assert not answer.is_error
        (hit,) = answer.structured_content["hits"]
        assert hit["id"] == "42"
        assert hit["fields"]["year"] == 2024
        answer = await assistant.call_tool("explain", {"question": QUESTION, "id": "42"})
        told = answer.structured_content
        assert told["score"] == pytest.approx(hit["score"], rel=1e-4)
        assert told["terms"][0]["kind"] == "latent"
        assert told["terms"][0]["means"]
        answer = await assistant.call_tool("read", {"id": "42"})
        assert answer.structured_content["text"] == ROWS[1][1]


@pytest.mark.anyio
@pytest.mark.question_tables
@pytest.mark.parametrize("questions", ["table", "auto"])
async def test_an_assistant_searches_by_the_table_of_an_index(
    questions: str, client: OpenSearch, index: str, encoder: LatentEncoder, corpus: Path
) -> None:
    """The command does not import torch, not even to say why a document was found."""
    job = IngestJob(client, corpus, index=index, encoder=encoder, question_words=600)
    assert job.run().table is not None
    program = (
        "import sys\n"
        "from latent_ingest.cli.main import cli\n"
        "cli(sys.argv[1:], standalone_mode=False)\n"
        "print('torch' in sys.modules, file=sys.stderr)\n"
    )
    options = ["--index", index, "--url", url_of(client), "--questions", questions]
    command = StdioServerParameters(command=sys.executable, args=["-c", program, "mcp", *options])
    with Path("errors").open("w") as errors:
        async with Client(stdio_client(command, errlog=errors)) as assistant:
            asked = {"question": "find files whose names look like a pattern"}
            answer = await assistant.call_tool("search", asked)
            assert not answer.is_error, answer.content
            first, *_ = answer.structured_content["hits"]
            told = await assistant.call_tool("explain", {**asked, "id": first["id"]})
            assert not told.is_error, told.content
            told = told.structured_content
            assert told["score"] == pytest.approx(first["score"], rel=1e-4)
            latents = [part for part in told["terms"] if part["kind"] == "latent"]
            assert any(part["means"] != part["term"] for part in latents)
    assert Path("errors").read_text().splitlines()[-1] == "False"


def test_what_encodes_the_questions_of_a_store(
    client: OpenSearch, new_index: Any, tmp_path: Path
) -> None:
    """An index without a table of its own words is asked by the model, unless a table is wanted."""
    index, model = new_index(client), toy_model(tmp_path / "toy", toy_backbone(tmp_path / "b"))
    store = LatentStore(index, client, model=model, questions="auto")
    store.add([("bees", "Insects dance.", {})])
    assert store.searcher.rewriter.table is None
    asked_by_table = LatentStore(index, client, model=model, questions="table")
    with pytest.raises(ModelError, match="question"):
        asked_by_table.search("bees", 1)
    with pytest.raises(InputError, match="questions 'none': use one of model, table, auto"):
        LatentStore(index, client, questions="none")


@pytest.mark.anyio
async def test_what_goes_wrong_is_the_tools_error_in_one_line(
    engine: OpenSearch, papers: str, encoder: LatentEncoder
) -> None:
    away = LatentStore("papers", "http://localhost:1", model=encoder)
    none = LatentStore("latent-ingest-test-none", engine, model=encoder)
    here = LatentStore(papers, engine, model=encoder)
    for store, tool, arguments, message in (
        (away, "search", {"question": "a"}, "nothing answers at http://localhost:1"),
        (none, "search", {"question": "a"}, "no index or alias latent-ingest-test-none"),
        (here, "search", {"question": " "}, "the question is empty"),
        (here, "search", {"question": "a", "filter": {"no": 1}}, "400"),
        (here, "read", {"id": "x"}, "no document 'x' in index"),
        (here, "explain", {"question": "a", "id": "x"}, "x"),
    ):
        async with Client(server(store)) as assistant:
            answer = await assistant.call_tool(tool, arguments)
        assert answer.is_error
        assert message in answer.content[0].text
        assert "\n" not in answer.content[0].text


ADDING_AND_KILLED = """
import os, signal, sys
from opensearchpy import OpenSearch
from latent_ingest.connector.frameworks.store import LatentStore
send = OpenSearch.bulk
def killed(*arguments, **named):
    send(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)
OpenSearch.bulk = killed
url, index, model = sys.argv[1:]
LatentStore(index, url, model=model).add([("ants", "Ants follow a trail.", {})])
"""


def test_adding_leaves_refreshing_as_it_is(
    client: OpenSearch, opensearch_url: str, index: str, tmp_path: Path
) -> None:
    """Alone, beside a load that has turned it off, and if the process is killed."""
    model = toy_model(tmp_path / "toy", toy_backbone(tmp_path / "backbone"))
    store = LatentStore(index, client, model=model)
    store.add([("bees", "Insects dance.", {})])
    handle = Index(client, index)
    handle.put_settings({"index": {"refresh_interval": "7s"}})

    def state() -> tuple[str, int, int]:
        runs = handle.meta().runs
        return handle.settings()["index.refresh_interval"], runs, len(guards_of(client, index))

    assert state() == ("7s", 1, 0)
    command = [sys.executable, "-c", ADDING_AND_KILLED, opensearch_url, index, str(model)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert state() == ("7s", 2, 1)
    assert store.add([("ants", "Ants follow a longer trail.", {})]) == ["ants"]
    assert state() == ("7s", 3, 1)
    assert store.read("ants").text == "Ants follow a longer trail."

    load = Loading(handle, "corpus.jsonl", Retry(client))
    load.begin()
    assert state() == ("-1", 4, 2)
    store.add([("wasps", "Wasps build with paper.", {})])
    assert state() == ("-1", 5, 2)
    assert store.read("wasps").id == "wasps"
    load.end()
    assert state() == ("7s", 5, 1)


def test_several_threads_add_at_the_same_time(
    client: OpenSearch, index: str, tmp_path: Path
) -> None:
    """Each call has a number of its own; of the same document, the later call wins."""
    model = toy_model(tmp_path / "toy", toy_backbone(tmp_path / "backbone"))
    store = LatentStore(index, client, model=model)
    store.add([("shared", "The first.", {})])

    def add(number: int) -> str:
        """Add two documents; gives the error, of a call whose document a later one has replaced."""
        try:
            store.add([(f"own {number}", "Insects dance.", {}), ("shared", f"Call {number}.", {})])
        except InputError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as pool:
        errors = [*filter(None, pool.map(add, range(8)))]
    assert len(errors) < 8
    for error in errors:
        assert "1 of 2 documents" in error
        assert "'shared' rejected: [shared]: version conflict" in error
    assert Index(client, index).meta().runs == 9
    assert guards_of(client, index) == []
    assert {store.read(f"own {number}").id for number in range(8)} == {
        f"own {number}" for number in range(8)
    }
    store.add([("shared", "The last.", {})])
    assert store.read("shared").text == "The last."


def guards_of(client: OpenSearch, index: str) -> list[str]:
    return IndexInfo.read(client, index).guards
