"""Options that several commands share, and the types of their values.

Secrets never go on the command line: an option names a variable or a file that holds one.
"""

from __future__ import annotations

import functools
import json
import math
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import click
from opensearchpy import OpenSearch

from latent_ingest.cli.output import announced
from latent_ingest.connector.engine.client import Connection, default_url
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.repair import repair

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

Command = TypeVar("Command", bound=Callable[..., Any])


class Scaled(click.ParamType):  # type: ignore[type-arg]
    """A number, not negative, that may end with the letter of a unit."""

    units: ClassVar[dict[str, int]]
    examples: str

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value).lower()
        factor = self.units.get(text[-1:])
        try:
            number = float(text[:-1]) * factor if factor else float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number < math.inf:
            self.fail(f"{value!r}: write a {self.name} like {self.examples}", param, ctx)
        return number


class TokenCount(Scaled):
    """A whole number above 0; K, M or G after it stand for thousands, millions or billions."""

    name = "number"
    units: ClassVar = {"k": 10**3, "m": 10**6, "g": 10**9}
    examples = "500000, 500K or 3M"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        number = int(super().convert(value, param, ctx))
        if number < 1:
            self.fail(f"{value!r}: must be above 0", param, ctx)
        return number


class Duration(Scaled):
    """A duration in seconds, written as 90, 90s, 10m or 2h."""

    name = "duration"
    units: ClassVar = {"s": 1, "m": 60, "h": 3600}
    examples = "90s, 10m or 2h"


class JsonObject(click.ParamType):  # type: ignore[type-arg]
    """A JSON object, such as a query clause."""

    name = "json"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        try:
            content = json.loads(str(value))
        except ValueError as error:
            self.fail(f"not JSON: {error}: {value}", param, ctx)
        if not isinstance(content, dict):
            self.fail(f'{value}: write an object like {{"term": {{"year": 2024}}}}', param, ctx)
        return content


