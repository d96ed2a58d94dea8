"""What the commands of the scripts have in common: FOLDER:SPLIT, and errors without a traceback."""

from __future__ import annotations

from pathlib import Path

import click

from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.errors import InputError, LatentIngestError


class Benchmark(click.Command):
    """A click command whose errors of the package are one line; exit status 1 after one."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except LatentIngestError as error:
            raise click.ClickException(str(error)) from error


def load_judged(named: str) -> Collection:
    """The collection of FOLDER:SPLIT.

    Raises:
        InputError: there is no split, or `Collection.load` cannot read the folder.
    """
    folder, colon, split = named.rpartition(":")
    if not colon:
        raise InputError(f"{named}: no split; name FOLDER:SPLIT, such as {named}:dev")
    return Collection.load(Path(folder), split)
