"""Connections that break inside TLS are retried; wrong certificates are not."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import pytest
import tenacity
from opensearchpy import OpenSearch
from tls_proxy import LeavingGate, everyone, gate

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine import retry
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.indexing.ingest import Ingest


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "WAIT", tenacity.wait_none())


def test_a_connection_that_breaks_off_is_made_again(
    here: ssl.SSLContext,
    opensearch_url: str,
    client: OpenSearch,
    index: str,
    encoder: LatentEncoder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In the handshake, and while a request is sent that is larger than all buffers."""
    padding = "x" * 1000
    rows = [{"_id": str(n), "text": "bees", "padding": [padding] * 1000} for n in range(5)]
    Path("c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    meta = open_index(client, index, encoder, {})
    with gate(opensearch_url, here, everyone, LeavingGate) as server:
        through = Connection(server.url, ca_file="ca.pem").open()
        report = Ingest(through, index, encoder, meta, "c.jsonl").run()
        assert server.cuts == []
    assert report.ok, report
    assert "trying again" in caplog.text
    assert client.count(index=index)["count"] == len(rows)


@pytest.mark.parametrize(
    ("ca", "port", "message"),
    [
        ("other.pem", None, "is not from an authority trusted here"),
        ("ca.pem", "engine", "write http:// if it has no TLS"),
    ],
)
def test_what_will_not_pass_is_said_at_once(
    here: ssl.SSLContext, opensearch_url: str, ca: str, port: str | None, message: str
) -> None:
    calls: list[Any] = []
    with gate(opensearch_url, here, everyone) as server:
        url = server.url if port is None else opensearch_url.replace("http:", "https:")
        client = Connection(url, ca_file=ca).open()
        with pytest.raises(EngineError, match=message) as error:
            Retry(client).ask(lambda: calls.append(1) or client.info())
    assert len(calls) == 1
    assert "gave up" not in str(error.value)
