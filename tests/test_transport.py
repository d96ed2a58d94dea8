"""Retry-After: from the server's response to the exception that a retry sees."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.engine.transport import EngineConnection, seconds_of


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("7", 7),
        (" 2.5 ", 2.5),
        ("-3", 0),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ("Fri, 99 Dec 1999 23:59:59 GMT", None),
    ],
)
def test_seconds_of_a_header(header: str | None, seconds: float | None) -> None:
    assert seconds_of(header) == seconds


@pytest.mark.parametrize("zone", ["GMT", "-0000"])
def test_a_date_is_seconds_from_now(zone: str) -> None:
    date = formatdate(time.time() + 90, usegmt=True).replace("GMT", zone)
    assert seconds_of(date) == pytest.approx(90, abs=5)


class Busy(BaseHTTPRequestHandler):
    """Answers 429, with the path as the number of seconds to wait."""

    def do_GET(self) -> None:
        index = self.path.split("/")[1]
        self.send_response(429)
        if index.isdigit():
            self.send_header("Retry-After", index)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def busy_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def wait(client: OpenSearch, index: str) -> float | None:
    with pytest.raises(TransportError) as error:
        client.get(index=index, id="1")
    assert error.value.status_code == 429
    seconds: float | None = error.value.retry_after  # type: ignore[attr-defined]
    return seconds


def test_an_error_has_the_wait_that_the_answer_asks_for(busy_url: str) -> None:
    client = Connection(busy_url).open()
    assert [wait(client, index) for index in ("7", "none", "0")] == [7, None, 0]


def test_requests_at_once_do_not_see_each_others_headers(busy_url: str) -> None:
    """Both responses have arrived before either exception is raised."""
    both = threading.Barrier(2, timeout=10)

    class Meeting(EngineConnection):
        def get_response_headers(self, response: Any) -> Any:
            headers = super().get_response_headers(response)
            both.wait()
            return headers

    client = OpenSearch(busy_url, connection_class=Meeting, max_retries=0)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda index: wait(client, index), ["3", "none"])) == [3, None]
