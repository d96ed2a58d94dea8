"""A cluster of several nodes; each is a process that tests kill and start again."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

from opensearchpy import OpenSearch

from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.engine.local import LocalEngine, answer, die_with_parent

START_SECONDS = 180


class Cluster:
    """Nodes n0, n1, ... on the loopback interface."""

    def __init__(self, folder: Path, nodes: int = 3, **settings: Any) -> None:
        """Start nothing yet; `settings` are further ones of each node, with `_` for a dot."""
        self._folder = folder
        self._settings = {name.replace("_", "."): value for name, value in settings.items()}
        names = [f"n{number}" for number in range(nodes)]
        ports = free_ports(2 * nodes)
        self.urls = {
            name: f"http://127.0.0.1:{port}" for name, port in zip(names, ports, strict=False)
        }
        self._transport = dict(zip(names, ports[nodes:], strict=True))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Cluster:
        for name in self.urls:
            self.start(name)
        self.wait()
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._processes:
            self.kill(name)

    def start(self, name: str) -> None:
        """Start a node on its existing data."""
        settings = {
            "node.name": name,
            "cluster.name": self._folder.name,
            "http.port": self.urls[name].rsplit(":", 1)[1],
            "transport.port": str(self._transport[name]),
            "discovery.type": "zen",
            "discovery.seed_hosts": [f"127.0.0.1:{port}" for port in self._transport.values()],
            "cluster.initial_cluster_manager_nodes": list(self.urls),
            **self._settings,
        }
        command = LocalEngine("opensearch").command("512m", settings)
        # To the kernel, the parent is the thread; others than the main one end before the node.
        bound = sys.platform == "linux" and current_thread() is main_thread()
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "node.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*command, "-basePath", str(folder), "-numOfNode", "1", "-useLogger"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent if bound else None,
            )

    def kill(self, name: str) -> None:
        """Kill a node with SIGKILL."""
        process = self._processes[name]
        process.kill()
        process.wait()

    def wait(self) -> None:
        """Wait until all nodes form one cluster and every shard has all its copies."""
        deadline = time.monotonic() + START_SECONDS
        path = f"/_cluster/health?wait_for_nodes={len(self.urls)}&wait_for_status=green&timeout=2s"
        while time.monotonic() < deadline:
            found = [answer(url + path, 5) for url in self.urls.values()]
            if all(content and not content["timed_out"] for content in found):
                return
            time.sleep(0.25)
        logs = {name: (self._folder / name / "node.log").read_text()[-500:] for name in self.urls}
        raise AssertionError(f"no cluster within {START_SECONDS} s: {logs}")

    def client(self, name: str) -> OpenSearch:
        """A client that sends its requests to this node."""
        return Connection(self.urls[name]).open()

    def copies(self, index: str) -> dict[str, bool]:
        """Nodes that hold the index's one shard → whether it is the primary copy."""
        rows = self.client("n0").cat.shards(index=index, format="json")
        return {row["node"]: row["prirep"] == "p" for row in rows}


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
