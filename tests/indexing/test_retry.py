"""Waiting for an engine: what is said meanwhile."""

from __future__ import annotations

import pytest
import tenacity
from opensearchpy import OpenSearch

from latent_ingest.connector.engine import retry
from latent_ingest.connector.engine.retry import Retry, TryAgain
from latent_ingest.connector.errors import EngineError


@pytest.mark.parametrize(("again", "lines"), [(60.0, 1), (0.0, 5)])
def test_an_engine_that_is_busy_now_and_then_is_not_said_each_time(
    again: float, lines: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retry, "WAIT", tenacity.wait_none())
    monkeypatch.setattr(retry, "SAY_AGAIN", again)
    patient = Retry(OpenSearch())
    calls = 0

    def busy_every_other_time() -> None:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise TryAgain("busy")

    for _ in range(5):
        patient(busy_every_other_time)
    assert caplog.messages == ["busy; trying again for up to 10 min"] * lines


def test_what_is_asked_in_words_says_how_long_it_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where what is called has put it in words itself."""
    monkeypatch.setattr(retry, "WAIT", tenacity.wait_none())

    def call(name: str) -> None:
        raise EngineError(f"{name} is busy") from TryAgain()

    with pytest.raises(EngineError, match="papers is busy; gave up after 0 s"):
        Retry(OpenSearch(), give_up_after=0).ask(call, "papers")
