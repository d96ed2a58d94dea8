"""A driver of Ray for tests: a job over files, with a slow toy model and small batches.

python tests/ray_driver.py URL INDEX MODEL SECONDS FILE...
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from latent_ingest.connector import Connection, IngestJob, LatentEncoder, OnRay
from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.indexing.on_ray import ingest


def slow_model(folder: str, seconds: float, driver: int) -> LatentEncoder:
    """The model, which takes `seconds` for a batch; a folder that is missing is so in workers."""
    if seconds < 0 and os.getpid() != driver:
        raise ModelError(f"{folder}: no such model folder")
    encoder = LatentEncoder.load(folder, device="cpu", dtype="float32")
    real = encoder.encode

    def encode(*arguments: Any, **named: Any) -> Any:
        time.sleep(max(seconds, 0))
        return real(*arguments, **named)

    encoder.encode = encode  # type: ignore[method-assign]
    return encoder


def main() -> None:
    url, index, model, seconds, *files = sys.argv[1:]
    ingest.CHARACTERS_PER_BUDGET_TOKEN = 1  # 4,096 characters a batch
    connection = Connection(url)
    job = IngestJob(
        connection.open(),
        files,
        index=index,
        encoder=partial(slow_model, model, float(seconds), os.getpid()),
        on=OnRay(connection, encoders=2),
        questions=False,
    )
    progress = Path("progress")
    result = job.run(lambda report, position: progress.write_text(str(report.lines)) and None)
    print(json.dumps(asdict(result.report)))


if __name__ == "__main__":
    main()
