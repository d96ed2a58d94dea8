"""The command line: parse, call one object of the library, map errors to exit codes.

Exit status: 0 all well, 1 something failed, 2 wrong usage or input, 130 interrupted.
"""

from __future__ import annotations

import importlib
import logging
from difflib import get_close_matches
from pathlib import Path

import click

from latent_ingest.cli.options import INTERRUPTED, warn
from latent_ingest.connector.errors import InputError, LatentIngestError

# Command → module of this package that defines it under the same name. Loaded on use, so that
# `--help` does not import torch.
COMMANDS = {
    "ingest": "Encode a corpus file into latent terms and index it (the default command).",
    "verify": "Compare a corpus file with an index, line by line.",
    "enrich": "Add latent terms to an index that is there already, or bring them up to date.",
    "indices": "List the indices of latent terms: model, size, alias.",
    "rollback": "Point an alias back at the version before.",
    "prune": "Delete old versions of an alias.",
    "runs": "List the runs of ingest: how far, how they ended, how to go on.",
    "search": "Search an index in plain words.",
    "explain": "Show why a document is found: what each word and latent adds.",
    "rewrite": "Print the request body that a query becomes.",
    "tune": "Choose the settings of scoring that do best on judged questions.",
    "evaluate": "Compare words, dense, latent and hybrid on judged collections.",
    "train": "Train an autoencoder for a backbone.",
    "inspect": "Show what the latents of a model mean, and store labels for them.",
    "engine": "Start, inspect and stop a local OpenSearch.",
    "generate": "Make a judged collection by a recipe (limit).",
    "docstrings": "Collect the docstrings of the Python standard library as a corpus.",
}

EXAMPLES = """\b
Examples:
  latent-ingest engine up                        a local OpenSearch
  latent-ingest corpus.jsonl --index papers      the main job
  latent-ingest search "does vitamin D prevent falls" --index papers

Run 'latent-ingest COMMAND --help' for the options of a command.
"""


class TerminalHandler(logging.Handler):
    """Prints what the library logs on stderr, without breaking a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        warn(prefix + self.format(record))


class LazyGroup(click.Group):
    """A group whose commands are imported when called; FILE alone means `ingest FILE`."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"latent_ingest.cli.{name}")
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"--help", "--version", "-h"}
        if args and args[0] not in COMMANDS and args[0] not in own:
            refuse_misspelt(args[0], ctx)
            args = ["ingest", *args]
        ctx.meta["arguments"] = args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        log = logging.getLogger("latent_ingest")
        log.setLevel(logging.INFO)
        if not any(isinstance(handler, TerminalHandler) for handler in log.handlers):
            log.addHandler(TerminalHandler())
        try:
            return super().invoke(ctx)
        except InputError as error:
            raise click.UsageError(str(error)) from error
        except LatentIngestError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None


def refuse_misspelt(word: str, ctx: click.Context) -> None:
    """Usage error for a word like a command's name, where no such file is."""
    near = get_close_matches(word, COMMANDS, n=1) if word.isalpha() else []
    if near and not Path(word).exists():
        raise click.UsageError(f"no command or file {word!r}; did you mean {near[0]!r}?", ctx)


@click.command(
    cls=LazyGroup,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.version_option(package_name="latent-ingest")
def cli() -> None:
    """Semantic retrieval in the OpenSearch or Elasticsearch you already run.

    'latent-ingest FILE' is short for 'latent-ingest ingest FILE'.
    """
