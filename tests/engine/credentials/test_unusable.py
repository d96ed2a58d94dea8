"""Logins that cannot be used: one line of explanation, and nothing is sent."""

from __future__ import annotations

import json
import ssl
import sys
from pathlib import Path

import pytest
import trustme
from logins import (
    AWS_SECRET,
    AWS_SESSION,
    TOKEN,
    WRONG,
    Call,
    address,
    refused,
)
from tls_proxy import everyone, gate


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
        ("--user ann:pw --password-env WRONG", "a user name cannot contain ':'"),
        ("--user ann --password-env WRONG --token-env WRONG", "user and token given; log in one"),
        ("--api-key-env WRONG --aws-region eu-west-1", "API key and AWS region given; log in one"),
        ("--api-key-file lines", "the API key is empty or contains blanks, line ends"),
        ("--token-file lines", "the token is empty or contains blanks, line ends"),
        ("--aws-service aoss", "--aws-service and --aws-profile need --aws-region"),
        ("--aws-region eu-west-1 --aws-profile none", "AWS credentials: The config profile (none)"),
        ("--client-key key.pem", "--client-key needs --client-cert"),
        ("--client-cert mine.pem --client-key key.pem", "the key does not belong to the cert"),
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
    """botocore notices when it signs the request; nothing is sent."""
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
    assert "pip install 'latent-ingest[aws]' installs it" in result.stderr
