"""Ingest on Ray against the plain command, and two encoders against one, in the same run.

    OMP_NUM_THREADS=1 python benchmarks/on_ray.py scifact/corpus.jsonl.gz --documents 480

Each way indexes the same documents, one after the other, in rounds; each encoder has one thread.
Speed is in tokens between the first batch that is done and the last, so that it does not count the
start of Ray and of its encoders, which `start` is. Batches are small, so that there are many. Needs
an engine.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import islice
from pathlib import Path

import click

from latent_ingest.connector import Connection, IngestJob, LatentEncoder, OnRay
from latent_ingest.connector.corpus_file import CorpusFile
from latent_ingest.connector.engine.client import default_url
from latent_ingest.connector.indexing import ingest
from latent_ingest.connector.indexing.on_ray import ingest as ray_ingest

INDEX = "benchmark-ray"

# Characters of a batch for each token of the backbone's budget, here: some 16 documents.
CHARACTERS = 6

# Encoders on Ray; 0 is the plain command.
WAYS = (0, 1, 2)


def measure(files: list[str], encoders: int) -> dict[str, float]:
    """Index the files in this process; returns seconds until the first batch, and tokens/s."""
    ingest.CHARACTERS_PER_BUDGET_TOKEN = ray_ingest.CHARACTERS_PER_BUDGET_TOKEN = CHARACTERS
    connection = Connection(default_url())
    client = connection.open()
    client.indices.delete(index=INDEX, ignore_unavailable=True)
    done: list[tuple[float, int]] = []

    def note(report: ingest.IngestReport, _: int) -> None:
        if not done or report.tokens != done[-1][1]:
            done.append((time.monotonic(), report.tokens))

    started = time.monotonic()
    load = partial(LatentEncoder.load, device="cpu", dtype="float32")
    job = IngestJob(
        client,
        files,
        index=INDEX,
        encoder=load,
        questions=False,
        journal=Path("journal.sqlite"),
        on=OnRay(connection, encoders=encoders) if encoders else None,
    )
    report = job.run(note).report
    assert report.ok, report.stopped
    client.indices.delete(index=INDEX)
    (first, tokens), (last, total) = done[1], done[-1]
    return {"start": first - started, "speed": (total - tokens) / (last - first)}


@click.command()
@click.argument("corpus", type=click.Path(exists=True, path_type=Path))
@click.option("--documents", default=480)
@click.option("--rounds", default=1)
def main(corpus: Path, documents: int, rounds: int) -> None:
    found: dict[int, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder, CorpusFile(corpus) as file:
        lines = [line.content + b"\n" for line in islice(file, documents)]
        names = [f"{number}.jsonl" for number in range(4)]
        for number, name in enumerate(names):
            Path(folder, name).write_bytes(b"".join(lines[number::4]))
        for way in [way for _ in range(rounds) for way in WAYS]:
            command = [sys.executable, str(Path(__file__).resolve()), "measure", str(way), *names]
            done = subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, "RAY_ADDRESS": "local"},
                stdout=subprocess.PIPE,
                check=True,
            )
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
            Path(folder, "journal.sqlite").unlink()
    speeds = {way: statistics.median(one["speed"] for one in found[way]) for way in WAYS}
    click.echo("| | start | tokens/s | x plain | x one encoder |\n|---|---|---|---|---|")
    for way in WAYS:
        name = f"Ray, {way} encoder{'s' if way > 1 else ''}" if way else "plain command"
        start = statistics.median(one["start"] for one in found[way])
        ratios = [f"{speeds[way] / speeds[0]:.2f}", f"{speeds[way] / speeds[1]:.2f}"]
        cells = [name, f"{start:,.0f} s", f"{speeds[way]:,.0f}", *ratios]
        click.echo(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(sys.argv[3:], int(sys.argv[2]))))
    else:
        main()
