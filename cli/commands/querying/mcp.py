"""latent-ingest mcp: a server of the Model Context Protocol."""

from __future__ import annotations

import click

from latent_ingest.cli import options
from latent_ingest.cli.connection import connection_options
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.query_encoder import QueryEncoder


@click.command(
    epilog="""\b
Examples:
  latent-ingest mcp --index papers
  latent-ingest mcp --index papers --questions table
  latent-ingest mcp --index papers --url https://search:9200 --api-key-file key
"""
)
@options.index
@options.form
@click.option(
    "--text-field",
    metavar="NAME",
    help="Field that holds the text of a document.  [default: the last text field of the index]",
)
@connection_options
@options.model
@options.questions
def mcp(
    index: str,
    form: str,
    text_field: str | None,
    connection: Connection,
    model: options.ChosenModel,
    questions: str,
) -> None:
    """Serve searches of an index to assistants, by the Model Context Protocol.

    An assistant starts this command and asks it by standard input and output. Its tools only read:
    search finds documents by meaning, explain says why a document was found, read gives a whole
    document. The model is loaded by the first search that needs it.
    """
    try:
        from latent_ingest.connector.frameworks.mcp import server
    except ImportError as error:
        raise InputError(str(error)) from error
    from latent_ingest.connector.frameworks.store import LatentStore

    queries = QueryEncoder(model.folder, device=model.device, dtype=model.dtype)
    client = connection.open()
    store = LatentStore(index, client, None, queries, form, text_field, questions=questions)
    server(store).run("stdio")
