"""A client of a real engine whose requests fail on demand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opensearchpy import OpenSearch


class Failing:
    """A client whose bulk requests raise the errors that a function chooses."""

    def __init__(self, client: OpenSearch, answer: Callable[[int, bytes], Exception | None]):
        self._client = client
        self._answer = answer
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def bulk(self, body: bytes, **options: Any) -> Any:
        self.calls += 1
        if error := self._answer(self.calls, body):
            raise error
        return self._client.bulk(body=body, **options)
