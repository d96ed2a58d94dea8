"""A driver of Ray for tests: a job over files, with a slow toy model and small batches.

python tests/ray_driver.py URL INDEX MODEL SECONDS HOLD BATCHES FILE...

Without a file, the index is enriched.

While there is a file HOLD (an absolute path), each process that encodes does only so many BATCHES,
then waits in the next one. So a test can kill processes that surely have something to do.
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

from latent_ingest.connector import Connection, EnrichJob, IngestJob, LatentEncoder, OnRay
from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.indexing.on_ray import enrich, settings


def slow_model(folder: str, seconds: float, hold: str, batches: int, driver: int) -> LatentEncoder:
    """The model, which takes `seconds` for a batch, and is held after some batches.

    With a negative `seconds`, workers lack the model.
    """
    if seconds < 0 and os.getpid() != driver:
        raise ModelError(f"{folder}: no such model folder")
    encoder = LatentEncoder.load(folder, device="cpu", dtype="float32")
    real, left = encoder.encode, batches

    def encode(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        time.sleep(max(seconds, 0))
        while left == 0 and Path(hold).exists():
            time.sleep(0.05)
        left = max(0, left - 1)
        return real(*arguments, **named)

    encoder.encode = encode  # type: ignore[method-assign]
    return encoder


def main() -> None:
    url, index, model, seconds, hold, batches, *files = sys.argv[1:]
    loading = partial(slow_model, model, float(seconds), hold, int(batches), os.getpid())
    settings.CHARACTERS_PER_BUDGET_TOKEN = 1  # 4,096 characters a batch
    connection = Connection(url)
    progress = Path("progress")
    if not files:
        enrich.DOCUMENTS = 200
        enriching = EnrichJob(
            connection.open(),
            index=index,
            encoder=loading,
            on=OnRay(connection, encoders=2),
            text_fields=["text"],
            questions=False,
        )
        ended = enriching.run(lambda report, of: progress.write_text(str(report.encoded)) and None)
        print(json.dumps(asdict(ended.report)))
        return
    job = IngestJob(
        connection.open(),
        files,
        index=index,
        encoder=loading,
        on=OnRay(connection, encoders=2),
        questions=False,
    )
    result = job.run(lambda report, position: progress.write_text(str(report.lines)) and None)
    print(json.dumps(asdict(result.report)))


if __name__ == "__main__":
    main()
