"""The doctor: all checks of an engine, of an index if one is named, and of a login by trying."""

from __future__ import annotations

from collections.abc import Iterator

from opensearchpy import OpenSearch

from latent_ingest.connector.diagnosis.asked_index import AskedIndex
from latent_ingest.connector.diagnosis.cluster import Cluster
from latent_ingest.connector.diagnosis.finding import Finding, run_checks
from latent_ingest.connector.diagnosis.trial import Trial
from latent_ingest.connector.engine.client import EngineInfo, engine_errors


def examine(
    client: OpenSearch, index: str | None = None, *, model: str | None = None, write: bool = False
) -> Iterator[Finding]:
    """Examine an engine, and an index if one is named.

    Args:
        client: what asks the engine.
        index: name or alias of one index.
        model: folder or name of the model that asks that index; by default minilm-32k.
        write: also try what the login may do, in an index that is made for it and deleted.

    Raises:
        InputError: there is no such index, or the name stands for several.
        EngineError: the engine does not answer, or refuses the login.
    """
    EngineInfo.read(client)
    asked = AskedIndex(client, index, model) if index else None
    with engine_errors(client):
        yield from run_checks(Cluster(client).checks())
        if asked:
            yield from run_checks(asked.checks())
        if write:
            yield from Trial(client).run()
