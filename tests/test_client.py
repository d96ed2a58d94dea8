"""Connections, and the messages for their failures."""

from __future__ import annotations

import pytest

from latent_ingest.connector.engine.client import Connection, EngineInfo, default_url, url_of
from latent_ingest.connector.errors import InputError


@pytest.mark.parametrize(
    "url", ["localhost:9200", "ftp://host", "http://", "http://host:port", "http://[::1", ""]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="not a URL"):
        Connection(url).open()


@pytest.mark.parametrize("url", ["http://me:secret@host:9200", "me:secret@host", "http://secret@h"])
def test_credentials_in_the_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InputError, match="no credentials in the URL") as error:
        Connection(url).open()
    assert "secret" not in str(error.value)


def test_secrets_are_never_shown() -> None:
    connections = [
        Connection("http://host", "me", "secret"),
        Connection("http://host", api_key="secret"),
        Connection("http://host", token="secret"),
    ]
    for connection in connections:
        login = connection.login()
        assert login.header is not None
        assert login.header.split()[1] not in repr(login)
        assert "secret" not in repr(connection) + repr(login) + repr(connection.open().transport)


@pytest.mark.parametrize("url", ["http://host:9201", "https://host:9243"])
def test_a_client_knows_its_url(url: str) -> None:
    assert url_of(Connection(url).open()) == url


def test_the_environment_names_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENSEARCH_URL", "http://there:9200")
    assert default_url() == "http://there:9200"


@pytest.mark.parametrize(
    ("distribution", "version", "keeps"),
    [
        ("opensearch", (3, 8, 0), False),
        ("opensearch", (3,), False),
        ("opensearch", (2, 19, 1), True),
        ("elasticsearch", (7, 10, 2), True),
        ("elasticsearch", (8, 1), True),
    ],
)
def test_which_engines_keep_the_factor(
    distribution: str, version: tuple[int, ...], keeps: bool
) -> None:
    assert EngineInfo(distribution, version).keeps_k1_factor is keeps


@pytest.mark.parametrize(
    ("distribution", "version", "skips"),
    [
        ("opensearch", (3, 8, 0), True),
        ("opensearch", (2, 19, 1), False),
        ("elasticsearch", (7, 10, 2), False),
        ("elasticsearch", (8, 19), False),
        ("elasticsearch", (9, 0), True),
    ],
)
def test_which_engines_skip_in_blocks(
    distribution: str, version: tuple[int, ...], skips: bool
) -> None:
    assert EngineInfo(distribution, version).skips_in_blocks is skips
