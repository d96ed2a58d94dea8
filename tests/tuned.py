"""The command `tune`, and what it may change of an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from opensearchpy import OpenSearch

from latent_ingest.cli.main import cli

HEADER = "query-id\tcorpus-id\tscore\n"


def state(client: OpenSearch, index: str) -> dict[str, Any]:
    """All that tuning may change, without the counter that each opening increases."""
    (content,) = client.indices.get(index=index).values()
    content["settings"]["index"].pop("verified_before_close", None)
    (row,) = client.cat.indices(index=index, format="json", h="status")
    content["mappings"]["_meta"]["latent_ingest"].setdefault("tuning", None)
    return {"status": row["status"], **content}


def call(url: str, folder: Path, index: str, *options: str) -> Result:
    arguments = ["tune", str(folder), "--index", index, "--url", url, "--dtype", "float32"]
    return CliRunner().invoke(cli, [*arguments, *options])


def tuned(url: str, folder: Path, index: str, *options: str) -> dict[str, Any]:
    done = call(url, folder, index, *options, "--json")
    assert done.exit_code == 0, (done.stderr, done.exception)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def k1_of(client: OpenSearch, index: str) -> float:
    settings = client.indices.get_settings(index=index)[index]["settings"]["index"]
    return float(settings["similarity"]["latent_bm25"]["k1"])
