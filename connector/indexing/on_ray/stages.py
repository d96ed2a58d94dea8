"""The stages of a run as Ray Data has them: a source, an encoder in each actor, a sink.

A row of the data set is a whole batch, pickled: Ray may put rows into blocks as it likes, and the
batch stays the unit that is encoded, sent, answered for and noted.
"""

from __future__ import annotations

import logging
import pickle
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.data import Datasink, Datasource, ReadTask
from ray.data.block import BlockMetadata

from latent_ingest.connector.document import BadLine
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import LatentIngestError
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.indexing.actions import IndexAction, Verdict
from latent_ingest.connector.indexing.on_ray.blocks import (
    BlockOutcome,
    FileBatch,
    FileTask,
    read_file,
)
from latent_ingest.connector.indexing.on_ray.settings import ENCODER_CPUS, Pool, client_of
from latent_ingest.connector.indexing.on_ray.slices import Slice, SliceBatch, SliceReading
from latent_ingest.connector.indexing.sender import Sender, requests
from latent_ingest.connector.prefetch import give_back_memory
from latent_ingest.connector.seen_keys import key_hash

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

COLUMN = "batch"


Item = TypeVar("Item", FileBatch, SliceBatch)


def table(batch: FileBatch | SliceBatch) -> pa.Table:
    """One row."""
    return pa.table({COLUMN: pa.array([pickle.dumps(batch)], pa.large_binary())})


def batches_of(block: pa.Table) -> Iterator[Any]:
    """The batches of a block."""
    for row in block.column(COLUMN) if block.num_rows else ():
        yield pickle.loads(row.as_py())


class Collector:
    """Outcomes on their way to the driver, and whether the run is to end.

    If its process is killed, it starts again empty; the driver then reads what it misses again.
    """

    def __init__(self) -> None:
        self._outcomes: list[bytes] = []
        self._stopping = False

    def add(self, outcome: bytes) -> bool:
        """Add a pickled outcome; returns `stopping`."""
        self._outcomes.append(outcome)
        return self._stopping

    def take(self, stop: bool) -> list[bytes]:
        """Give the outcomes that have come since; from now on the run is to `stop`, or not."""
        self._stopping = stop
        taken, self._outcomes = self._outcomes, []
        return taken

    def stopping(self) -> bool:
        """Whether the run is to end."""
        return self._stopping


class Parts(Datasource):
    """Parts of the input, one read task each."""

    def __init__(self, tasks: Sequence[Any]) -> None:
        self._tasks = tasks

    def estimate_inmemory_data_size(self) -> None:
        return None

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        return [
            ReadTask(
                self._reader(task),
                BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None),
            )
            for task in self._tasks
        ]

    def _reader(self, task: Any) -> Callable[[], Iterable[pa.Table]]:
        raise NotImplementedError


class CorpusSource(Parts):
    """Files of a corpus, one read task each."""

    def __init__(self, tasks: Sequence[FileTask], collector: Any) -> None:
        super().__init__(tasks)
        self._collector = collector

    def _reader(self, task: FileTask) -> Callable[[], Iterable[pa.Table]]:
        collector = self._collector

        def read() -> Iterator[pa.Table]:
            for batch in read_file(task):
                if ray.get(collector.stopping.remote()):
                    return
                yield table(batch)

        return read


class IndexSource(Parts):
    """Slices of an index, one read task each."""

    def __init__(self, tasks: Sequence[Slice], reading: SliceReading) -> None:
        super().__init__(tasks)
        self._reading = reading

    def _reader(self, task: Slice) -> Callable[[], Iterable[pa.Table]]:
        reading = self._reading
        return lambda: (table(batch) for batch in reading.batches(task))


def prepare_data() -> None:
    """Set up Ray Data in the driver."""
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = 1  # each row, which is a batch, is a block
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def encode(data: ray.data.Dataset, pool: Pool, *arguments: Any) -> ray.data.Dataset:
    """Have actors encode the batches; `arguments` are those of `Encode`."""
    return data.map_batches(
        Encode,
        fn_constructor_args=arguments,
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=pool.encoders),
        num_cpus=ENCODER_CPUS,
        num_gpus=pool.gpus,
    )


