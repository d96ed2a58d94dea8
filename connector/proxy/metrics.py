"""Metrics for Prometheus, and the access log."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from latent_ingest.connector.proxy.messages import Exchange

access_log = logging.getLogger("latent_ingest.access")

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# Beginnings of reasons why a search is passed through.
REASONS = (
    "X-Latent: off",
    "the body is not JSON",
    "the body is too long",
    "no text clause that scores",
    "no index of latent terms",
)

# Variable of prometheus-client: the folder by which several workers share their metrics. It has to
# be set before the client is imported.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of one proxy, or of all workers together."""

    def __init__(self) -> None:
        self._folder = os.environ.get(FOLDER)
        if self._folder:
            forget_dead(self._folder)
        self.registry = CollectorRegistry()
        of: Any = {"registry": self.registry, "namespace": "latent_proxy"}
        self.requests = Counter(
            "requests", "Requests by kind, what was done, and status.",
            ("kind", "outcome", "status"), **of,
        )  # fmt: skip
        self.left_alone = Counter(
            "left_alone", "Searches that were passed through, by reason.", ("reason",), **of
        )
        self.seconds = Histogram(
            "request_seconds", "Seconds from request to answer, by kind.",
            ("kind",), buckets=SECONDS, **of,
        )  # fmt: skip
        self.engine = Histogram(
            "engine_seconds", "Seconds until the engine began to answer.", buckets=SECONDS, **of
        )
        self.rewriting = Histogram(
            "rewriting_seconds", "Seconds to rewrite a body, with encoding.", buckets=SECONDS, **of
        )
        self.encoding = Histogram(
            "encoding_seconds", "Seconds of a batch in the model, by what is encoded.",
            ("what",), buckets=SECONDS, **of,
        )  # fmt: skip
        self.batch = Histogram(
            "batch_size", "Texts that were encoded together.", ("what",), buckets=SIZES, **of
        )
        self.lookups = Counter(
            "index_lookups", "Indices looked up, by whether they were cached.", ("cached",), **of
        )
        self.documents = Counter(
            "documents", "Documents written, by what they got.", ("outcome",), **of
        )
        self.in_progress = Gauge(
            "requests_in_progress", "Requests in progress.", multiprocess_mode="livesum", **of
        )
        self.unreachable = Counter(
            "engine_unreachable", "Requests that no node of the engine answered.", **of
        )

    def leave_alone(self, reason: str) -> None:
        """Count a search that is passed through."""
        self.left_alone.labels(reason_of(reason)).inc()

    def lookup(self, cached: bool) -> None:
        """Count an index that was looked up."""
        self.lookups.labels("yes" if cached else "no").inc()

    def encoded(self, what: str, items: int, seconds: float) -> None:
        """Count a batch."""
        self.encoding.labels(what).observe(seconds)
        self.batch.labels(what).observe(items)

    def text(self) -> bytes:
        """Return all metrics, as Prometheus reads them."""
        if not self._folder:
            return generate_latest(self.registry)
        every = CollectorRegistry()
        MultiProcessCollector(every, self._folder)  # type: ignore[no-untyped-call]
        return generate_latest(every)

    def finished(self, exchange: Exchange) -> None:
        """Count a request, and write its line of the access log."""
        seconds = time.monotonic() - exchange.started
        self.requests.labels(exchange.kind, exchange.outcome, str(exchange.status)).inc()
        self.seconds.labels(exchange.kind).observe(seconds)
        if access_log.isEnabledFor(logging.INFO):
            access_log.info("%s", log_line(exchange, seconds))


def reason_of(reason: str) -> str:
    """Return a reason without what differs between requests, so that metrics have few labels."""
    for start in REASONS:
        if reason.startswith(start):
            return start
    return "the index" if "index" in reason else "the body"


def forget_dead(folder: str) -> None:
    """Drop what workers that died had in progress; the one that takes their place does so."""
    for path in Path(folder).glob("gauge_live*.db"):
        worker = int(path.stem.rpartition("_")[2])
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            mark_process_dead(worker, folder)  # type: ignore[no-untyped-call]


def write_access_log(wanted: bool) -> None:
    """Write the access log to standard output in this process, or not."""
    access_log.setLevel(logging.INFO if wanted else logging.ERROR)
    if wanted and not access_log.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        access_log.addHandler(handler)
        access_log.propagate = False


def log_line(exchange: Exchange, seconds: float) -> str:
    """Return the line of a request. It holds no query and no header that could be a secret."""
    client = exchange.scope.get("client")
    line = {
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "client": client[0] if client else None,
        "method": exchange.method,
        "path": exchange.path,
        "status": exchange.status,
        "seconds": round(seconds, 4),
        "bytes": exchange.sent,
        "kind": exchange.kind,
        "outcome": exchange.outcome,
        "id": (exchange.header(b"x-opaque-id") or b"").decode("latin-1") or None,
    }
    return json.dumps(line)
