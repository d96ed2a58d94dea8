"""Metrics of a watched index for Prometheus, at an HTTP port."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.indexing.outcomes import WatchReport

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

OUTCOMES = ("encoded", "up_to_date", "deleted", "failed", "conflicts")


class WatchMetrics:
    """The report of a watching job as metrics; read whenever they are asked for."""

    def __init__(self, report: WatchReport) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        """The metrics, as prometheus_client asks for them."""
        from prometheus_client.metrics_core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            InfoMetricFamily,
        )

        report = self._report
        for name, what, value in (
            ("writes_behind", "Writes to the index that were not read yet.", report.writes_behind),
            ("seconds_behind", "Age of the oldest of them.", report.seconds_behind),
            ("answered_timestamp_seconds", "When the engine last answered.", report.answered),
        ):
            if report.answered:  # nothing is known before
                yield GaugeMetricFamily(f"latent_watch_{name}", what, value=value)
        documents = CounterMetricFamily(
            "latent_watch_documents", "Documents read, by what became of them.", labels=["outcome"]
        )
        for outcome in OUTCOMES:
            documents.add_metric([outcome], getattr(report, outcome))
        yield documents
        yield CounterMetricFamily("latent_watch_tokens", "Tokens encoded.", value=report.tokens)
        yield CounterMetricFamily(
            "latent_watch_restarted_shards", "Shards read from their start.", value=report.restarted
        )
        yield InfoMetricFamily("latent_watch", "What is watched.", value={"index": report.index})


def serve_metrics(report: WatchReport, host: str, port: int) -> None:
    """Serve the metrics of a report from a thread, until the process ends.

    Raises InputError if prometheus-client is missing, or the port cannot be listened at.
    """
    if importlib.util.find_spec("prometheus_client") is None:
        raise InputError(
            "--metrics-port needs prometheus_client; pip install 'latent-ingest[serve]' installs it"
        )
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(WatchMetrics(report))
    try:
        start_http_server(port, host, registry=registry)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"metrics cannot be served at {host}:{port}: {reason}") from error