class Encode:
    """Encodes batches, in an actor that has the model."""

    def __init__(
        self,
        load: Callable[[], LatentEncoder],
        meta: IndexMeta,
        fill: Callable[[Any, LatentEncoder, IndexMeta], None],
        collector: Any = None,
    ) -> None:
        """Load the model; if that fails, each batch says so.

        `fill` encodes a batch; a `Collector`, if any, knows whether the run is to end.
        """
        self._meta = meta
        self._fill = fill
        self._collector = collector
        self._problem: str | None = None
        try:
            self._encoder = load()
            if self._encoder.fingerprint.digest != meta.fingerprint:
                self._problem = f"another model than here ({self._encoder.fingerprint.digest})"
        except (LatentIngestError, ImportError, OSError) as error:
            self._problem = str(error)
        if self._problem:
            self._problem = f"a worker of Ray on {platform.node()} lacks the model: {self._problem}"

    def __call__(self, block: pa.Table) -> pa.Table:
        return pa.concat_tables([table(self._encoded(one)) for one in batches_of(block)])

    def _encoded(self, found: Item) -> Item:
        if self._problem:
            found.problem = self._problem
        elif self._collector and ray.get(self._collector.stopping.remote()):
            found.left = True
        elif not found.empty:
            self._fill(found.batch, self._encoder, self._meta)
            give_back_memory()
        return found


class EngineSink(Datasink):
    """Sends batches to the index by the library's sender, and tells the driver what became of each.

    A task that is run again sends the same documents with the same versions, which changes nothing,
    and its outcomes are counted once.
    """

    def __init__(
        self,
        connection: Connection,
        target: dict[str, Any],
        index: str,
        collector: Any,
        *,
        concurrency: int,
        give_up_after: float,
    ) -> None:
        """Send nothing yet.

        Args:
            connection: how a worker reaches the engine.
            target: parameters of each bulk request.
            index: own name of the index.
            collector: actor handle of a `Collector`.
            concurrency: as for `Sender`, of each write task.
            give_up_after: seconds of refusals or silence after which the run ends.
        """
        self._connection = connection
        self._target = target
        self._index = index
        self._collector = collector
        self._concurrency = concurrency
        self._give_up_after = give_up_after

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> int:  # noqa: ARG002
        """Send the batches of some blocks; returns their number."""
        number = 0
        for block in blocks:
            for found in batches_of(block):
                self._write(found)
                number += 1
        return number

    def _write(self, found: FileBatch) -> None:
        if found.left or ray.get(self._collector.stopping.remote()):
            return
        outcome = outcome_of(found)
        if not found.problem and found.batch.actions:
            client = client_of(self._connection)
            retry = Retry(client, give_up_after=self._give_up_after)
            sender = Sender[IndexAction](
                client, self._target, retry, self._concurrency, self._index
            )
            try:
                self._send(found.batch.actions, sender, outcome)
            finally:
                sender.close()
        ray.get(self._collector.add.remote(pickle.dumps(outcome)))

    def _send(
        self, actions: Sequence[IndexAction], sender: Sender[IndexAction], outcome: BlockOutcome
    ) -> None:
        sent = [sender.submit(request) for request in requests(actions)]
        indexed = []
        for one in (one for future in sent for one in future.result()):
            if one.verdict is Verdict.DONE:
                indexed.append(one.action)
            elif one.verdict is None:
                outcome.not_sent += 1
                outcome.why_not = one.reason
            else:
                document = one.action.document
                reason = f"document {document.id!r} rejected: {one.reason}"
                outcome.failures.append(BadLine(document.line, reason, document))
        keys = [key_hash(action.id) for action in indexed]
        outcome.indexed = np.array(keys, np.int64)
        outcome.empty = sum(action.empty for action in indexed)
        outcome.truncated = sum(action.truncated for action in indexed)
        outcome.pooled = sum(action.pooled for action in indexed)
        outcome.chunks = sum(action.n_answers for action in indexed)


def outcome_of(found: FileBatch) -> BlockOutcome:
    """The outcome of a batch of which nothing is sent yet."""
    batch = found.batch
    return BlockOutcome(
        file=found.file,
        after=found.after,
        last=found.last,
        digest=found.digest,
        position=batch.position,
        lines=batch.lines,
        blank=batch.blank,
        tokens=batch.tokens,
        generated=sum(document.generated for document in batch.documents),
        lost_id=any(document.lost_id for document in batch.documents),
        failures=list(batch.bad),
        notes=found.notes,
        ended=found.ended,
        problem=found.problem,
    )
