"""The engine behind TLS and authentication, for every way to log in."""

from __future__ import annotations

import json
import os
import pty
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from logins import (
    PASSWORD,
    WAYS,
    WRONG,
    Call,
    address,
    leaks,
    refused,
)
from opensearchpy import OpenSearch
from tls_proxy import Refusal, Request, gate

from latent_ingest.connector.engine.client import Connection, EngineInfo
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import open_index


@pytest.mark.parametrize("way", WAYS)
def test_the_right_login_comes_in_and_leaves_no_trace(
    call: Call,
    here: ssl.SSLContext,
    opensearch_url: str,
    client: OpenSearch,
    index: str,
    way: str,
) -> None:
    check, right, _, _ = WAYS[way]
    files = set(Path().rglob("*"))
    with gate(opensearch_url, here, check) as server:
        done = call("corpus.jsonl", "--index", index, *address(server), *right, "--json")
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["indexed"] == 1
        verified = call("verify", "corpus.jsonl", "--index", index, *address(server), *right)
        assert verified.exit_code == 0, verified.stderr
        assert any("_bulk" in request.path for request in server.requests)
    assert client.count(index=index)["count"] == 1
    # The journal has the command that resumes, with the names of variables and files only.
    assert right[-1] in call("runs", "--json").stdout
    written = [path for path in set(Path().rglob("*")) - files if path.is_file()]
    assert any(path.name.startswith("journal") for path in written)
    assert [path for path in written if leaks(path.read_bytes())] == []
    assert not leaks(json.dumps(client.indices.get(index=index), ensure_ascii=False))
    assert not leaks(json.dumps(client.search(index=index), ensure_ascii=False))


@pytest.mark.parametrize("way", WAYS)
def test_the_wrong_login_is_turned_away_with_its_line(
    call: Call,
    here: ssl.SSLContext,
    opensearch_url: str,
    client: OpenSearch,
    index: str,
    way: str,
) -> None:
    check, _, wrong, line = WAYS[way]
    with gate(opensearch_url, here, check) as server:
        result = call("corpus.jsonl", "--index", index, *address(server), *wrong)
        assert refused(result) == f"{server.url} {line}"
        assert len(server.requests) == 1
    assert not client.indices.exists(index=index)


@pytest.mark.parametrize("options", [["--aws-region", "us-east-1"], ["--aws-service", "aoss"]])
def test_another_region_or_service_is_a_wrong_signature(
    call: Call, here: ssl.SSLContext, opensearch_url: str, options: list[str]
) -> None:
    check, right, _, _ = WAYS["aws"]
    with gate(opensearch_url, here, check) as server:
        result = call("corpus.jsonl", *address(server), *right, *options)
        assert "refuses the AWS signature" in refused(result)


def test_who_does_not_log_in_is_told_how(
    call: Call, here: ssl.SSLContext, opensearch_url: str
) -> None:
    with gate(opensearch_url, here, WAYS["basic"][0]) as server:
        result = call("corpus.jsonl", *address(server))
        assert refused(result) == (
            f"{server.url} requires authentication; use --user, --api-key-env, --token-env or "
            f"--aws-region"
        )


def test_a_password_in_a_file_or_asked_for(
    here: ssl.SSLContext, opensearch_url: str, loaded: str, call: Call
) -> None:
    with gate(opensearch_url, here, WAYS["basic"][0]) as server:
        verify = ["verify", "corpus.jsonl", "--index", loaded, *address(server), "--user", "ann"]
        done = call(*verify, "--password-file", "password.txt")
        assert done.exit_code == 0, done.stderr
        status, shown = on_a_terminal(verify, PASSWORD)
        assert status == 0, shown
        assert "is exactly corpus.jsonl" in shown
        assert not leaks(shown)
        status, shown = on_a_terminal(verify, WRONG)
        assert status == 1
        assert "refuses the user name or the password" in shown
        assert not leaks(shown)


def on_a_terminal(arguments: list[str], answer: str) -> tuple[int, str]:
    """Exit status and output of a command that asks one question on a terminal."""
    start = "from latent_ingest.cli.main import cli; cli()"
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", start, *arguments])
    shown = b""
    try:
        while b"Password: " not in shown:
            shown += os.read(terminal, 1024)
        os.write(terminal, f"{answer}\n".encode())
        while more := os.read(terminal, 1024):
            shown += more
    except OSError:  # on Linux: the other end is closed
        pass
    finally:
        os.close(terminal)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), shown.decode()


def test_a_request_that_is_sent_again_is_signed_again(
    here: ssl.SSLContext,
    opensearch_url: str,
    index: str,
    load: Any,
    client: OpenSearch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second later the signature is different, and valid."""
    monkeypatch.setenv("AWS_PROFILE", "default")
    signature_of, _, _, _ = WAYS["aws"]
    bulks: list[Request] = []

    def busy_once(request: Request) -> Refusal | None:
        refusal = signature_of(request)
        if refusal is None and "_bulk" in request.path:
            bulks.append(request)
            if len(bulks) == 1:
                time.sleep(1.1)  # signatures have a resolution of one second
                return Refusal(503)
        return refusal

    with gate(opensearch_url, here, busy_once) as server:
        signing = Connection(server.url, ca_file="ca.pem", aws_region="eu-west-1").open()
        report = load(signing, index, Path("corpus.jsonl"))
    assert report.ok
    assert client.count(index=index)["count"] == 1
    first, second = bulks
    assert first.body == second.body
    for header in ("x-amz-date", "authorization"):
        assert first.headers[header] != second.headers[header]


def test_a_gateway_that_forbids_is_not_a_wrong_signature_of_the_engine(
    here: ssl.SSLContext, opensearch_url: str
) -> None:
    def forbids(_: Request) -> Refusal:
        return Refusal(403, "User: anonymous is not authorized to perform: es:ESHttpGet\nmore")

    with gate(opensearch_url, here, forbids) as server:
        client = Connection(server.url, ca_file="ca.pem", token="a-token").open()
        with pytest.raises(EngineError, match=r"forbids this \(User: anonymous .*Get\); ask for"):
            EngineInfo.read(client)


def test_a_login_that_may_not_read_an_index_back_can_create_it(
    here: ssl.SSLContext, opensearch_url: str, client: OpenSearch, index: str, encoder: Any
) -> None:
    refused = []

    def forbids(request: Request) -> Refusal | None:
        if request.path.split("?")[0] != f"/{index}" or request.method != "GET":
            return None
        refused.append(request.path)
        return Refusal(403, "no permissions for [indices:admin/get]")

    with gate(opensearch_url, here, forbids) as server:
        on = Connection(server.url, ca_file="ca.pem", token="a-token").open()
        made = open_index(on, index, encoder, {"scale": 2.0})
    assert len(refused) == 1
    assert IndexMeta.read(client, index) == made
