"""A real engine: the one at OPENSEARCH_URL, or a node that ends with the tests."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from elastic.server import VERSIONS, elasticsearch_server
from indexed import PREFIX, indexed
from opensearchpy import OpenSearch
from querying.bodies import PROPERTIES, rows
from remembering import Remembered

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.client import Connection, EngineInfo
from latent_ingest.connector.engine.local import LocalEngine, free_port
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.indexing.jobs.job import Job
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.connector.querying.rewriter import QueryRewriter

REMEMBERED = Remembered()

# Types of fields that Elasticsearch has in a module, and that tests use.
OF_MODULES = {"join"}


@pytest.fixture(autouse=True, scope="module")
def remembered_encodings(encoder: LatentEncoder) -> Iterator[None]:
    """Tests of the engine do not test the encoder: minilm-32k answers from memory."""
    with REMEMBERED.used(encoder, LatentEncoder.shared(device="cpu")):
        yield


@pytest.fixture(autouse=True)
def without_question_tables(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs make indices without a question table, which takes seconds, except for its tests."""
    if request.node.get_closest_marker("question_tables") is None:
        monkeypatch.setattr(Job, "_question_table", lambda *_: None)
        monkeypatch.setattr(Job, "_own_table", lambda *_: None)


def node(kind: str, home: Path, version: str | None = None) -> Iterator[str]:
    engine = LocalEngine(kind, home, version)
    try:
        state = engine.up(port=free_port(), heap="1g", bound_to_us=True)
    except EngineError as error:  # nodes of other test processes start, too
        if "taken" not in str(error):
            raise
        state = engine.up(port=free_port(), heap="1g", bound_to_us=True)
    yield state.url
    assert engine.down() is not None, f"{kind} ended before the tests did"


@pytest.fixture(scope="session")
def opensearch_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if url := os.environ.get("OPENSEARCH_URL"):
        yield url
    else:
        yield from node("opensearch", tmp_path_factory.mktemp("opensearch"))


@pytest.fixture(scope="session")
def elasticsearch_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from node("elasticsearch", tmp_path_factory.mktemp("elasticsearch"))


def connected(url: str) -> Iterator[OpenSearch]:
    client = Connection(url).open()
    yield client
    left = [name for name in client.indices.get(index="*") if name.startswith(PREFIX)]
    assert left == []
    client.close()


@pytest.fixture(scope="session")
def client(opensearch_url: str) -> Iterator[OpenSearch]:
    """OpenSearch."""
    yield from connected(opensearch_url)


@pytest.fixture(scope="session")
def elasticsearch(elasticsearch_url: str) -> Iterator[OpenSearch]:
    """Elasticsearch 7.10."""
    yield from connected(elasticsearch_url)


@pytest.fixture(scope="session")
def opensearch_2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSearch]:
    """OpenSearch 2.19."""
    for url in node("opensearch", tmp_path_factory.mktemp("opensearch-2"), "2.19.1"):
        yield from connected(url)


@pytest.fixture(scope="session")
def elasticsearch_8_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with elasticsearch_server(VERSIONS[0], tmp_path_factory.mktemp("elasticsearch-8")) as url:
        yield url


@pytest.fixture(scope="session")
def elasticsearch_9_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with elasticsearch_server(VERSIONS[1], tmp_path_factory.mktemp("elasticsearch-9")) as url:
        yield url


@pytest.fixture(scope="session")
def elasticsearch_8(elasticsearch_8_url: str) -> Iterator[OpenSearch]:
    """Elasticsearch 8.19, without the modules that are not published."""
    yield from connected(elasticsearch_8_url)


@pytest.fixture(scope="session")
def elasticsearch_9(elasticsearch_9_url: str) -> Iterator[OpenSearch]:
    """Elasticsearch 9.5, without the modules that are not published."""
    yield from connected(elasticsearch_9_url)


WHOLE = ["client", "elasticsearch", pytest.param("opensearch_2", marks=pytest.mark.slow)]
OTHERS = [
    "opensearch_2",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("elasticsearch", "elasticsearch_8", "elasticsearch_9")
    ),
]


@pytest.fixture(params=WHOLE)
def either(request: pytest.FixtureRequest) -> OpenSearch:
    """Each engine that has all its modules, one after the other."""
    client: OpenSearch = request.getfixturevalue(request.param)
    kind = "elasticsearch" if request.param.startswith("elasticsearch") else "opensearch"
    assert EngineInfo.read(client).distribution == kind
    return client


@pytest.fixture(
    params=[
        "elasticsearch",
        *(pytest.param(f"elasticsearch_{n}", marks=pytest.mark.slow) for n in (8, 9)),
    ]
)
def any_elasticsearch(request: pytest.FixtureRequest) -> OpenSearch:
    """Elasticsearch of each major version."""
    client: OpenSearch = request.getfixturevalue(request.param)
    return client