def comma_list(text: str) -> list[str]:
    """The names in `a,b , c`; usage error if there is none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise click.BadParameter(f"{text!r}: name at least one field")
    return names


def resuming_command() -> str:
    """The command that resumes the current run: in this folder, without --restart."""
    arguments = click.get_current_context().meta["arguments"]
    again = [argument for argument in arguments if argument != "--restart"]
    return f"cd {shlex.quote(str(Path.cwd()))} && {shlex.join(['latent-ingest', *again])}"


def load_encoder(model: Path | None, device: str, dtype: str) -> LatentEncoder:
    """The encoder of the chosen model; a terminal shows that it is loading, which takes seconds."""
    with announced("loading the model"):
        from latent_ingest.connector.encoding.encoder import LatentEncoder

        return LatentEncoder.load(model, device=device, dtype=dtype)


index_option = click.option(
    "--index", default="latent", show_default=True, help="Name of the index."
)

journal_option = click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="LATENT_INGEST_JOURNAL",
    show_envvar=True,
    help="File that records the progress of runs.  [default: in the user's state folder]",
)

give_up_option = click.option(
    "--give-up-after",
    type=Duration(),
    default="10m",
    show_default=True,
    help="Stop if the engine refuses requests or is unreachable for this long (90s, 10m, 2h).",
)

form_option = click.option(
    "--form",
    type=click.Choice(["hybrid", "latent", "two_phase", "hybrid_two_phase"]),
    default="hybrid",
    show_default=True,
    help="What scores: words and latents, or latents only; in one phase or two.",
)

cache_option = click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="LATENT_INGEST_CACHE",
    show_envvar=True,
    help="Folder for dense vectors and ir_datasets collections.  "
    "[default: in the user's cache folder]",
)

filter_option = click.option(
    "--filter", "filter_clause", type=JsonObject(), help="Query clause that hits must match."
)

model_option = click.option(
    "--model",
    type=click.Path(file_okay=False, path_type=Path),
    help="Model folder.  [default: the model in this package]",
)

id_field_option = click.option(
    "--id-field",
    default="_id,id",
    show_default=True,
    help="Fields that may hold a document's id, comma-separated; the first one present counts.",
)

text_fields_option = click.option(
    "--text-fields",
    default="title,text",
    show_default=True,
    help="Fields whose text is read, comma-separated.",
)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as one JSON object."
)

COMPUTE_OPTIONS = (
    click.option("--device", default="auto", show_default=True, help="auto, cuda, mps or cpu."),
    click.option(
        "--dtype",
        default="auto",
        show_default=True,
        help="float32, bfloat16, or auto: bfloat16 if the device computes in it.",
    ),
)


def compute_options(command: Command) -> Command:
    """Add --device and --dtype to a command."""
    return cast(Command, with_options(command, COMPUTE_OPTIONS))


def with_options(command: Any, options: Any) -> Any:
    """The command with all the options, in this order in its help."""
    for option in reversed(options):
        command = option(command)
    return command


def secret_options(name: str, what: str) -> list[Callable[[Any], Any]]:
    """The options --NAME-env and --NAME-file."""
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    return [
        click.option(
            f"--{name}-env", metavar="NAME", help=f"Environment variable that holds {what}."
        ),
        click.option(f"--{name}-file", type=file, help=f"File that holds {what}."),
    ]


pem_file = click.Path(exists=True, dir_okay=False)

CONNECTION_OPTIONS = (
    click.option(
        "--url",
        help="URL of the engine.  [default: OPENSEARCH_URL, else the local engine, else "
        "http://localhost:9200]",
    ),
    click.option(
        "--user",
        help="User name; the password is asked for unless an option below gives it.",
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
    click.option("--client-cert", type=pem_file, help="Client certificate, PEM."),
    click.option(
        "--client-key", type=pem_file, help="Key of the client certificate, if in its own file."
    ),
    click.option("--ca", "ca_file", type=pem_file, help="Certificates to trust, PEM."),
    click.option("--insecure", is_flag=True, help="Do not check the server's certificate."),
)

# Options that `Connection` takes as they are given.
PLAIN = ("aws_region", "aws_service", "aws_profile", "client_cert", "client_key", "ca_file")


def connection_options(command: Command) -> Command:
    """Add the engine's address and authentication; the command receives them as `connection`."""

    @functools.wraps(command)
    def with_connection(
        *args: Any, url: str | None, user: str | None, insecure: bool, **others: Any
    ) -> Any:
        if insecure:
            click.echo("warning: --insecure: the server's certificate is not checked", err=True)
        secrets = {
            name: read_secret(
                f"--{name.replace('_', '-')}",
                others.pop(f"{name}_env"),
                others.pop(f"{name}_file"),
            )
            for name in ("password", "api_key", "token")
        }
        connection = Connection(
            url or default_url(),
            user,
            checked_password(user, secrets.pop("password")),
            verify=not insecure,
            **secrets,
            **{name: others.pop(name) for name in PLAIN},
        )
        return command(*args, connection=connection, **others)

    return cast(Command, with_options(with_connection, CONNECTION_OPTIONS))


def open_client(connection: Connection, index: str) -> OpenSearch:
    """A client for a command that opens an index, which is first restored if `tune` left it.

    Args:
        connection: The command's connection options.
        index: Name, alias or pattern of the index, or several separated by commas.
    """
    client = connection.open()
    repair(client, index)
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


def read_secret(option: str, variable: str | None, file: Path | None) -> str | None:
    """The content of a variable or a file without its last line end; None if neither is given.

    Raises:
        InputError: Both are given, or the content is missing, unreadable or empty.
    """
    if variable is not None and file is not None:
        raise InputError(f"{option}-env and {option}-file: give one of them")
    if variable is not None:
        if variable not in os.environ:
            raise InputError(f"{option}-env {variable}: no such environment variable")
        return not_empty(os.environ[variable], f"{option}-env {variable}")
    if file is not None:
        try:
            # Windows editors begin a text with a byte order mark.
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{option}-file {file}: not a text file that can be read") from error
        return not_empty(text.removesuffix("\n").removesuffix("\r"), f"{option}-file {file}")
    return None


def not_empty(secret: str, where: str) -> str:
    if not secret:
        raise InputError(f"{where}: empty")
    return secret
