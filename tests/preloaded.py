"""Processes that run the command with a model loaded before the fork: many per minute."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["preloaded", "preloaded_model"])


def started(arguments: list[str], output: str, timeout: float) -> ForkServerProcess:
    """Start `latent-ingest ARGUMENTS` in a process, with small batches and short waits.

    Args:
        arguments: arguments of the command.
        output: file for stdout and stderr.
        timeout: seconds per request.
    """
    with pytest.MonkeyPatch.context() as patch:
        # The fork server has its own sys.path and ignores modules that it does not find.
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        forkserver.ensure_running()
    process = CONTEXT.Process(
        target=run, args=(arguments, output, timeout, Path.cwd(), dict(os.environ)), daemon=True
    )
    process.start()
    return process


def run(
    arguments: list[str], output: str, timeout: float, folder: Path, environment: dict[str, str]
) -> None:
    """Run the command in the forked process."""
    import tenacity
    from preloaded_model import ENCODER

    from latent_ingest.cli.main import cli
    from latent_ingest.cli.options import ChosenModel
    from latent_ingest.connector.engine import client, retry
    from latent_ingest.connector.indexing import batches
    from latent_ingest.connector.indexing.jobs.job import Job

    os.chdir(folder)
    os.environ.update(environment)
    ChosenModel.load = lambda _: ENCODER  # type: ignore[method-assign]
    Job._question_table = Job._own_table = lambda *_: None  # type: ignore[method-assign]
    batches.MAX_BATCH_LINES = 8
    retry.WAIT = tenacity.wait_random(0, 0.02)
    client.REQUEST_SECONDS = timeout  # type: ignore[assignment]
    with Path(output).open("w", buffering=1) as file:
        sys.stdout = sys.stderr = file
        cli(arguments)
