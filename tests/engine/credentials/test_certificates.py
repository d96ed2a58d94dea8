"""Certificates of servers and clients: valid ones are accepted, each invalid one is named."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

import pytest
import trustme
from logins import (
    WAYS,
    Call,
    address,
    refused,
    serving,
)
from opensearchpy import OpenSearch
from tls_proxy import Gate, everyone, gate


@pytest.fixture(params=["other authority", "other address", "other name", "expired", "not yet"])
def bad_server(
    request: pytest.FixtureRequest,
    authority: trustme.CA,
    stranger: trustme.CA,
    opensearch_url: str,
) -> Iterator[tuple[Gate, str, str]]:
    """A server with an invalid certificate, its URL, and the reason."""
    now = datetime.now(timezone.utc)
    day = timedelta(days=1)
    names = ("127.0.0.1", "localhost")
    elsewhere = authority.issue_cert("elsewhere.example")
    certificate, host, words = {
        "other authority": (
            stranger.issue_cert(*names),
            "127.0.0.1",
            "is not from an authority trusted here",
        ),
        "other address": (elsewhere, "127.0.0.1", "is for another host: IP address mismatch"),
        "other name": (elsewhere, "localhost", "is for another host: Hostname mismatch"),
        "expired": (
            authority.issue_cert(*names, not_before=now - 2 * day, not_after=now - day),
            "127.0.0.1",
            "has expired; renew it",
        ),
        "not yet": (
            authority.issue_cert(*names, not_before=now + day, not_after=now + 2 * day),
            "127.0.0.1",
            "is not valid yet; check this machine's clock",
        ),
    }[request.param]
    with gate(opensearch_url, serving(certificate), everyone) as server:
        yield server, f"https://{host}:{server.server_port}", words


def test_a_certificate_that_is_not_right_is_refused_with_its_line(
    call: Call, bad_server: tuple[Gate, str, str], client: OpenSearch, index: str
) -> None:
    server, url, words = bad_server
    login = ("--user", "ann", "--password-env", "RIGHT_PASSWORD")
    result = call("corpus.jsonl", "--index", index, "--url", url, "--ca", "ca.pem", *login)
    assert refused(result).startswith(f"the certificate of {url} {words}")
    assert server.requests == []  # the password was not sent either
    assert not client.indices.exists(index=index)


def test_insecure_takes_any_certificate_and_warns(
    call: Call, bad_server: tuple[Gate, str, str], index: str, recwarn: pytest.WarningsRecorder
) -> None:
    """One warning, not one per request."""
    server, url, _ = bad_server
    done = call("verify", "corpus.jsonl", "--index", index, "--url", url, "--insecure")
    warning, *_, error = done.stderr.splitlines()
    assert warning == "warning: --insecure: the server's certificate is not checked"
    assert f"no index {index}" in error  # so the engine was asked
    assert server.requests
    assert [str(w.message) for w in recwarn if "Unverified" in str(w.message)] == []


def test_a_wrong_ca_file_is_not_enough(
    call: Call, here: ssl.SSLContext, opensearch_url: str
) -> None:
    with gate(opensearch_url, here, everyone) as server:
        for options in (("--ca", "other.pem"), ()):
            line = refused(call("corpus.jsonl", "--url", server.url, *options))
            assert "is not from an authority trusted here" in line
            assert "give the authority's certificate with --ca" in line
        assert server.requests == []


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("insecure", [False, True])
def test_client_certificates(
    call: Call,
    authority: trustme.CA,
    stranger: trustme.CA,
    opensearch_url: str,
    loaded: str,
    client: OpenSearch,
    new_index: Callable[[], str],
    version: str,
    insecure: bool,
) -> None:
    """The right one is accepted, also with --insecure; none, or one of a stranger, is refused."""
    context = serving(authority.issue_cert("127.0.0.1"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = context.minimum_version = ssl.TLSVersion[version]
    authority.configure_trust(context)
    mine, other = authority.issue_cert("ann@host.example"), stranger.issue_cert("ann@host.example")
    mine.private_key_and_cert_chain_pem.write_to_path("both.pem")
    for name, certificate in {"mine": mine, "other": other}.items():
        certificate.private_key_pem.write_to_path(f"{name}.key")
        certificate.cert_chain_pems[0].write_to_path(f"{name}.pem")
    trust = ("--insecure",) if insecure else ("--ca", "ca.pem")
    none = new_index()
    with gate(opensearch_url, context, everyone) as server:
        where = ("--url", server.url, *trust)
        for shown in (
            ("--client-cert", "mine.pem", "--client-key", "mine.key"),
            ("--client-cert", "both.pem"),
        ):
            done = call("verify", "corpus.jsonl", "--index", loaded, *where, *shown)
            assert done.exit_code == 0, done.stderr
        come_in = len(server.requests)
        for shown in ((), ("--client-cert", "other.pem", "--client-key", "other.key")):
            result = call("corpus.jsonl", "--index", none, *where, *shown)
            assert result.exit_code == 1
            line = result.stderr.splitlines()[-1]
            assert line.startswith(f"Error: {server.url} requires another client certificate (")
            assert line.endswith("check --client-cert and --client-key")
        assert len(server.requests) == come_in
    assert not client.indices.exists(index=none)


def test_a_certificate_that_is_nobodys_login(
    call: Call, authority: trustme.CA, here: ssl.SSLContext, opensearch_url: str
) -> None:
    authority.issue_cert("ann@host.example").private_key_and_cert_chain_pem.write_to_path("me.pem")
    with gate(opensearch_url, here, WAYS["basic"][0]) as server:
        result = call("corpus.jsonl", *address(server), "--client-cert", "me.pem")
        assert refused(result) == (
            f"{server.url} does not accept the client certificate as a login; check --client-cert"
        )
