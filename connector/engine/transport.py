"""HTTP to the engine: opensearch-py's connection, with what retries and messages need to know."""

from __future__ import annotations

import logging
import math
import re
import ssl
import threading
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from opensearchpy import Urllib3HttpConnection
from opensearchpy.exceptions import ConnectionError as NoConnection
from opensearchpy.exceptions import SSLError, TransportError

from latent_ingest.connector.engine.login import NOBODY, Login

# Session token of temporary AWS credentials: a refused signature is answered with all that was
# signed.
SESSION_TOKEN = re.compile(r"(x-amz-security-token:)[\w+/=-]+", re.IGNORECASE)

# The ssl module's errors for a connection closed by the other side: certificates are fine.
BROKEN_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError)


class EngineConnection(Urllib3HttpConnection):
    """A connection whose TransportErrors have `retry_after` (seconds or None) and `login`.

    opensearch-py drops the headers of an error response; it asks for them just before it raises, in
    the same thread.
    """

    def __init__(self, *arguments: Any, login: Login = NOBODY, **settings: Any) -> None:
        self.answer = threading.local()
        self.login = login
        settings["http_auth"] = login.sign
        settings["headers"] = {"authorization": login.header} if login.header else None
        super().__init__(*arguments, **settings)

    def perform_request(self, *arguments: Any, **named: Any) -> Any:
        """Like the parent, but a connection broken inside TLS raises ConnectionError as without
        TLS."""
        try:
            return super().perform_request(*arguments, **named)
        except SSLError as error:
            inner: Any = error.info
            if isinstance(inner.args[0], BROKEN_OFF):
                raise NoConnection(*error.args) from error
            raise

    def get_response_headers(self, response: Any) -> Any:
        self.answer.headers = super().get_response_headers(response)
        return self.answer.headers

    def _raise_error(
        self, status_code: int, raw_data: str | bytes, content_type: str | None = None
    ) -> None:
        try:
            super()._raise_error(status_code, self._redacted(raw_data), content_type)
        except TransportError as error:
            header = self.answer.headers.get("retry-after")
            error.retry_after = seconds_of(header)  # type: ignore[attr-defined]
            error.login = self.login  # type: ignore[attr-defined]
            raise

    def _log_request_response(self, body: str | bytes | None, response: str | None) -> None:
        if logging.getLogger("opensearch").isEnabledFor(logging.DEBUG):
            super()._log_request_response(body, response and self._redacted(response))

    def _redacted(self, answer: str | bytes) -> str:
        """A response without our secrets: a gateway that refuses may repeat what was sent."""
        text = answer if isinstance(answer, str) else answer.decode("utf-8", "replace")
        text = SESSION_TOKEN.sub(r"\1***", text)
        if self.login.header:
            text = text.replace(self.login.header.split()[1], "***")
        return text


def seconds_of(header: str | None) -> float | None:
    """The value of a Retry-After header, seconds or an HTTP date; None if it is neither."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
        except ValueError:
            return None
        # "-0000" and a missing zone give a date without zone; HTTP dates are in UTC.
        date = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
        seconds = (date - datetime.now(timezone.utc)).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None
