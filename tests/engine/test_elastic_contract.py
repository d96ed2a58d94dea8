"""What Elasticsearch 8 and 9 do by modules that no test server has: by answers recorded by hand."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner, Result
from elastic.contract import (
    BASIC,
    FORBIDDEN,
    KEY,
    MISSING,
    PASSWORD,
    READING_KEY,
    SEMANTIC_QUERIES,
    WRONG,
    WRONG_KEY,
    Secured,
    SemanticProxy,
    WithSemanticText,
)
from faults import FaultProxy
from logins import serving
from opensearchpy import OpenSearch
from serverless import ElasticServerless
from tls_proxy import everyone, gate

from latent_ingest.cli.main import cli
from latent_ingest.connector import EnrichJob, InputError, LatentEncoder, QueryRewriter
from latent_ingest.connector.engine.client import Connection, url_of
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index.meta import IndexMeta

QUESTION = "how do bees tell of flowers"


@pytest.fixture
def secured(any_elasticsearch: OpenSearch, monkeypatch: pytest.MonkeyPatch) -> Iterator[Secured]:
    """A server with TLS and logins; its authority is in http_ca.crt."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path("http_ca.crt")
    for name, value in {
        "RIGHT": PASSWORD,
        "BAD": "guessed",
        "KEY": KEY,
        "READS": READING_KEY,
    }.items():
        monkeypatch.setenv(name, value)
    certificate = serving(authority.issue_cert("127.0.0.1"))
    with gate(url_of(any_elasticsearch), certificate, everyone, Secured) as server:
        yield server


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_a_server_as_it_is_after_its_first_start(
    any_elasticsearch: OpenSearch,
    new_index: Any,
    secured: Secured,
    encoder: LatentEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the password and the certificate that it made, and with an API key."""
    monkeypatch.setattr("latent_ingest.cli.options.ChosenModel.load", lambda _: encoder)
    index = new_index(any_elasticsearch)
    Path("c.jsonl").write_text('{"_id": "bees", "text": "Insects dance to tell of nectar."}\n')
    here = ("--index", index, "--url", secured.url, "--ca", "http_ca.crt")
    password = ("--user", "elastic", "--password-env", "RIGHT")
    done = call("c.jsonl", *here, *password, "--no-questions", "--json")
    assert (done.exit_code, json.loads(done.stdout)["indexed"]) == (0, 1)
    for login in (password, ("--api-key-env", "KEY"), ("--api-key-env", "READS")):
        found = call("search", QUESTION, *here, *login, "--questions", "model")
        assert found.stdout.split()[2] == "bees", found.stderr
    doctor = json.loads(call("doctor", *here, *password, "--json").stdout)
    assert "problem" not in {one["state"] for one in doctor["findings"]}
    package = importlib.import_module("elasticsearch9")
    theirs = {"ca_certs": "http_ca.crt", "api_key": KEY}
    with package.Elasticsearch(secured.url, **theirs) as its_client:
        rewriter = QueryRewriter.from_index(its_client, index, encoder)
        assert rewriter.rewrite(QUESTION)


@pytest.mark.parametrize(
    ("login", "said"),
    [
        ((), "requires authentication"),
        (("--user", "elastic", "--password-env", "BAD"), "refuses the user name or the password"),
        (("--api-key-env", "BAD"), "refuses the API key"),
        (("--api-key-env", "READS"), FORBIDDEN.reason),
    ],
)
def test_a_login_that_is_missing_wrong_or_may_not_write(
    secured: Secured, login: tuple[str, ...], said: str
) -> None:
    Path("c.jsonl").write_text('{"_id": "bees", "text": "Insects dance."}\n')
    here = ("--index", "latent-ingest-test-none", "--url", secured.url, "--ca", "http_ca.crt")
    refused = call("c.jsonl", *here, *login)
    assert refused.exit_code == 1
    (line,) = refused.stderr.strip().splitlines()[-1:]
    assert said in line
    assert secured.url in line


def test_without_the_authority_or_without_https(secured: Secured) -> None:
    """One line each, with the option or the URL that helps."""
    untrusted = Connection(secured.url, user="elastic", password=PASSWORD).open()
    with pytest.raises(EngineError, match="give the authority's certificate with --ca"):
        IndexMeta.read(untrusted, "papers")
    plain = Connection(secured.url.replace("https:", "http:")).open()
    with pytest.raises(EngineError, match=r"Elasticsearch 8 and later .* write https://"):
        IndexMeta.read(plain, "papers")


def test_the_recorded_answers_are_what_clients_of_elastic_understand(secured: Secured) -> None:
    """Their own exceptions have the recorded reasons, so that the records are of the right form."""
    package = importlib.import_module("elasticsearch9")
    for options, recorded in (
        ({}, MISSING),
        ({"basic_auth": ("elastic", "guessed")}, WRONG),
        ({"api_key": "guessed"}, WRONG_KEY),
        ({"api_key": READING_KEY}, FORBIDDEN),
    ):
        with package.Elasticsearch(secured.url, ca_certs="http_ca.crt", **options) as its_client:
            with pytest.raises(package.ApiError) as raised:
                its_client.indices.create(index="papers")
            assert raised.value.status_code == recorded.status
            reason = recorded.reason.replace("{path}", "/papers")
            assert raised.value.body["error"]["reason"] == reason
    assert BASIC not in str(raised.value)


def test_semantic_text_stays_as_it_is_beside_latent_terms(
    any_elasticsearch: OpenSearch, new_index: Any, encoder: LatentEncoder
) -> None:
    """Also where `text` is copied to it, and as a part of `text`; its questions are not ours."""
    index = new_index(any_elasticsearch)
    text = {"type": "text", "copy_to": "meaning", "fields": {"meaning": {"type": "text"}}}
    properties = {"text": text, "other": {"type": "text"}, "meaning": {"type": "text"}}
    any_elasticsearch.indices.create(index=index, body={"mappings": {"properties": properties}})
    source = {"text": "Insects dance to tell of nectar.", "meaning": "Insects dance."}
    any_elasticsearch.index(index=index, id="bees", body=source, refresh=True)
    proxy = SemanticProxy(url_of(any_elasticsearch))
    with proxy.listening(WithSemanticText) as url:
        client = Connection(url).open()
        with pytest.raises(InputError, match="semantic_text, which the engine searches with a mod"):
            EnrichJob(client, index, encoder=encoder, text_fields=["meaning"]).run()
        job = EnrichJob(client, index, encoder=encoder, text_fields=["text"], questions=False)
        assert job.run().report.encoded == 1
        rewriter = QueryRewriter.from_index(client, index, encoder)
        for query in SEMANTIC_QUERIES:
            assert rewriter.rewrite_body({"query": query})["query"] == query
        ours = {"query": {"match": {"text": QUESTION}}}
        assert rewriter.rewrite_body(ours) != ours
        beside = {"query": {"bool": {"should": [SEMANTIC_QUERIES[0], ours["query"]]}}}
        kept, rewritten = rewriter.rewrite_body(beside)["query"]["bool"]["should"]
        assert kept == SEMANTIC_QUERIES[0]
        assert rewritten != ours["query"]
    assert proxy.put
    assert not any("meaning" in body for body in proxy.put)
    stored = any_elasticsearch.get(index=index, id="bees")["_source"]
    assert {name: stored[name] for name in source} == source
    assert stored["latent"]


@pytest.mark.question_tables
def test_a_project_of_elastic_cloud_serverless(
    any_elasticsearch: OpenSearch,
    new_index: Any,
    encoder: LatentEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What docs/hosted.md says of it: each command works, or says in a line why it does not."""
    monkeypatch.setattr("latent_ingest.cli.options.ChosenModel.load", lambda _: encoder)
    index = new_index(any_elasticsearch)
    rows = [
        {"_id": "bees", "text": "the dance of bees"},
        {"_id": "ants", "text": "ants follow a trail"},
    ]
    Path("c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    proxy = FaultProxy(url_of(any_elasticsearch), seed=0, chance=0, others=0)
    with proxy.listening(ElasticServerless) as url:
        here = ("--index", index, "--url", url)
        done = call("c.jsonl", *here, "--no-questions", "--json")
        assert done.exit_code == 0, done.stderr
        report = json.loads(done.stdout)
        assert (report["indexed"], report["bytes_a_document"]) == (2, None)
        assert "is exactly c.jsonl" in call("verify", "c.jsonl", *here).stdout
        for form in ("auto", "latent", "hybrid_two_phase"):
            found = call("search", QUESTION, *here, "--form", form)
            assert found.stdout.split()[2] == "bees", found.stderr
        assert call("explain", "bees", *here, "--id", "bees").exit_code == 0
        doctor = call("doctor", *here, "--json")
        states = {one["check"]: one["state"] for one in json.loads(doctor.stdout)["findings"]}
        assert states["model"] == "ok"
        assert "problem" not in states.values()
        refused = call("questions", *here, "--yes")
        assert refused.exit_code == 1
        assert "not available when running in serverless mode" in refused.stderr
        lean = call("c.jsonl", "--index", new_index(any_elasticsearch), "--url", url, "--lean")
        assert lean.exit_code == 2
        assert "Traceback" not in lean.stderr + refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("package", "server"), [(9, 8), (8, 9), (7, 8)])
def test_a_client_of_another_major_version_than_the_server(
    package: int,
    server: int,
    request: pytest.FixtureRequest,
    new_index: Any,
    load: Any,
    encoder: LatentEncoder,
) -> None:
    """A server takes the media type of its own major version's client and of the one before."""
    engine = request.getfixturevalue(f"elasticsearch_{server}")
    index = new_index(engine)
    load(engine, index, ['{"_id": "bees", "text": "Insects dance to tell of nectar."}'])
    engine.indices.refresh(index=index)
    module = importlib.import_module(f"elasticsearch{package}")
    with module.Elasticsearch(url_of(engine)) as its_client:
        if package > server:
            with pytest.raises(EngineError, match="Accept version must be either version 8 or 7"):
                QueryRewriter.from_index(its_client, index, encoder)
            return
        rewriter = QueryRewriter.from_index(its_client, index, encoder)
        assert rewriter.rewrite(QUESTION)
        assert IndexMeta.read(its_client, index)