@pytest.fixture(params=[*WHOLE, *OTHERS[2:]])
def every(request: pytest.FixtureRequest) -> OpenSearch:
    """Each engine, also Elasticsearch 8 and 9."""
    client: OpenSearch = request.getfixturevalue(request.param)
    return client


@pytest.fixture(params=OTHERS)
def other(request: pytest.FixtureRequest) -> OpenSearch:
    """Each engine but OpenSearch 3."""
    client: OpenSearch = request.getfixturevalue(request.param)
    return client


NewIndex = Callable[..., str]


@pytest.fixture
def new_index(request: pytest.FixtureRequest) -> Iterator[NewIndex]:
    """Name new indices, which are deleted after the test."""
    made: list[tuple[OpenSearch, str]] = []

    def name(on: OpenSearch | None = None) -> str:
        on = on or request.getfixturevalue("client")
        made.append((on, f"{PREFIX}{uuid.uuid4().hex[:12]}"))
        return made[-1][1]

    yield name
    for on, index in made:
        on.indices.delete(index=index, ignore_unavailable=True)


@pytest.fixture
def index(new_index: Any) -> str:
    name: str = new_index()
    return name


Load = Callable[..., IngestReport]


@pytest.fixture
def load(encoder: LatentEncoder) -> Load:
    """Ingest a file, or lines, into an index."""

    def run(
        client: OpenSearch,
        index: str,
        corpus: Path | Sequence[str | bytes],
        *,
        encoder: LatentEncoder = encoder,
        wanted: dict[str, Any] | None = None,
        **options: Any,
    ) -> IngestReport:
        if not isinstance(corpus, Path):
            lines = [line.encode() if isinstance(line, str) else line for line in corpus]
            Path("corpus.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
            corpus = Path("corpus.jsonl")
        meta = open_index(client, index, encoder, wanted or {})
        return Ingest(client, index, encoder, meta, corpus, **options).run()

    return run


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A random seed. The report of a failure names it; LATENT_INGEST_SEED repeats it."""
    seed = int(os.environ.get("LATENT_INGEST_SEED") or random.randrange(10**6))
    request.node.add_report_section("call", "seed", f"LATENT_INGEST_SEED={seed}")
    return seed


@pytest.fixture(scope="module")
def rewriter(
    client: OpenSearch,
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
) -> Iterator[QueryRewriter]:
    """Rewriter of an index with fields of many kinds; see `querying.bodies`."""
    yield from rewriter_on(client, encoder, documents)


@pytest.fixture(
    scope="module",
    params=[
        "elasticsearch",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("opensearch_2", "elasticsearch_8", "elasticsearch_9")
        ),
    ],
)
def rewriter_elsewhere(
    request: pytest.FixtureRequest,
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
) -> Iterator[tuple[OpenSearch, QueryRewriter]]:
    """Another engine than OpenSearch 3, and `rewriter` on it."""
    client: OpenSearch = request.getfixturevalue(request.param)
    for rewriter in rewriter_on(client, encoder, documents):
        yield client, rewriter


def rewriter_on(
    client: OpenSearch, encoder: LatentEncoder, documents: list[dict[str, str]]
) -> Iterator[QueryRewriter]:
    def add_fields(index: str) -> None:
        for name, field in PROPERTIES.items():
            # A server without all its modules lacks some types.
            params = {"ignore": 400} if field.get("type") in OF_MODULES else {}
            mapping = {"properties": {name: field}}
            client.indices.put_mapping(index=index, body=mapping, params=params)

    with indexed(client, encoder, rows(documents), prepare=add_fields) as index:
        rewriter = QueryRewriter.from_index(client, index, encoder)
        weigh, known = rewriter._weigh, {}

        def remembered(texts: Any) -> Any:
            """Weights of each text, computed once for all tests."""
            if new := [text for text in texts if text not in known]:
                known.update(zip(new, weigh(new), strict=True))
            return [known[text] for text in texts]

        rewriter._weigh = remembered  # type: ignore[method-assign]
        yield rewriter


@pytest.fixture
def run(opensearch_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command line in this process: it may fail, but not with a traceback."""
    monkeypatch.setenv("OPENSEARCH_URL", opensearch_url)

    def invoke(*arguments: object, **options: Any) -> Result:
        result = CliRunner().invoke(cli, [str(a) for a in arguments], **options)
        unexpected = result.exception and not isinstance(result.exception, SystemExit)
        assert not unexpected, result.exception
        assert "Traceback" not in result.stderr
        return result

    return invoke
