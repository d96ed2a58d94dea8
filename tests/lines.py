"""Lines of corpus files, and the outcome of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from latent_ingest.connector.indexing.outcomes import IngestReport


def line(identifier: str | None, text: str = "a text about bees", **fields: Any) -> str:
    return json.dumps({**({"_id": identifier} if identifier else {}), "text": text, **fields})


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the library logged."""
    return [r.getMessage() for r in caplog.records if r.name.startswith("latent_ingest")]


def adds_up(report: IngestReport) -> bool:
    ends = report.indexed + report.replaced + report.failed + report.not_sent + report.blank
    return report.lines == ends


def failures(report: IngestReport) -> list[dict[str, Any]]:
    assert report.failures_file is not None
    return [json.loads(row) for row in Path(report.failures_file).read_text().splitlines()]
