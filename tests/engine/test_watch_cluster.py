"""enrich --watch on nodes that are killed, and on an index that is restored from a snapshot."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import tenacity
from application import Application
from cluster import Cluster
from lines import logged
from opensearchpy import OpenSearch
from shop import all_done, make
from watching import Watching, run_at_random

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine import retry
from latent_ingest.connector.indexing.watching.job import WatchJob

pytestmark = pytest.mark.slow

FIELDS = ["title", "body"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node, which can keep snapshots."""
    folder = tmp_path_factory.mktemp("node")
    with Cluster(folder, nodes=1, path_repo=[str(folder / "snapshots")]) as node:
        yield node


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "WAIT", tenacity.wait_fixed(0.2))


def rows_of(documents: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [
        {"_id": f"{n}", "title": document["_id"], "body": document["text"][:60], "year": n}
        for n, document in enumerate(documents[:24])
    ]


def application_on(
    client: OpenSearch, index: str, documents: list[dict[str, str]], seed: int
) -> Application:
    """An application whose documents are already in the index."""
    application = Application(client, index, seed, [row["text"] for row in documents])
    for row in rows_of(documents):
        application.rows[row["_id"]] = {k: v for k, v in row.items() if k != "_id"}
        application.since[row["_id"]] = time.monotonic()
    return application


def test_for_minutes_with_kills_of_the_follower_and_of_the_node(
    node: Cluster, documents: list[dict[str, str]], encoder: LatentEncoder, seed: int
) -> None:
    client = node.client("n0")
    make(client, "shop", rows_of(documents))
    application = application_on(client, "shop", documents, seed)
    began = time.monotonic()
    up_since = began
    deaths = [began + 30, began + 65]

    def judged() -> bool:
        """Kill the node at its times; documents are judged once it has been up for a while."""
        nonlocal up_since
        if deaths and time.monotonic() > deaths[0]:
            deaths.pop(0)
            node.kill("n0")
            node.start("n0")
            node.wait()
            up_since = time.monotonic()
        return time.monotonic() - up_since > 15

    kills = run_at_random(
        node.urls["n0"],
        "shop",
        application,
        seed,
        seconds=100,
        kill_every=12,
        pause=0.03,
        each_second=judged,
    )
    assert not deaths
    assert kills >= 4
    assert application.writes > 500
    application.check(encoder)


def test_a_restored_snapshot_is_noticed(
    node: Cluster,
    documents: list[dict[str, str]],
    encoder: LatentEncoder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its documents lack the terms that they got since, and the numbers of writes come again."""
    client = node.client("n0")
    make(client, "restored", rows_of(documents))
    repository = {"type": "fs", "settings": {"location": "here"}}
    client.snapshot.create_repository(repository="kept", body=repository)
    wait = {"wait_for_completion": "true"}
    before = {"repository": "kept", "snapshot": "before", "body": {"indices": "restored"}}

    def watch() -> Watching:
        job = WatchJob(client, "restored", encoder=encoder, text_fields=FIELDS, poll=0.1)
        return Watching(job, lambda report: None)

    watching = watch()
    watching.caught_up()
    watching.stop()
    for n in range(10):  # without terms in the snapshot
        client.index(index="restored", id=f"{n}", body={"title": f"{n}", "body": "replaced"})
    client.snapshot.create(**before, params=wait)
    watching = watch()
    try:
        assert watching.caught_up().encoded == 10
        client.indices.close(index="restored")
        client.snapshot.restore(**before, params=wait)
        watching.until(lambda: watching.report.restarted == 2)
        assert watching.caught_up().encoded == 20
        assert all_done(client, "restored", encoder)
    finally:
        watching.stop()
    assert any("does not continue what was read" in line for line in logged(caplog))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.mark.parametrize("replication", ["DOCUMENT", "SEGMENT"])
def test_the_node_of_a_primary_copy_goes_away_and_comes_back(
    cluster: Cluster,
    documents: list[dict[str, str]],
    encoder: LatentEncoder,
    seed: int,
    replication: str,
) -> None:
    """A replica becomes the primary copy meanwhile."""
    index = f"moving-{replication.lower()}"
    settings = {"index.replication.type": replication, "number_of_replicas": 1}
    client = cluster.client("n0")
    client.indices.create(
        index=index,
        body={
            "settings": {"number_of_shards": 1, **settings},
            "mappings": {"properties": {name: {"type": "text"} for name in FIELDS}},
        },
    )
    cluster.wait()
    copies = cluster.copies(index)
    primary = next(name for name, first in copies.items() if first)
    other = next(name for name in cluster.urls if name != primary)
    client = cluster.client(other)
    application = Application(client, index, seed, [row["text"] for row in documents])
    job = WatchJob(cluster.client(other), index, encoder=encoder, text_fields=FIELDS, poll=0.2)
    watching = Watching(job, lambda report: None)
    try:
        watching.until(lambda: watching.report.answered > 0)
        with application.writing(0.02):
            time.sleep(8)
            cluster.kill(primary)
            threading.Timer(5, cluster.start, [primary]).start()
            time.sleep(15)
        cluster.wait()
        watching.caught_up(60)
    finally:
        watching.stop()
    assert watching.error is None
    assert watching.report.restarted == 0
    application.check(encoder)
    assert application.writes > 200
