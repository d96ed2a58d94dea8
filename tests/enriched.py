"""Runs that enrich the index of `shop`."""

from __future__ import annotations

from collections.abc import Callable

from latent_ingest.connector.indexing.outcomes import EnrichReport

FIELDS = {"text_fields": ("title", "body")}

Run = Callable[..., EnrichReport]


def counts(report: EnrichReport) -> tuple[int, ...]:
    ended = report.up_to_date + report.encoded + report.deleted + report.failed
    assert report.read == ended + report.left
    return report.read, report.up_to_date, report.encoded, report.failed, report.left
