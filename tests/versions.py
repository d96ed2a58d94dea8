"""Versions of an index behind an alias, built by the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from opensearchpy import OpenSearch

from latent_ingest.connector.index.guard import Loading
from latent_ingest.connector.index.listing import list_indices
from latent_ingest.connector.indexing import batches
from latent_ingest.connector.indexing.jobs.ingest_job import IngestJob
from latent_ingest.connector.indexing.jobs.job import JobResult
from latent_ingest.connector.indexing.journal import Journal
from latent_ingest.connector.indexing.outcomes import IngestReport

ROWS = [
    {"_id": "bees", "text": "Honey insects dance to tell their hive where nectar is."},
    {"_id": "loans", "text": "The bank raised its interest rate on mortgages by half a percent."},
    {"_id": "rain", "text": "Heavy precipitation flooded the valley after the storm."},
    {"_id": "chess", "text": "She sacrificed her queen and gave checkmate two moves later."},
    {"_id": "bread", "text": "Knead the dough, let it rise, and bake until the crust is brown."},
]

Run = Callable[..., Result]


def write(rows: list[Any], name: str = "c.jsonl") -> str:
    Path(name).write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    )
    return name


def the_journal() -> Journal:
    """That the commands use."""
    return Journal(Path(os.environ["LATENT_INGEST_JOURNAL"]))


def pointed_at(client: OpenSearch, alias: str) -> list[str]:
    return [index.name for index in list_indices(client, alias)]


def settings_of(client: OpenSearch, index: str) -> dict[str, Any]:
    ((_, content),) = client.indices.get_settings(index=index).items()
    found: dict[str, Any] = content["settings"]["index"]
    return found


def error(result: Result) -> str:
    """The line that says what was wrong."""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    return line


@contextmanager
def within_the_run(act: Callable[[IngestJob], JobResult[IngestReport]]) -> Iterator[None]:
    """Within it, the command's job is run by `act`, one line a batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "MAX_BATCH_LINES", 1)
        patch.setattr("latent_ingest.cli.jobs.run_with_bar", act)
        yield


def interrupted(run: Run, *arguments: object, lines: int = 3) -> Result:
    """The command, interrupted after so many lines; they are done, and those in flight then."""

    def stop(job: IngestJob) -> JobResult[IngestReport]:
        return job.run(lambda report, _: job.stop() if report.lines >= lines else None)

    with within_the_run(stop):
        return run(*arguments, code=130)


def killed(run: Run, *arguments: object) -> None:
    """The command, of which the engine hears no more after some lines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loading, "end", lambda _: None)
        interrupted(run, *arguments)


def built(run: Run, alias: str, *options: object, rows: Sequence[Any] = ROWS) -> str:
    """Build a version; the name of its index."""
    report = json.loads(run(write(rows), "--alias", alias, "--json", *options).stdout)
    assert report["alias_moved"]
    return str(report["index"])
