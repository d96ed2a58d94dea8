"""Run stages of a pipeline at the same time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from typing import TypeVar

Item = TypeVar("Item")


def prefetch(source: Generator[Item], depth: int) -> Generator[Item]:
    """Iterate `source` in a thread of its own, at most `depth` items ahead.

    An exception of the source is raised here, after the items before it. Closing this generator
    closes the source, in its thread, and waits for it.
    """
    ahead: queue.Queue[tuple[Item] | BaseException | None] = queue.Queue(depth)
    closed = threading.Event()

    def put(item: tuple[Item] | BaseException | None) -> None:
        while not closed.is_set():
            try:
                ahead.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in source:
                put((item,))
                if closed.is_set():
                    break
            put(None)
        except BaseException as error:
            put(error)
        finally:
            source.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := ahead.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        closed.set()
        thread.join()
