"""Ingest on Ray against the plain command, and two encoders against one, in the same run.

    OMP_NUM_THREADS=1 python benchmarks/on_ray.py scifact/corpus.jsonl.gz --documents 720

Each way indexes the same documents, one after the other, in rounds; each encoder has one thread. It
indexes a third of them, then all, and speed is the further tokens by the further time, so that it
does not count the start of Ray, of its encoders and of its writers. `start` is the time until the
first batch of all documents is done. Batches are small, so that there are many. Needs an engine.
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
from command import Benchmark

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
    """Index the files in this process; tokens, and seconds until the first batch and until all."""
    ingest.CHARACTERS_PER_BUDGET_TOKEN = ray_ingest.CHARACTERS_PER_BUDGET_TOKEN = CHARACTERS
    connection = Connection(default_url())
    client = connection.open()
    client.indices.delete(index=INDEX, ignore_unavailable=True)
    done: list[float] = []
    started = time.monotonic()

    def note(report: ingest.IngestReport, _: int) -> None:
        if report.tokens:
            done.append(time.monotonic() - started)

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
    return {"tokens": report.tokens, "start": done[0], "all": done[-1]}


def measured(files: list[list[bytes]], encoders: int) -> dict[str, float]:
    """Index some files in a process of its own; see `measure`."""
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{number}.jsonl" for number in range(len(files))]
        for name, lines in zip(names, files, strict=True):
            Path(folder, name).write_bytes(b"".join(lines))
        done = subprocess.run(
            [sys.executable, str(Path(__file__).resolve()), "measure", str(encoders), *names],
            cwd=folder,
            env={**os.environ, "RAY_ADDRESS": "local"},
            stdout=subprocess.PIPE,
            check=True,
        )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    click.echo(f"{encoders or 'no'} encoders of Ray: {found}", err=True)
    return found


@click.command(cls=Benchmark)
@click.argument("corpus", type=click.Path(exists=True, path_type=Path))
@click.option("--documents", default=720)
@click.option("--rounds", default=1)
def main(corpus: Path, documents: int, rounds: int) -> None:
    """Print the speed of ingest on Ray as ratios."""
    found: dict[int, list[dict[str, float]]] = {way: [] for way in WAYS}
    with CorpusFile(corpus) as file:
        lines = [line.content + b"\n" for line in islice(file, documents)]
    for way in [way for _ in range(rounds) for way in WAYS]:
        few, every = (measured([part[n::4] for n in range(4)], way) for part in (lines[::3], lines))
        speed = (every["tokens"] - few["tokens"]) / (every["all"] - few["all"])
        found[way].append({"start": every["start"], "speed": speed})
    speeds = {way: statistics.median(one["speed"] for one in found[way]) for way in WAYS}
    starts = {way: statistics.median(one["start"] for one in found[way]) for way in WAYS}
    click.echo("| | speed, x plain | speed, x one encoder | start, x plain |\n|---|---|---|---|")
    for way in WAYS:
        name = f"Ray, {way} encoder{'s' if way > 1 else ''}" if way else "plain command"
        ratios = speeds[way] / speeds[0], speeds[way] / speeds[1], starts[way] / starts[0]
        click.echo(f"| {name} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(sys.argv[3:], int(sys.argv[2]))))
    else:
        main()
