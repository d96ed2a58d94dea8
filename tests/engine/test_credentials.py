"""Who may come in: the engine behind TLS and a check of who asks, for every way to log in."""

from __future__ import annotations

import json
import logging
import os
import pty
import ssl
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import trustme
from botocore.credentials import Credentials
from click.testing import CliRunner, Result
from opensearchpy import OpenSearch
from tls_proxy import (
    Check,
    Gate,
    Refusal,
    Request,
    asks_for,
    asks_for_password,
    asks_for_signature,
    everyone,
    gate,
)

from latent_ingest.cli.main import cli
from latent_ingest.connector.client import Connection, EngineInfo
from latent_ingest.connector.errors import EngineError

PASSWORD = "pässwörd-€-of-ann"
API_KEY = "aWQtb2Yta2V5OnNlY3JldC1vZi1rZXk="
TOKEN = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
AWS_SESSION = "FwoGZXIvYXdzEPT-session-token-of-ann"
WRONG = "open-sesame"
SECRETS = (
    *(PASSWORD, b64encode(f"ann:{PASSWORD}".encode()).decode(), API_KEY, TOKEN),
    *(AWS_SECRET, AWS_SESSION, WRONG, b64encode(f"ann:{WRONG}".encode()).decode()),
)

GOOD = '{"_id": "bees", "title": "Honey", "text": "Insects dance to tell where nectar is."}'

WAYS: dict[str, tuple[Check, list[str], list[str], str]] = {
    "basic": (
        asks_for_password("ann", PASSWORD),
        ["--user", "ann", "--password-env", "RIGHT_PASSWORD"],
        ["--user", "ann", "--password-env", "WRONG"],
        "refuses the user name or the password; check --user and --password-env or --password-file",
    ),
    "api_key": (
        asks_for(f"ApiKey {API_KEY}"),
        ["--api-key-file", "api.key"],
        ["--api-key-env", "WRONG"],
        "refuses the API key; check --api-key-env or --api-key-file, and whether it has expired",
    ),
    "token": (
        asks_for(f"Bearer {TOKEN}"),
        ["--token-file", "token.txt"],
        ["--token-env", "WRONG"],
        "refuses the bearer token; check --token-env or --token-file, and whether it has expired",
    ),
    "aws": (
        asks_for_signature(Credentials("AKIDANN", AWS_SECRET, AWS_SESSION), "eu-west-1", "es"),
        ["--aws-region", "eu-west-1"],
        ["--aws-region", "eu-west-1", "--aws-profile", "wrong"],
        "refuses the AWS signature; check the AWS credentials, --aws-region, --aws-service and "
        "the access policy (The request signature we calculated does not match the signature you "
        "provided. Check your AWS Secret Access Key and signing method. Consult the service "
        "documentation for details.)",
    ),
}


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def stranger() -> trustme.CA:
    """An authority that nobody trusts."""
    return trustme.CA()


def serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture(scope="session")
def here(authority: trustme.CA) -> ssl.SSLContext:
    """A server with the right certificate."""
    return serving(authority.issue_cert("127.0.0.1", "localhost"))


@pytest.fixture(autouse=True)
def _secrets(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    authority: trustme.CA,
    stranger: trustme.CA,
) -> None:
    """Right and wrong secrets in variables and files, and a document to ingest."""
    monkeypatch.setenv("RIGHT_PASSWORD", PASSWORD)
    monkeypatch.setenv("WRONG", WRONG)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    profile = "[{}]\naws_access_key_id = AKIDANN\naws_secret_access_key = {}\n"
    session = f"aws_session_token = {AWS_SESSION}\n"
    texts = {
        "password.txt": PASSWORD + "\n",
        "api.key": API_KEY + "\r\n",
        "token.txt": TOKEN,
        "aws.ini": profile.format("default", AWS_SECRET)
        + session
        + profile.format("wrong", WRONG)
        + session,
        "corpus.jsonl": GOOD + "\n",
    }
    for name, text in texts.items():
        Path(name).write_bytes(text.encode())
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws.ini"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    authority.cert_pem.write_to_path("ca.pem")
    stranger.cert_pem.write_to_path("other.pem")


Call = Callable[..., Result]


@pytest.fixture
def call(caplog: pytest.LogCaptureFixture) -> Call:
    """Run a command; no secret is in what it prints and logs."""
    caplog.set_level(logging.DEBUG, "opensearch")
    caplog.set_level(logging.DEBUG, "urllib3")

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        unexpected = result.exception and not isinstance(result.exception, SystemExit)
        assert not unexpected, result.exception
        assert not leaks(result.output + result.stderr + caplog.text)
        return result

    return invoke


def leaks(text: str | bytes) -> list[str]:
    """The secrets that are in it."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return [secret for secret in SECRETS if secret in text]


def refused(result: Result) -> str:
    """The one line of a command that the engine turned away."""
    assert result.exit_code == 1, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


@pytest.fixture
def index(new_index: Callable[[], str]) -> str:
    return new_index()


@pytest.fixture
def loaded(index: str, client: OpenSearch, load: Any) -> str:
    """An index that holds the corpus."""
    assert load(client, index, Path("corpus.jsonl")).ok
    return index


def address(server: Gate, ca: str = "ca.pem") -> tuple[str, ...]:
    return ("--url", server.url, "--ca", ca)


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
    # The command to go on with is in the journal, with the names of variables and files alone.
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
            f"{server.url} asks who you are; log in with --user, --api-key-env, --token-env or "
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
    """Exit status and output of a command that asks one thing on a terminal."""
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
    except OSError:  # how Linux says that the other end is closed
        pass
    finally:
        os.close(terminal)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), shown.decode()


@pytest.fixture(params=["other authority", "other address", "other name", "expired", "not yet"])
def bad_server(
    request: pytest.FixtureRequest,
    authority: trustme.CA,
    stranger: trustme.CA,
    opensearch_url: str,
) -> Iterator[tuple[Gate, str, str]]:
    """A server with a certificate to refuse, its URL, and the reason."""
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
    assert server.requests == []  # nor was the password sent
    assert not client.indices.exists(index=index)


def test_insecure_takes_any_certificate_and_warns(
    call: Call, bad_server: tuple[Gate, str, str], index: str, recwarn: pytest.WarningsRecorder
) -> None:
    """Once, and not for each request."""
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
    """The right one comes in, also with --insecure; none and a stranger's do not."""
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
            assert line.startswith(f"Error: {server.url} wants another client certificate (")
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
            f"{server.url} takes the client certificate for nobody it knows; check --client-cert"
        )


