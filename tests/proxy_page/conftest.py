"""The search page of a proxy in front of a real engine, with documents that mean harm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, browsing
from indexed import indexed
from opensearchpy import OpenSearch
from proxy.conftest import (  # noqa: F401
    Running,
    client,
    opensearch_url,
    proxy,
    remembered_encodings,
    serve,
    without_question_tables,
)

from latent_ingest.connector.encoding.encoder import LatentEncoder

QUESTION = "find files whose names look like a pattern"

SCRIPT = "<script>document.title='owned'</script> match file names by a pattern"
IMAGE = (
    "<img src=x onerror=\"document.body.textContent='owned'\"> A pattern of file names & more. "
    "</p></main><em>not a mark</em> {{7*7}} ${alert(1)}"
)
BIDI = "\u202egnitset rof\u202c pattern \u2067files \u202e"
HUGE = 5_000_000
HOSTILE = [
    {"_id": "<b>evil</b>", "title": SCRIPT, "text": IMAGE, "year": 2024, "tags": ["<i>x</i>"]},
    {"_id": "bidi", "title": BIDI, "text": "\u202efile names that match a pattern \u202d\u2066 ok"},
    {"_id": "half", "title": "A pattern of files \ud83d", "text": "half \udca9 of a file name"},
    {"_id": "long", "title": "x" * 3000, "text": "A pattern of file names " * 400, "year": 1999},
]


@pytest.fixture(scope="module")
def papers(
    client: OpenSearch,  # noqa: F811
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
) -> Iterator[str]:
    """An index of docstrings and hostile documents, one of them with a field of 5 MB."""
    plain = [{**row, "year": 2000 + place} for place, row in enumerate(documents[:30])]
    with indexed(client, encoder, [*plain, *HOSTILE[:2], HOSTILE[3]]) as name:
        # Their latent terms are those of another document: encoding 5 MB takes minutes.
        terms = client.get(index=name, id="bidi")["_source"]["latent"]
        text = ("Files whose names look like a pattern. " + "lorem ipsum dolor " * 300_000)[:HUGE]
        huge = {"title": "A huge document on file name patterns", "text": text, "latent": terms}
        client.index(index=name, id="huge", body=huge, refresh=True)
        half = {**HOSTILE[2], "latent": terms}
        raw = json.dumps({field: value for field, value in half.items() if field != "_id"})
        client.transport.perform_request("PUT", f"/{name}/_doc/half?refresh=true", body=raw)
        yield name


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser") / "profile") as one:
        yield one


def asking(index: str, **more: Any) -> dict[str, Any]:
    """What the page sends for the question."""
    return {"index": index, "question": QUESTION, **more}


def ids(column: dict[str, Any]) -> list[str]:
    return [hit["id"] for hit in column["hits"]]


def picture(browser: Browser, name: str) -> Path:
    """Save a picture in the test's folder, to be looked at."""
    path = Path(name)
    browser.picture(path)
    return path
