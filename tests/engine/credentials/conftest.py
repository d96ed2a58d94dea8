"""Certificates, secrets, and a fixture that checks that a command shows no secret."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner, Result
from logins import (
    API_KEY,
    AWS_SECRET,
    AWS_SESSION,
    GOOD,
    PASSWORD,
    TOKEN,
    WRONG,
    Call,
    leaks,
    serving,
)
from opensearchpy import OpenSearch

from latent_ingest.cli.main import cli


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def stranger() -> trustme.CA:
    """A certificate authority that is not trusted."""
    return trustme.CA()


@pytest.fixture(scope="session")
def here(authority: trustme.CA) -> ssl.SSLContext:
    """A server with a valid certificate."""
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


@pytest.fixture
def call(caplog: pytest.LogCaptureFixture) -> Call:
    """Run a command; no secret is in its output or logs."""
    caplog.set_level(logging.DEBUG, "opensearch")
    caplog.set_level(logging.DEBUG, "urllib3")

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        unexpected = result.exception and not isinstance(result.exception, SystemExit)
        assert not unexpected, result.exception
        assert not leaks(result.output + result.stderr + caplog.text)
        return result

    return invoke


@pytest.fixture
def index(new_index: Callable[[], str]) -> str:
    return new_index()


@pytest.fixture
def loaded(index: str, client: OpenSearch, load: Any) -> str:
    """An index with the corpus."""
    assert load(client, index, Path("corpus.jsonl")).ok
    return index
