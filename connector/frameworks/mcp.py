"""A server of the Model Context Protocol: assistants search an index (needs the extra `mcp`).

Its tools only read: `search`, `explain` and `read`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from inspect import getdoc
from typing import Any, TypeVar

from latent_ingest.connector.encoding.model_folder import model_path
from latent_ingest.connector.errors import LatentIngestError, ModelError
from latent_ingest.connector.frameworks.requirement import require
from latent_ingest.connector.frameworks.store import LatentStore, Passage
from latent_ingest.connector.querying.indices.asked_indices import engine_id
from latent_ingest.connector.questions.question_table import QuestionTable
from latent_ingest.connector.terms import term

require("mcp", "mcp", "2", "3")

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

# Characters of a hit's text; `read` gives the whole text. Ten hits of 600 are some 1,500 tokens.
EXCERPT = 600

# Most hits of a search, and most terms of an explanation.
MOST_HITS = 50
MOST_TERMS = 15

READ_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

Result = TypeVar("Result")


def server(store: LatentStore) -> MCPServer:
    """Make the server of an index.

    The engine is first asked when a tool is called. What goes wrong there is the tool's error, in
    one line.
    """
    made = MCPServer(
        "latent-ingest",
        version=version("latent-ingest"),
        instructions=f"Searches the documents of the index {store.index} by meaning.",
        log_level="WARNING",
    )

    async def search(
        question: str, size: int = 10, filter: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Find documents by meaning. Ask in plain words; other words than the documents' will do.

        Returns hits, the best first: id, score, the beginning of the text, and other fields.

        Args:
            question: what to find, in plain words.
            size: number of hits, at most 50.
            filter: a clause of the OpenSearch query language that hits must match, such as
                {"term": {"year": 2024}}.
        """
        filters = [filter] if filter else []
        found = await in_thread(store.search, question, min(size, MOST_HITS), filters)
        return {"hits": [shown(passage, EXCERPT) for passage in found]}

    async def explain(question: str, id: str) -> dict[str, Any]:
        """Say why a question finds a document: what each word and each meaning adds to its score.

        Args:
            question: in plain words, as it was searched for.
            id: id of the document, from a hit.
        """
        return await in_thread(explained, store, question, id)

    async def read(id: str) -> dict[str, Any]:
        """Read a whole document.

        Args:
            id: id of the document, from a hit.
        """
        passage = await in_thread(store.read, id)
        return {name: value for name, value in shown(passage).items() if name != "score"}

    for tool in (search, explain, read):
        made.add_tool(tool, description=getdoc(tool), annotations=READ_ONLY)
    return made


async def in_thread(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a thread; an error of this package becomes the tool's error."""
    try:
        return await anyio.to_thread.run_sync(partial(function, *arguments))
    except LatentIngestError as error:
        raise ToolError(" ".join(str(error).split())) from error


def explained(store: LatentStore, question: str, identifier: str) -> dict[str, Any]:
    """The score of a document and the terms that add most to it."""
    from latent_ingest.connector.inspection.explain import explain, explain_request, find_hit
    from latent_ingest.connector.inspection.labels import read_labels

    rewriter = store.searcher.rewriter
    made = engine_id(store.client, store.index, identifier)
    if rewriter.table:  # without the model, which tells what words of the question fire a latent
        body = rewriter.rewrite(question, form=store.form)
        hit = find_hit(store.client, str(rewriter.index), made)
        named = {term(latent): label for latent, label in labels_without_model(store).items()}
        found = explain_request(store.client, hit, body, latent_field=rewriter.field, labels=named)
    else:
        encoder, labels = rewriter.encoder, {}
        if encoder.folder:
            labels = read_labels(encoder.folder, encoder.fingerprint.autoencoder)
        found = explain(store.client, rewriter, question, made, labels=labels, form=store.form)
    return {
        "id": identifier,
        "matched": found.matched,
        "score": found.score,
        "terms": [
            {"kind": part.kind, "term": part.term, "means": part.label, "share": part.share}
            for part in found.contributions[:MOST_TERMS]
        ],
        "further_terms": max(0, len(found.contributions) - MOST_TERMS),
    }


def labels_without_model(store: LatentStore) -> dict[int, str]:
    """The labels in the model folder, if that model made the index; else none."""
    from latent_ingest.connector.inspection.labels import read_labels

    try:
        table = QuestionTable.load(store.queries.folder)
    except ModelError:  # the table of the index serves without a folder
        return {}
    if table.fingerprint.digest != store.searcher.rewriter.fingerprint:
        return {}
    return read_labels(model_path(store.queries.folder), table.fingerprint.autoencoder)


def shown(passage: Passage, most: int | None = None) -> dict[str, Any]:
    """A passage as JSON, with at most so many characters of its text."""
    text = passage.text if most is None or len(passage.text) <= most else passage.text[:most] + "…"
    return {"id": passage.id, "score": passage.score, "text": text, "fields": passage.metadata}
