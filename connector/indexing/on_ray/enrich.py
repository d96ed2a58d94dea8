"""An enrichment whose reading and encoding Ray does; the driver sends, counts and notes.

points in time → slices → read tasks → actors that encode → driver: updates, outcomes, counts

The state is in the index, as ever: the same command resumes. Documents that others have changed
meanwhile are few; the driver reads and encodes them again itself.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.reading import (
    has_points_in_time,
    open_point,
    scan_errors,
    search_at,
)
from latent_ingest.connector.indexing.enrich import Batch, Enrich
from latent_ingest.connector.indexing.on_ray.passes import Passes
from latent_ingest.connector.indexing.on_ray.settings import IO_CPUS, OnRay, Pool
from latent_ingest.connector.indexing.on_ray.slices import (
    Slice,
    SliceBatch,
    SliceReading,
    fill,
    slices_of,
)

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# Documents of a slice. What Ray loses, it reads again from the start of a slice.
DOCUMENTS = 20_000

# Seconds after which the engine is asked to keep the points in time for longer; less than the 30
# minutes that it keeps them.
TOUCH_SECONDS = 300.0


class RayEnrich(Enrich):
    """One run over one index, on Ray."""

    def __init__(
        self,
        *arguments: Any,
        on: OnRay,
        pool: Pool,
        load: Callable[[], LatentEncoder],
        **named: Any,
    ) -> None:
        """Prepare as `Enrich` does, on Ray that was started; `load` gives an encoder its model."""
        super().__init__(*arguments, **named)
        self._on = on
        self._pool = pool
        self._load_model = load
        self._received: dict[int, set[int]] = defaultdict(set)
        self._ends: dict[int, int] = {}  # slice → number of its batches

    def _all(self) -> Generator[Batch]:
        """All documents, encoded."""
        at_once = max(2, self._pool.encoders)
        with ExitStack() as stack, scan_errors(self._index):
            points = [
                stack.enter_context(open_point(self._index, shard, self._retry))
                for shard in range(self._shards)
            ]
            slices = slices_of(self._index, points, self._retry, DOCUMENTS, at_once)
            touched = time.monotonic()
            for batch in self._passes(slices):
                yield batch
                if time.monotonic() - touched > TOUCH_SECONDS:
                    touched = time.monotonic()
                    for point in points:
                        search_at(self._index, point, {"size": 0}, self._retry)

    def _passes(self, slices: Sequence[Slice]) -> Iterator[Batch]:
        """Have Ray read and encode slices, again if it lost some of them."""
        passes = Passes()
        while slices and not self._stop.is_set():
            ended_with: Exception | None = None
            try:
                for found in self._encoded(slices):
                    if found.problem:
                        self._stop_because(found.problem)
                    if self._stop.is_set():
                        return
                    if self._is_new(found):
                        self._texts.add(found.has_text, found.unseen)
                        yield found.batch
            except Exception as error:
                ended_with = error
            slices = [
                replace(one, done=frozenset(self._received[one.number]))
                for one in slices
                if len(self._received[one.number]) != self._ends.get(one.number)
            ]
            if slices:
                received = sum(map(len, self._received.values()))
                self._stop_because(passes.why_end(ended_with, received))

    def _is_new(self, found: SliceBatch) -> bool:
        """Whether a batch is received for the first time; notes the end of a slice."""
        if found.ended:
            self._ends[found.slice] = found.number
            self._texts.add(found.has_text, found.unseen)
            return False
        received = self._received[found.slice]
        if found.number in received:
            return False
        received.add(found.number)
        return True

    def _encoded(self, slices: Sequence[Slice]) -> Iterator[SliceBatch]:
        """Run the stages; gives the batches in any order."""
        import ray.data

        from latent_ingest.connector.indexing.on_ray.stages import (
            IndexSource,
            batches_of,
            encode,
            prepare_data,
        )

        prepare_data()
        reading = SliceReading(
            self._on.connection,
            self._index.name,
            self._meta,
            self._pool.characters(self._encoder),
            self._retry.give_up_after,
        )
        read = ray.data.read_datasource(
            IndexSource(slices, reading),
            num_cpus=IO_CPUS,
            concurrency=min(max(2, self._pool.encoders), len(slices)),
            override_num_blocks=len(slices),
        )
        encoded = encode(read, self._pool, self._load_model, self._meta, fill)
        for block in encoded.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from batches_of(block)


def check_readable(retry: Retry, client: Any) -> None:
    """Raise InputError if the engine cannot be read by slices on Ray."""
    if not retry.ask(has_points_in_time, client):
        raise InputError(
            "--on ray reads an index at points in time, which OpenSearch has from version 2.4; "
            "leave out --on ray"
        )
