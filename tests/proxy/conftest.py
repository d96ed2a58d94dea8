"""A proxy in front of a real engine, each in its own process or thread as users run them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import urllib3
import uvicorn
from engine.conftest import (  # noqa: F401
    client,
    index,
    load,
    new_index,
    opensearch_url,
    remembered_encodings,
    seed,
    without_question_tables,
)

from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.engine.local import free_port
from latent_ingest.connector.proxy.app import Proxy, create_app
from latent_ingest.connector.proxy.serving.server import configured
from latent_ingest.connector.proxy.settings import Settings


@dataclass
class Reply:
    """An answer."""

    status: int
    headers: urllib3.HTTPHeaderDict
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def latent(self) -> str | None:
        return self.headers.get("x-latent")


@dataclass
class Running:
    """A proxy that answers at a URL."""

    url: str
    proxy: Proxy
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(maxsize=64))

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        content = body
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and isinstance(body, (dict, list)):
            content = json.dumps(body)
        if body is not None:
            sent.setdefault("content-type", "application/json")
        answer = self.pool.request(
            method, self.url + path, body=content, headers=sent, retries=False, timeout=60
        )
        return Reply(answer.status, answer.headers, answer.data)


@contextmanager
def running(settings: Settings) -> Iterator[Running]:
    """Serve a proxy in a thread until the block ends."""
    proxy = create_app(settings)
    server = uvicorn.Server(configured(lambda: proxy))
    port = free_port()
    server.config.port = port
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    one = Running(f"http://127.0.0.1:{port}", proxy)
    while not server.started:
        assert thread.is_alive()
    waiting = threading.Event()
    for _ in range(600):
        if proxy.models.ready or proxy.models.problem:
            break
        waiting.wait(0.1)
    yield one
    server.should_exit = True
    thread.join(40)
    assert not thread.is_alive()


Serve = Callable[..., Any]


@pytest.fixture
def serve(opensearch_url: str) -> Serve:  # noqa: F811
    """Start a proxy with other settings than the default ones."""

    def start(**settings: Any) -> Any:
        urls = settings.pop("urls", (opensearch_url,))
        connection = settings.pop("connection", Connection(urls[0]))
        chosen = {"device": "cpu", "dtype": "float32", **settings}
        return running(Settings(urls=urls, connection=connection, **chosen))

    return start


@pytest.fixture(scope="module")
def proxy(opensearch_url: str) -> Iterator[Running]:  # noqa: F811
    """A proxy with the model, and short-lived knowledge of indices."""
    settings = Settings(
        urls=(opensearch_url,),
        connection=Connection(opensearch_url),
        device="cpu",
        dtype="float32",
        renew_seconds=0.5,
    )
    with running(settings) as one:
        yield one
