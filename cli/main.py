"""The command line: parse, call one object of the library, map errors to exit codes.

Exit status: 0 success, 1 something failed, 2 wrong usage or input, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
from difflib import get_close_matches
from pathlib import Path

import click

from latent_ingest.cli.logs import log_to_terminal
from latent_ingest.cli.output import INTERRUPTED, printable_lines
from latent_ingest.connector.errors import InputError, LatentIngestError

# Command → its line in `--help`. The commands are loaded on use, so that `--help` imports no torch.
COMMANDS = {
    "ingest": "Encode a corpus file into latent terms and index it (the default command).",
    "plan": "Estimate what an index of a corpus takes: time, bytes, shards, heap, money.",
    "verify": "Compare a corpus file with an index, line by line.",
    "enrich": "Add latent terms to an existing index, or update them.",
    "indices": "List the indices of latent terms: model, size, alias.",
    "rollback": "Point an alias back at the previous version.",
    "prune": "Delete old versions of an alias.",
    "runs": "List runs: progress, result, and the command that resumes them.",
    "search": "Search an index in plain words.",
    "explain": "Show why a document is found: what each word and latent adds to its score.",
    "rewrite": "Print the request body for a question, or rewrite an application's body.",
    "serve": "Serve as a proxy in front of the engine that makes searches semantic.",
    "mcp": "Serve searches of an index to assistants (Model Context Protocol).",
    "tune": "Choose the scoring settings that do best on judged questions.",
    "evaluate": "Compare words, dense, latent and hybrid on judged collections.",
    "train": "Train an autoencoder for a backbone, or tune a model on pairs.",
    "questions": "Make the table of words by which questions need no model.",
    "models": "List the models in this package or in a folder: size, quality, licence.",
    "inspect": "Show what the latents of a model mean, and store labels for them.",
    "doctor": "Check what an engine, a login and an index allow.",
    "engine": "Start, inspect and stop a local OpenSearch.",
    "generate": "Generate a judged collection (LIMIT), or pairs to learn from.",
    "docstrings": "Collect the docstrings of Python's standard library as a corpus.",
}

# Module in `latent_ingest.cli.commands` → its commands.
MODULES = {
    "indexing.ingest": ("ingest", "verify"),
    "indexing.plan": ("plan",),
    "indexing.enrich": ("enrich",),
    "indexing.indices": ("indices", "rollback", "prune", "runs"),
    "querying.search": ("search", "explain"),
    "querying.rewrite": ("rewrite",),
    "querying.serve": ("serve",),
    "querying.mcp": ("mcp",),
    "evaluation.evaluate": ("evaluate", "docstrings"),
    "evaluation.generate": ("generate",),
    "evaluation.tune": ("tune",),
    "models.train": ("train",),
    "models.questions": ("questions",),
    "models.inspect": ("inspect", "models"),
    "engine": ("engine", "doctor"),
}
MODULE_OF = {command: module for module, commands in MODULES.items() for command in commands}

# Turns for which a thread of PyTorch waits for the others before it sleeps. By default it waits for
# 300,000 turns, which takes several times as long beside other processes (benchmarks/encode.py).
SPINS = "1000"

# Packages that servers which only ask by table leave out (docs/serving.md).
MODEL_PACKAGES = ("torch", "transformers", "huggingface_hub")

EXAMPLES = """\b
Examples:
  latent-ingest engine up                        a local OpenSearch
  latent-ingest corpus.jsonl --index papers      index a corpus
  latent-ingest search "does vitamin D prevent falls" --index papers

Run 'latent-ingest COMMAND --help' for the options of a command.
"""


class LazyGroup(click.Group):
    """A group whose commands are imported on use; FILE alone means `ingest FILE`."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"latent_ingest.cli.commands.{MODULE_OF[name]}")
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
        log_to_terminal()
        # PyTorch reads this when it is imported.
        if "OMP_WAIT_POLICY" not in os.environ:
            os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
        try:
            return super().invoke(ctx)
        except InputError as error:
            raise click.UsageError(printable_lines(str(error))) from error
        except LatentIngestError as error:
            raise click.ClickException(printable_lines(str(error))) from error
        except ModuleNotFoundError as error:
            if error.name not in MODEL_PACKAGES:
                raise
            raise click.ClickException(
                f"the model needs {error.name}, which is not installed: "
                "'pip install latent-ingest', or ask by '--questions table'"
            ) from error
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None


def refuse_misspelt(word: str, ctx: click.Context) -> None:
    """Raise a usage error for a word that resembles a command and is not a file."""
    near = get_close_matches(word, COMMANDS, n=1) if word.isalpha() else []
    if near and not Path(word).exists():
        raise click.UsageError(f"no command or file {word!r}; did you mean {near[0]!r}?", ctx)


@click.command(
    cls=LazyGroup,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    no_args_is_help=True,
)
@click.version_option(package_name="latent-ingest")
def cli() -> None:
    """Semantic retrieval in the OpenSearch or Elasticsearch you already run.

    'latent-ingest FILE' is short for 'latent-ingest ingest FILE'.
    """
