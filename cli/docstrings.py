"""The command `docstrings`: write the docstrings of the standard library as a corpus."""

from __future__ import annotations

import json
from typing import IO

import click


@click.command(
    epilog="""\b
Example:
  latent-ingest docstrings --out stdlib.jsonl
"""
)
@click.option(
    "--out",
    type=click.File("w", encoding="utf-8", lazy=True),
    default="-",
    show_default=True,
    help="Output file; - is standard output.",
)
def docstrings(out: IO[str]) -> None:
    """Collect the docstrings of the Python standard library as JSONL.

    Each public module, class and function with a docstring becomes one document: `_id` is its
    dotted name, `kind` is module, class or function.
    """
    from latent_ingest.connector.collections.docstrings import standard_library

    number = 0
    for document in standard_library():
        number += 1
        out.write(json.dumps(document) + "\n")
    click.echo(f"{number:,} docstrings", err=True)
