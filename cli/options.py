"""Options and outputs that several commands share."""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from tqdm import tqdm

from latent_ingest.cli.connection import connection_options as connection_options
from latent_ingest.connector.querying.scoring import Form

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# Exit status after Ctrl-C, as shells have it.
INTERRUPTED = 130

Command = TypeVar("Command", bound=Callable[..., Any])


class TokenCount(click.ParamType):  # type: ignore[type-arg]
    """A whole number, with K, M or G for thousands, millions and milliards."""

    name = "number"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        text = str(value).upper()
        factor = {"K": 10**3, "M": 10**6, "G": 10**9}.get(text[-1:], 1)
        try:
            number = float(text[:-1] if factor > 1 else text) * factor
        except ValueError:
            self.fail(f"{value!r}: write a number like 500000, 500K or 3M", param, ctx)
        if number < 1:
            self.fail(f"{value!r}: must be above 0", param, ctx)
        return int(number)


class Duration(click.ParamType):  # type: ignore[type-arg]
    """Seconds, written as 90, 90s, 10m or 2h."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value).lower()
        factor = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
        try:
            seconds = float(text[:-1]) * factor if factor else float(text)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < math.inf:
            self.fail(f"{value!r}: write a duration like 90s, 10m or 2h", param, ctx)
        return seconds


def resuming_command() -> str:
    """The command that was given, as it goes on with the run: in its folder, and not anew."""
    arguments = click.get_current_context().meta["arguments"]
    again = [argument for argument in arguments if argument != "--restart"]
    return f"cd {shlex.quote(str(Path.cwd()))} && {shlex.join(['latent-ingest', *again])}"


class JsonObject(click.ParamType):  # type: ignore[type-arg]
    """A JSON object, as a query clause is."""

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


def compute_options(command: Command) -> Command:
    """--device and --dtype."""
    for option in (
        click.option(
            "--dtype",
            default="auto",
            show_default=True,
            help="auto (bfloat16 where the device computes in it), float32, bfloat16.",
        ),
        click.option("--device", default="auto", show_default=True, help="auto, cuda, mps or cpu."),
    ):
        command = option(command)
    return command


def load_encoder(model: Path | None, device: str, dtype: str) -> LatentEncoder:
    """The model that was asked for; says on a terminal that it loads, for it takes seconds."""
    if sys.stderr.isatty():
        click.echo("loading the model\r", nl=False, err=True)
    from latent_ingest.connector.encoding.encoder import LatentEncoder

    encoder = LatentEncoder.load(model, device=device, dtype=dtype)
    if sys.stderr.isatty():
        click.echo("\033[K", nl=False, err=True)
    return encoder


def progress_bar(**settings: Any) -> tqdm[Any]:
    """A progress bar on stderr: ten times a second on a terminal, every ten seconds in a log."""
    terminal = sys.stderr.isatty()
    return tqdm(
        file=sys.stderr,
        mininterval=0.1 if terminal else 10.0,
        dynamic_ncols=terminal,
        **settings,
    )


def warn(line: str) -> None:
    """Print a line on stderr without breaking the progress bar."""
    tqdm.write(line, file=sys.stderr)


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Within it, Ctrl-C or SIGTERM calls `stop`, for an orderly end; a second ends the process.

    Then nothing is waited for, neither threads nor answers: what is noted holds, as after a kill.
    """

    def interrupt(_number: int, _frame: object) -> None:
        warn("finishing what is in flight; Ctrl-C again stops at once")
        stop()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, leave)

    def leave(_number: int, _frame: object) -> None:
        try:
            warn("Interrupted.")
        finally:
            os._exit(INTERRUPTED)

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def comma_list(text: str) -> list[str]:
    """The names in `a,b , c`; usage error when there is none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise click.BadParameter(f"{text!r}: name at least one field")
    return names


index_option = click.option("--index", default="latent", show_default=True, help="Index name.")

journal_option = click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="LATENT_INGEST_JOURNAL",
    show_envvar=True,
    help="File that notes what is done.  [default: in the user's state folder]",
)

give_up_option = click.option(
    "--give-up-after",
    type=Duration(),
    default="10m",
    show_default=True,
    help="End when the engine refuses or is away for so long (90s, 10m, 2h).",
)

form_option = click.option(
    "--form",
    type=click.Choice([form.value for form in Form]),
    default="hybrid",
    show_default=True,
    help="What scores: words and latents, or latents alone; in one phase or two.",
)

cache_option = click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="LATENT_INGEST_CACHE",
    show_envvar=True,
    help="Folder for dense vectors and collections of ir_datasets.  [default: in the user's "
    "cache folder]",
)

model_option = click.option(
    "--model",
    type=click.Path(file_okay=False, path_type=Path),
    help="Model folder.  [default: the one that ships]",
)