def test_a_request_that_is_sent_again_is_signed_again(
    here: ssl.SSLContext,
    opensearch_url: str,
    index: str,
    load: Any,
    client: OpenSearch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second later the signature is another one, and as valid as the first."""
    monkeypatch.setenv("AWS_PROFILE", "default")
    signature_of, _, _, _ = WAYS["aws"]
    bulks: list[Request] = []

    def busy_once(request: Request) -> Refusal | None:
        refusal = signature_of(request)
        if refusal is None and "_bulk" in request.path:
            bulks.append(request)
            if len(bulks) == 1:
                time.sleep(1.1)  # signatures count in seconds
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--password-env RIGHT_PASSWORD", "--password-env and --password-file need --user"),
        ("--user ann --password-env NONE", "--password-env NONE: no such environment variable"),
        ("--user ann --password-env EMPTY", "--password-env EMPTY: empty"),
        ("--user ann --password-file empty", "--password-file empty: empty"),
        ("--user ann --password-file binary", "--password-file binary: not a text file"),
        ("--user ann --password-file absent", "'absent' does not exist"),
        ("--user ann --password-file password.txt --password-env WRONG", "give one of them"),
        ("--user ann:pw --password-env WRONG", "a user name holds no ':'"),
        ("--user ann --password-env WRONG --token-env WRONG", "user and token given; log in one"),
        ("--api-key-env WRONG --aws-region eu-west-1", "API key and AWS region given; log in one"),
        ("--api-key-file lines", "the API key is empty or holds blanks, line ends"),
        ("--token-file lines", "the token is empty or holds blanks, line ends"),
        ("--aws-service aoss", "--aws-service and --aws-profile need --aws-region"),
        ("--aws-region eu-west-1 --aws-profile none", "AWS credentials: The config profile (none)"),
        ("--client-key key.pem", "--client-key needs --client-cert"),
        ("--client-cert mine.pem --client-key key.pem", "the key is not the certificate's"),
        ("--client-cert corpus.jsonl", "corpus.jsonl: no certificate and key in PEM"),
        ("--ca corpus.jsonl", "corpus.jsonl: no certificates in PEM; check --ca"),
        ("--client-cert mine.pem --client-key locked.pem", "locked.pem: the key is encrypted"),
        ("--url http://localhost:1 --ca ca.pem", "http://localhost:1: certificates need https://"),
    ],
)
def test_a_login_that_cannot_be_used_is_one_clear_line(
    call: Call,
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    message: str,
) -> None:
    from cryptography.hazmat.primitives import serialization

    monkeypatch.setenv("EMPTY", "")
    Path("empty").write_text("\n")
    Path("binary").write_bytes(b"\xff\xfe\x00")
    Path("lines").write_text(f"{TOKEN}\n{TOKEN}\n")
    mine = authority.issue_cert("ann@host.example")
    mine.cert_chain_pems[0].write_to_path("mine.pem")
    authority.private_key_pem.write_to_path("key.pem")
    key = serialization.load_pem_private_key(mine.private_key_pem.bytes(), None)
    locked = serialization.BestAvailableEncryption(WRONG.encode())
    form = serialization.PrivateFormat.PKCS8
    Path("locked.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, locked))
    result = call("corpus.jsonl", "--url", "https://localhost:1", *options.split())
    assert result.exit_code == 2, result.stderr
    error = result.stderr.splitlines()[-1]
    assert error.startswith("Error: ")
    assert message in error


def test_without_credentials_for_aws(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
    result = call("corpus.jsonl", "--url", "https://localhost:1", "--aws-region", "eu-west-1")
    assert result.exit_code == 2
    assert "no AWS credentials found; set AWS_ACCESS_KEY_ID" in result.stderr


def test_aws_credentials_that_cannot_be_refreshed(
    call: Call, here: ssl.SSLContext, opensearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore finds out when the request is signed; nothing is sent."""
    expired = {
        "Version": 1,
        "AccessKeyId": "AKIDANN",
        "SecretAccessKey": AWS_SECRET,
        "SessionToken": AWS_SESSION,
        "Expiration": "2020-01-01T00:00:00Z",
    }
    Path("expired.json").write_text(json.dumps(expired))
    Path("config").write_text("[profile old]\ncredential_process = cat expired.json\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", "config")
    options = ("--aws-region", "eu-west-1", "--aws-profile", "old")
    with gate(opensearch_url, here, everyone) as server:
        line = refused(call("corpus.jsonl", *address(server), *options))
        assert line.startswith(f"cannot send requests to {server.url}: ")
        assert "expired" in line
        assert server.requests == []


def test_without_the_extra_for_aws(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    result = call("corpus.jsonl", "--url", "https://localhost:1", "--aws-region", "eu-west-1")
    assert result.exit_code == 2
    assert "pip install 'latent-ingest[aws]' brings it" in result.stderr
