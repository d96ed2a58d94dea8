"""HTTP/1.1 of clients, read strictly."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from latent_ingest.connector.proxy.messages import error_body

# Bytes of the headers of a request.
MAX_HEADERS = 65_536


class StrictProtocol(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn reads it, with a limit on headers and without what we never mean."""

    _unread = 0
    """Bytes since the headers of the last request ended, or a part of its body."""
    _in_headers = True

    def data_received(self, data: bytes) -> None:
        """Refuse headers that do not end."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEADERS and not self.transport.is_closing():
            self.send_400_response("The headers are too long.")

    def on_message_begin(self) -> None:
        """Headers begin."""
        self._in_headers = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Leave out trailers, which would pass for headers."""
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Refuse a target that is a URL, which names a host of its own."""
        self._in_headers = False
        self._unread = 0
        if not self.url.startswith(b"/"):
            raise ValueError("not a path")  # uvicorn answers 400
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Bytes of bodies are counted elsewhere."""
        self._unread = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request in the engine's error shape, and close the connection."""
        content = error_body(400, "illegal_argument_exception", msg)
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json; charset=UTF-8\r\n"
            f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + content)
        self.transport.close()

    def on_message_complete(self) -> None:
        """The next request may begin."""
        self._unread = 0
        super().on_message_complete()
