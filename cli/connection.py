"""Options that say where the engine is and who asks; secrets never stand on the command line."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from opensearchpy import OpenSearch

from latent_ingest.connector.engine.client import Connection, default_url
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.repair import repair

Command = TypeVar("Command", bound=Callable[..., Any])

pem_file = click.Path(exists=True, dir_okay=False)


def secret_options(name: str, what: str) -> list[Callable[[Any], Any]]:
    """--NAME-env and --NAME-file."""
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    return [
        click.option(f"--{name}-env", metavar="NAME", help=f"Environment variable with {what}."),
        click.option(f"--{name}-file", type=file, help=f"File with {what}."),
    ]


OPTIONS = [
    click.option(
        "--url",
        help="Of the engine.  [default: OPENSEARCH_URL, else the local engine, else http://localhost:9200]",
    ),
    click.option("--user", help="User name; without the next two the password is asked for."),
    *secret_options("password", "the password"),
    *secret_options("api-key", "an API key (encoded form)"),
    *secret_options("token", "a bearer token"),
    click.option("--aws-region", help="Sign requests for AWS (SigV4); the 'aws' extra is needed."),
    click.option(
        "--aws-service",
        type=click.Choice(["es", "aoss"]),
        help="es, or aoss for serverless.  [default: es]",
    ),
    click.option("--aws-profile", help="Profile with the AWS credentials."),
    click.option("--client-cert", type=pem_file, help="Client certificate, PEM."),
    click.option("--client-key", type=pem_file, help="Its key, if in a file of its own."),
    click.option("--ca", "ca_file", type=pem_file, help="Certificates to trust, PEM."),
    click.option("--insecure", is_flag=True, help="Do not check the server's certificate."),
]


def connection_options(command: Command) -> Command:
    """Where the engine is and who asks, given to the command as `connection`."""

    @functools.wraps(command)
    def with_connection(
        *args: Any,
        url: str | None,
        user: str | None,
        password_env: str | None,
        password_file: Path | None,
        api_key_env: str | None,
        api_key_file: Path | None,
        token_env: str | None,
        token_file: Path | None,
        aws_region: str | None,
        aws_service: str | None,
        aws_profile: str | None,
        client_cert: str | None,
        client_key: str | None,
        ca_file: str | None,
        insecure: bool,
        **others: Any,
    ) -> Any:
        if insecure:
            click.echo("warning: --insecure: the server's certificate is not checked", err=True)
        connection = Connection(
            url or default_url(),
            user,
            read_password(user, password_env, password_file),
            ca_file=ca_file,
            verify=not insecure,
            client_cert=client_cert,
            client_key=client_key,
            api_key=read_secret("--api-key", api_key_env, api_key_file),
            token=read_secret("--token", token_env, token_file),
            aws_region=aws_region,
            aws_service=aws_service,
            aws_profile=aws_profile,
        )
        return command(*args, connection=connection, **others)

    decorated: Any = with_connection
    for option in reversed(OPTIONS):
        decorated = option(decorated)
    return cast(Command, decorated)


def open_client(connection: Connection, index: str) -> OpenSearch:
    """A client for a command that opens an index, which is restored first if tuning left it.

    Args:
        connection: the command's connection options.
        index: name, alias or pattern of the index, or several separated by commas.
    """
    client = connection.open()
    repair(client, index)
    return client


def read_password(user: str | None, variable: str | None, file: Path | None) -> str | None:
    """The password in a variable or a file, or asked for on a terminal."""
    password = read_secret("--password", variable, file)
    if user is None:
        if password is not None:
            raise InputError("--password-env and --password-file need --user")
        return None
    if password is not None:
        return password
    if not sys.stdin.isatty():
        raise InputError("--user needs --password-env or --password-file")
    return str(click.prompt("Password", hide_input=True, err=True))


def read_secret(option: str, variable: str | None, file: Path | None) -> str | None:
    """The content of a variable or a file, without the line end after it; none for neither.

    Raises:
        InputError: both are given, or there is nothing in it.
    """
    if variable is not None and file is not None:
        raise InputError(f"{option}-env and {option}-file: give one of them")
    if variable is not None:
        if variable not in os.environ:
            raise InputError(f"{option}-env {variable}: no such environment variable")
        return not_empty(os.environ[variable], f"{option}-env {variable}")
    if file is not None:
        try:
            # Editors of Windows begin a text with a mark.
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{option}-file {file}: not a text file that can be read") from error
        return not_empty(text.removesuffix("\n").removesuffix("\r"), f"{option}-file {file}")
    return None


def not_empty(secret: str, where: str) -> str:
    if not secret:
        raise InputError(f"{where}: empty")
    return secret
