"""Options for the address of the engine and for authentication.

Secrets never go on the command line: an option names a variable or a file that holds one.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import click
from opensearchpy import OpenSearch

from latent_ingest.cli import values
from latent_ingest.cli.options import Command, with_options
from latent_ingest.connector.engine.client import Connection, default_url
from latent_ingest.connector.engine.retry import GIVE_UP_AFTER, Retry
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.repair import repair


def secret_options(name: str, what: str) -> list[Callable[[Any], Any]]:
    """The options --NAME-env and --NAME-file."""
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    return [
        click.option(
            f"--{name}-env", metavar="NAME", help=f"Environment variable that holds {what}."
        ),
        click.option(f"--{name}-file", type=file, help=f"File that holds {what}."),
    ]


CONNECTION_OPTIONS = (
    click.option(
        "--url",
        help="URL of the engine.  [default: OPENSEARCH_URL, else the local engine, else "
        "http://localhost:9200]",
    ),
    click.option(
        "--user", help="User name; the password is asked for unless an option below gives it."
    ),
    *secret_options("password", "the password"),
    *secret_options("api-key", "an API key (encoded form)"),
    *secret_options("token", "a bearer token"),
    click.option("--aws-region", help="Sign requests for AWS (SigV4); needs the 'aws' extra."),
    click.option(
        "--aws-service",
        type=click.Choice(["es", "aoss"]),
        help="AWS service: es, or aoss for serverless.  [default: es]",
    ),
    click.option("--aws-profile", help="Profile that holds the AWS credentials."),
    click.option("--client-cert", type=values.PEM_FILE, help="Client certificate, PEM."),
    click.option(
        "--client-key",
        type=values.PEM_FILE,
        help="Key of the client certificate, if in its own file.",
    ),
    click.option("--ca", "ca_file", type=values.PEM_FILE, help="Certificates to trust, PEM."),
    click.option("--insecure", is_flag=True, help="Do not check the server's certificate."),
)


def connection_options(command: Command) -> Command:
    """Add the engine's address and authentication; the command receives them as `connection`."""

    @functools.wraps(command)
    def with_connection(*args: Any, insecure: bool, **others: Any) -> Any:
        if insecure:
            click.echo("warning: --insecure: the server's certificate is not checked", err=True)
        secrets: dict[str, Any] = {
            name: read_secret(name, others.pop(f"{name}_env"), others.pop(f"{name}_file"))
            for name in ("password", "api_key", "token")
        }
        names = [field.name for field in fields(Connection) if field.name in others]
        plain = {name: others.pop(name) for name in names}
        plain["url"] = plain["url"] or default_url()
        secrets["password"] = checked_password(plain["user"], secrets["password"])
        connection = Connection(**plain, **secrets, verify=not insecure)
        return command(*args, connection=connection, **others)

    return cast(Command, with_options(with_connection, CONNECTION_OPTIONS))


def open_client(
    connection: Connection, index: str, give_up_after: float = GIVE_UP_AFTER
) -> OpenSearch:
    """A client for a command that opens these indices; first restores what `tune` left changed."""
    client = connection.open()
    repair(client, index, Retry(client, give_up_after=give_up_after))
    return client


def checked_password(user: str | None, password: str | None) -> str | None:
    """The password that goes with the user, typed on a terminal if need be; None without a user."""
    if user is None and password is not None:
        raise InputError("--password-env and --password-file need --user")
    if user is None or password is not None:
        return password
    if not sys.stdin.isatty():
        raise InputError("--user needs --password-env or --password-file")
    return str(click.prompt("Password", hide_input=True, err=True))


def read_secret(name: str, variable: str | None, file: Path | None) -> str | None:
    """The content of a variable or a file without its last line end; None if neither is given.

    Raises:
        InputError: Both are given, or the content is missing, unreadable or empty.
    """
    option = f"--{name.replace('_', '-')}"
    if variable is not None and file is not None:
        raise InputError(f"{option}-env and {option}-file: give one of them")
    if variable is not None:
        where = f"{option}-env {variable}"
        if variable not in os.environ:
            raise InputError(f"{where}: no such environment variable")
        secret = os.environ[variable]
    elif file is not None:
        where = f"{option}-file {file}"
        try:
            # Windows editors begin a text with a byte order mark.
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{where}: not a text file that can be read") from error
        secret = text.removesuffix("\n").removesuffix("\r")
    else:
        return None
    if not secret:
        raise InputError(f"{where}: empty")
    return secret
