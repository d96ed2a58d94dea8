"""Passes on Ray: when a run ends, and what it says. Ray itself is in engine/test_ray.py."""

from __future__ import annotations

import pytest

from latent_ingest.connector.indexing.on_ray.passes import Passes


def test_a_run_ends_after_passes_in_a_row_without_progress(
    caplog: pytest.LogCaptureFixture,
) -> None:
    passes = Passes(done=10)
    lost = RuntimeError("a worker\n  died")
    assert [passes.why_end(lost, done) for done in (10, 10, 11, 11, 11)] == [None] * 5
    assert (
        caplog.messages == ["Ray lost a part of the work, which is done again: a worker died"] * 5
    )
    assert passes.why_end(None, 11) == (
        "Ray could not do all: results were lost; the same command resumes"
    )


def test_a_worker_without_this_package_ends_the_run_at_once() -> None:
    error = ModuleNotFoundError("No module named 'latent_ingest'")
    assert Passes().why_end(error, 5) == (
        "a worker of Ray lacks latent-ingest; install it there, too"
    )
