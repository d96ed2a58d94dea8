"""Bodies of requests: limited, and decompressed where they are read."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

from latent_ingest.connector.proxy.messages import Exchange, Refused


async def read(exchange: Exchange, most: int) -> tuple[bytes, bool]:
    """Return a body, decompressed, and whether it is all; see `Exchange.read`.

    Raises:
        Refused: it is compressed in an unknown way or wrongly, or expands too much.
    """
    content, whole = await exchange.read(most)
    if whole and (inflate := inflater(exchange, most)):
        content = inflate(content)
        inflate.end()
    return content, whole


async def plain(exchange: Exchange, most: int) -> AsyncIterator[bytes]:
    """Yield a body of up to `most` bytes, decompressed; raises as `read`."""
    inflate = inflater(exchange, most)
    async for chunk in limited(exchange, b"", most):
        yield inflate(chunk) if inflate else chunk
    if inflate:
        inflate.end()


async def limited(exchange: Exchange, start: bytes, most: int) -> AsyncIterator[bytes]:
    """Yield a body as it comes, of which `start` has been read; raises Refused if it is longer."""
    size = len(start)
    if start:
        yield start
    async for chunk in exchange.body():
        size += len(chunk)
        if size > most:
            raise too_large()
        yield chunk


def inflater(exchange: Exchange, most: int) -> Inflater | None:
    """Return what decompresses a body; None if it is not compressed. Raises Refused."""
    kind = exchange.word(b"content-encoding")
    if kind in ("", "identity"):
        return None
    if kind not in ("gzip", "deflate"):
        raise Refused(
            415, "illegal_argument_exception", f"Content-Encoding {kind[:50]!r}: use gzip"
        )
    return Inflater(most)


class Inflater:
    """Decompresses a body, up to a number of bytes."""

    def __init__(self, most: int) -> None:
        self._stream = zlib.decompressobj(wbits=47)  # gzip or zlib, by its header
        self._left = most

    def __call__(self, chunk: bytes) -> bytes:
        """Return the next bytes; raises Refused if they are too many, or not compressed."""
        try:
            plain = self._stream.decompress(chunk, self._left + 1)
        except zlib.error as error:
            raise Refused(400, "parse_exception", f"the body is not gzip: {error}") from error
        self._left -= len(plain)
        if self._left < 0 or self._stream.unconsumed_tail:
            raise too_large()
        if self._stream.unused_data:
            raise Refused(400, "parse_exception", "bytes follow the end of the gzip body")
        return plain

    def end(self) -> None:
        """Raise Refused if the compressed body was cut short."""
        if not self._stream.eof:
            raise Refused(400, "parse_exception", "the gzip body was cut short")


def too_large() -> Refused:
    """Return the refusal of a body that exceeds the limit."""
    return Refused(
        413, "content_too_long_exception", "the body is larger than --max-body, or its parsed part"
    )
