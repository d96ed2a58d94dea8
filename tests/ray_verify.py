"""A driver of Ray for tests: a comparison of files with an index, whose tasks are held.

python tests/ray_verify.py URL INDEX HOLD FILE...

While there is a folder HOLD/TASK (an absolute path), such as HOLD/compared, each process that does
this task waits in the middle of it, and leaves its number there as the name of a file.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opensearchpy import OpenSearch

from latent_ingest.connector import Connection, OnRay
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.indexing.on_ray.verify import RayVerification

# Task → its request that waits. The first of each asks for the mapping.
HELD = {"last_lines": 1, "compared": 3, "extra": 2}


@dataclass(frozen=True)
class HeldConnection(Connection):
    """A connection whose requests wait in workers."""

    hold: str = ""

    def open(self, **named: Any) -> OpenSearch:
        client = Connection.open(self, **named)
        real, counts = client.transport.perform_request, Counter[str]()

        def perform_request(*arguments: Any, **options: Any) -> Any:
            import ray

            context = ray.get_runtime_context()
            task, number = context.get_task_name() or "", context.get_task_id() or ""
            counts[number] += 1
            folder = Path(self.hold, task)
            if task in HELD and counts[number] >= HELD[task] and folder.exists():
                (folder / str(os.getpid())).touch()
                while folder.exists():
                    time.sleep(0.05)
            return real(*arguments, **options)

        client.transport.perform_request = perform_request
        return client


def main() -> None:
    from ray_verify import HeldConnection as Held  # workers import it by this name

    url, index, hold, *files = sys.argv[1:]
    on = OnRay(Held(url, hold=hold))
    compared = RayVerification(Index(Connection(url).open(), index), files, on=on)
    print(json.dumps(asdict(compared.run())))


if __name__ == "__main__":
    main()
