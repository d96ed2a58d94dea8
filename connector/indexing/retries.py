"""The retries of bulk requests, for any other request that may be sent twice."""

from __future__ import annotations

import tenacity

from latent_ingest.connector.indexing import bulk


def retrying() -> tenacity.Retrying:
    """Tries what it is called with, or its attempts, as often and as far apart as `bulk.send`."""
    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(bulk.ATTEMPTS),
        wait=bulk.WAIT,
        retry=tenacity.retry_if_exception(bulk.passes),
        reraise=True,
    )
