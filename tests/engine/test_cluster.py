"""A cluster of three nodes, of which one goes away during ingest and comes back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import tenacity
from cluster import Cluster
from lines import adds_up

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine import retry
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.indexing import sender
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.connector.indexing.verify import Verification

DOCUMENTS = 300


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.mark.slow
@pytest.mark.parametrize("which", ["primary", "replica", "asked"])
def test_a_node_goes_away_and_comes_back(
    which: str,
    cluster: Cluster,
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one that holds the primary copy, or the replica, or that requests are sent to."""
    monkeypatch.setattr(sender, "MAX_DOCUMENTS", 10)
    monkeypatch.setattr(retry, "WAIT", tenacity.wait_random(0, 1))
    rows = [
        {"_id": str(number), "text": documents[number % len(documents)]["text"][:60]}
        for number in range(DOCUMENTS)
    ]
    Path("c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    index = f"goes-away-{which}"
    meta = open_index(cluster.client("n0"), index, encoder, {})
    cluster.client("n0").indices.put_settings(index=index, body={"number_of_replicas": 1})
    cluster.wait()

    copies = cluster.copies(index)
    primary = next(name for name, first in copies.items() if first)
    replica = next(name for name, first in copies.items() if not first)
    other = next(name for name in cluster.urls if name not in copies)
    victim = {"primary": primary, "replica": replica, "asked": other}[which]
    client = cluster.client(other)
    killed = threading.Event()

    def kill(report: IngestReport, _position: int) -> None:
        if report.lines > DOCUMENTS // 4 and not killed.is_set():
            killed.set()
            cluster.kill(victim)
            threading.Timer(3, cluster.start, [victim]).start()

    report = Ingest(client, index, encoder, meta, "c.jsonl").run(kill)
    assert killed.is_set()
    assert adds_up(report)
    assert (report.stopped, report.indexed, report.failed) == (None, DOCUMENTS, 0)

    cluster.wait()
    verified = Verification(Index(client, index), "c.jsonl").run()
    assert (verified.same, verified.different.count, verified.extra.count) == (DOCUMENTS, 0, 0)
    client.indices.refresh(index=index)
    for name in cluster.copies(index):
        found = client.count(index=index, params={"preference": f"_only_nodes:{name}"})
        assert found["count"] == DOCUMENTS, name
