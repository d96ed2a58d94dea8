"""latent-ingest serve: a proxy in front of the engine that makes searches semantic."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latent_ingest.cli import options, values
from latent_ingest.cli.connection import connection_options
from latent_ingest.cli.logs import log_to_terminal
from latent_ingest.cli.output import warn
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.proxy.settings import (
    MAX_BODY,
    MAX_CONCURRENT,
    RENEW_SECONDS,
    TIMEOUT,
    Settings,
)

if TYPE_CHECKING:
    from latent_ingest.connector.proxy.app import Proxy

# Modules of the extra `serve`.
NEEDED = ("aiohttp", "prometheus_client", "starlette", "uvicorn", "httptools")

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command(
    epilog="""\b
Examples:
  latent-ingest serve --url https://search:9200 --ca ca.pem --port 9280
  curl -s 'localhost:9280/papers/_search?q=falls+of+old+people'
  latent-ingest serve --questions table --no-documents --read-only --allow-index 'papers*'
"""
)
@click.option("--host", default="127.0.0.1", help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=9280, help="Port to listen at.")
@click.option("--tls-cert", type=values.PEM_FILE, help="Certificate of the proxy, PEM.")
@click.option("--tls-key", type=values.PEM_FILE, help="Key of the certificate, if in its own file.")
@click.option("--node", "nodes", multiple=True, help="URL of a further node; repeatable.")
@connection_options
@click.option(
    "--model",
    "models",
    multiple=True,
    type=values.FOLDER,
    help="Model folder, or the name of one that ships (minilm-32k, mpnet-32k); repeatable, for "
    "indices of several models.  [default: minilm-32k]",
)
@options.compute
@options.questions
@click.option(
    "--documents/--no-documents",
    default=True,
    help="Add latent terms to documents that are written; needs the model.",
)
@click.option(
    "--complete-updates",
    is_flag=True,
    help="Encode a document again of whose text a part was updated. Without it, 'enrich' does.",
)
@click.option(
    "--strict", is_flag=True, help="Refuse searches that cannot be rewritten (status 400)."
)
@click.option("--read-only", is_flag=True, help="Refuse requests that change something.")
@click.option(
    "--allow-index",
    "allow",
    multiple=True,
    metavar="PATTERN",
    help="Serve only indices whose names match; repeatable.",
)
@click.option(
    "--drop-header",
    "drop_headers",
    multiple=True,
    metavar="NAME",
    help="Do not forward this header of requests; repeatable.",
)
@click.option(
    "--login-header",
    "login_headers",
    multiple=True,
    metavar="NAME",
    help="The engine knows who asks by this header, too, such as one with a token; repeatable.",
)
@click.option(
    "--max-body", type=values.BYTES, default=MAX_BODY, help="Bytes of the largest request body."
)
@click.option(
    "--max-concurrent",
    type=click.IntRange(min=1),
    default=MAX_CONCURRENT,
    help="Requests in progress; more get status 503.",
)
@click.option(
    "--timeout",
    type=values.SECONDS,
    default=f"{TIMEOUT:g}s",
    help="Wait so long for the engine, and for a client that sends or takes nothing.",
)
@click.option(
    "--renew",
    type=values.SECONDS,
    default=f"{RENEW_SECONDS:g}s",
    help="Look up indices and aliases again after so long.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    help="Processes that answer, each with its own model.",
)
@click.option("--no-access-log", is_flag=True, help="Print no line of JSON for each request.")
def serve(
    host: str,
    port: int,
    tls_cert: str | None,
    tls_key: str | None,
    nodes: tuple[str, ...],
    connection: Connection,
    models: tuple[Path, ...],
    device: str,
    dtype: str,
    questions: str,
    documents: bool,
    complete_updates: bool,
    strict: bool,
    read_only: bool,
    allow: tuple[str, ...],
    drop_headers: tuple[str, ...],
    login_headers: tuple[str, ...],
    max_body: int,
    max_concurrent: int,
    timeout: float,
    renew: float,
    workers: int,
    no_access_log: bool,
) -> None:
    """Serve as a proxy in front of the engine: applications change its address, nothing else.

    Searches are rewritten to score by meaning, documents get their latent terms, and everything
    else passes through. Requests carry the caller's own login. One that is given here only reads
    about indices. /_latent/ is a search page, and /_latent/health, /_latent/ready and
    /_latent/metrics are for operators.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise InputError(
            f"serve needs {missing[0]}; pip install 'latent-ingest[serve]' installs it"
        )
    from latent_ingest.connector.proxy.serving.certificate import check_certificate
    from latent_ingest.connector.proxy.serving.server import listening
    from latent_ingest.connector.proxy.serving.server import serve as run

    if tls_key and not tls_cert:
        raise InputError("--tls-key needs --tls-cert")
    settings = Settings(
        urls=(connection.url, *nodes),
        connection=connection,
        models=tuple(str(folder) for folder in models) or (None,),
        device=device,
        dtype=dtype,
        questions=questions,
        documents=documents,
        complete_updates=complete_updates,
        allow=allow,
        read_only=read_only,
        strict=strict,
        drop_headers=drop_headers,
        login_headers=login_headers,
        max_body=max_body,
        max_concurrent=max_concurrent,
        timeout=timeout,
        renew_seconds=renew,
    )
    make = partial(make_proxy, settings, not no_access_log)
    make()  # what is wrong is said once, not by each worker
    if tls_cert:
        check_certificate(tls_cert, tls_key)
    at = listening(host, port)
    if host not in LOOPBACK and not tls_cert:
        warn(f"warning: {host}: logins of callers pass unencrypted without --tls-cert")
    own = f"{'https' if tls_cert else 'http'}://{f'[{host}]' if ':' in host else host}"
    own = f"{own}:{at.getsockname()[1]}"
    warn(f"proxy of {', '.join(settings.urls)} at {own}, search page at {own}/_latent/")
    run(make, at, certificate=tls_cert, key=tls_key, workers=workers)


def make_proxy(settings: Settings, access_log: bool) -> Proxy:
    """Return a proxy in a process that may have just begun, as those of workers."""
    from latent_ingest.connector.proxy.app import create_app
    from latent_ingest.connector.proxy.metrics import write_access_log

    log_to_terminal()
    write_access_log(access_log)
    return create_app(settings)
