"""HTTP to the engine: opensearch-py's connection, whose errors keep what a retry needs to know."""

from __future__ import annotations

import math
import threading
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from opensearchpy import Urllib3HttpConnection
from opensearchpy.exceptions import TransportError


class EngineConnection(Urllib3HttpConnection):
    """Its TransportErrors have `retry_after`: seconds to wait, or none when the answer says none.

    opensearch-py drops the headers of an answer that is an error; it asks for them just before it
    raises, in the same thread.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.answer = threading.local()
        super().__init__(*arguments, **settings)

    def get_response_headers(self, response: Any) -> Any:
        self.answer.headers = super().get_response_headers(response)
        return self.answer.headers

    def _raise_error(self, *arguments: Any, **settings: Any) -> None:
        try:
            super()._raise_error(*arguments, **settings)
        except TransportError as error:
            header = self.answer.headers.get("retry-after")
            error.retry_after = seconds_of(header)  # type: ignore[attr-defined]
            raise


def retry_after(error: BaseException) -> float | None:
    """Seconds the engine, or a proxy before it, asks to wait; none when it does not say."""
    seconds: float | None = getattr(error, "retry_after", None)
    return seconds


def seconds_of(header: str | None) -> float | None:
    """The value of a Retry-After header, seconds or an HTTP date; none for what is neither."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
        except ValueError:
            return None
        # "-0000" and a missing zone give a date without one; HTTP's are in UTC.
        date = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
        seconds = (date - datetime.now(timezone.utc)).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None
