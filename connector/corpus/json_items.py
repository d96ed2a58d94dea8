"""JSON arrays: each item is a document, cut out of the file as it is written there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from latent_ingest.connector.corpus_file import CorpusFile, Line
from latent_ingest.connector.errors import InputError

# Bytes read at a time; more if an item is longer.
CHUNK = 65536

# A whole string, the start of one that the bytes at hand do not end, or a bracket or comma.
TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{},]', re.DOTALL)


class BrokenArrayError(Exception):
    """The array does not end, or more follows it."""


def read(file: CorpusFile) -> Iterator[Line]:
    """The items of the array, numbered from 1, one in memory at a time.

    Raises:
        InputError: the array is cut short, or more follows it; the items before that are good.
    """
    number = 0
    try:
        for content in items(file.stream):
            number += 1
            yield Line(number, content)
    except BrokenArrayError as error:
        raise InputError(
            f"{file.name}: broken after item {number}: {error}; the items before it were read, "
            f"correct the file or fetch it again for the rest"
        ) from None


def items(stream: Any) -> Iterator[bytes]:
    """The bytes of each item of an array; raises BrokenArrayError at the end."""
    data, start, at, depth = b"", 0, 0, 0
    while True:
        token = TOKEN.search(data, at)
        if token is None or token[0] == b'"':
            at = token.start() if token else len(data)
            more = stream.read(max(CHUNK, len(data) - start))
            if not more:
                raise BrokenArrayError("the array is cut short")
            data, at, start = data[start:] + more, at - start, 0
            continue
        at, letter = token.end(), token[0]
        if letter in b"[{":
            depth += 1
            start = at if depth == 1 else start
        elif letter in b"]}":
            depth -= 1
        if depth == 0 or (depth == 1 and letter == b","):
            item = data[start : token.start()].strip()
            if item or depth:
                yield item
            start = at
        if depth == 0:
            if rest := (data[at:] + stream.read(CHUNK)).strip():
                raise BrokenArrayError(
                    f"more follows the array: {rest[:40].decode('utf-8', 'replace')!r}"
                )
            return
