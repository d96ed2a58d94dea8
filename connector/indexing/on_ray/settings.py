"""How a run uses Ray, and the start of Ray. Nothing here imports Ray before it is used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.indexing.batches import CHARACTERS_PER_BUDGET_TOKEN
from latent_ingest.connector.indexing.on_ray.passes import reason_of

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

    from latent_ingest.connector.encoding.encoder import LatentEncoder

MISSING = "--on ray needs Ray: pip install 'latent-ingest[ray]'"

# Shares of a CPU core that Ray counts for a task that reads or writes, and for an encoder; so as
# many encoders as there are cores leave room for the others. Limits of Ray's bookkeeping alone.
IO_CPUS = 0.05
ENCODER_CPUS = 0.8

# Tokens of a GPU's batch; see `Backbone`.
GPU_BUDGET = 65536


@dataclass(frozen=True)
class OnRay:
    """Run an ingest, an enrichment or a comparison on Ray.

        from latent_ingest.connector import Connection, IngestJob, LatentEncoder, OnRay

        connection = Connection("http://engine:9200")
        on = OnRay(connection, encoders=8, gpus_per_encoder=1)
        IngestJob(connection.open(), "corpus/", index="papers", encoder=LatentEncoder.load, on=on)

    Raises:
        InputError: a number is out of range.
    """

    connection: Connection
    """How the workers reach the engine: its URL must be right on every machine of the cluster."""
    encoders: int | None = None
    """Processes that encode, each with the model; by default as many as the GPUs hold, or else the
    CPU cores."""
    gpus_per_encoder: float | None = None
    """GPUs of an encoder, or a share of one; by default 1 if the cluster has GPUs, else 0."""

    def __post_init__(self) -> None:
        if self.encoders is not None and self.encoders < 1:
            raise InputError(f"{self.encoders} encoders are none; give 1 or more")
        if self.gpus_per_encoder is not None and self.gpus_per_encoder < 0:
            raise InputError(f"{self.gpus_per_encoder} GPUs per encoder; give 0 or more")


@dataclass(frozen=True, slots=True)
class Pool:
    """The encoders of a cluster."""

    encoders: int
    gpus: float
    """GPUs of each."""

    def characters(self, encoder: LatentEncoder) -> int:
        """Characters of text in a batch."""
        budget = encoder.backbone.token_budget
        return CHARACTERS_PER_BUDGET_TOKEN * (max(budget, GPU_BUDGET) if self.gpus else budget)


@cache
def client_of(connection: Connection) -> OpenSearch:
    """The client of a worker's process."""
    return connection.open()


@contextmanager
def joined(on: OnRay) -> Iterator[Pool]:
    """A context with Ray: the cluster of RAY_ADDRESS or of this machine, or one started here.

    A process that has joined Ray before stays so afterwards. Raises InputError if Ray is not
    installed, the cluster cannot be joined, or is too small.
    """
    # Lines of Ray's own processes, which say what it does about a lost one.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(MISSING) from error
    before = ray.is_initialized()
    if not before:
        join(ray)
    try:
        yield pool_of(on, ray.cluster_resources())
    finally:
        if not before:
            ray.shutdown()


def pool_of(on: OnRay, found: dict[str, float]) -> Pool:
    """The encoders, by the resources of the cluster; raises InputError if these are too few."""
    cpus, gpus = float(found.get("CPU", 0)), float(found.get("GPU", 0))
    each = on.gpus_per_encoder
    if each is None:
        each = 1.0 if gpus else 0.0
    if each > gpus:
        raise InputError(f"an encoder needs {each:g} GPUs, and the cluster of Ray has {gpus:g}")
    room = int(gpus / each) if each else max(1, int(cpus))
    if on.encoders and on.encoders > room:
        has = f"{gpus:g} GPUs, for {room} encoders with {each:g} each" if each else f"{room} cores"
        raise InputError(
            f"{on.encoders} encoders are too many for the cluster of Ray, which has {has}"
        )
    return Pool(on.encoders or room, each)


def join(ray: Any) -> None:
    """Connect this process to Ray; raises InputError."""
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address and address != "local":
            ray.init(**quiet)
            return
        if not address:
            try:
                ray.init("auto", **quiet)
                return
            except ConnectionError:  # no cluster on this machine
                pass
        ray.init("local", include_dashboard=False, **quiet)
    except Exception as error:  # Ray's own have no class in common
        where = f"the cluster of Ray at {address}" if address else "Ray"
        fix = "use the versions of the cluster" if "ersion" in str(error) else "check RAY_ADDRESS"
        raise InputError(f"{where} cannot be used: {reason_of(error)}; {fix}") from error
