"""latent-ingest docstrings: a corpus that every machine with Python has."""

from __future__ import annotations

import ast
import inspect
import json
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest
from pathlib import Path
from typing import IO

import click

# Not the library itself: its tests, its editor, and installed packages.
LEFT_OUT = {"test", "tests", "idlelib", "idle_test", "lib2to3", "site-packages", "turtledemo"}

# Docstrings of fewer words say too little to be found.
MIN_WORDS = 6

Document = dict[str, str]


@click.command(
    epilog="""\b
Examples:
  latent-ingest docstrings --out stdlib.jsonl
  latent-ingest docstrings --limit 1500 --out stdlib.jsonl
"""
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Write at most this many, from all modules alike.  [default: all]",
)
@click.option(
    "--out",
    type=click.File("w", encoding="utf-8", lazy=True),
    default="-",
    show_default=True,
    help="File to write; - is standard output.",
)
def docstrings(limit: int | None, out: IO[str]) -> None:
    """Write the docstrings of Python's standard library as JSONL.

    One document per public module, class and function with a docstring. `_id` is its dotted
    name; `kind` is module, class or function.

    --limit takes the first docstring of each top-level module, then the second of each, and so on.
    """
    number = 0
    found = standard_library()
    for document in found if limit is None else from_all_modules(found, limit):
        number += 1
        out.write(json.dumps(document) + "\n")
    click.echo(f"{number:,} docstrings", err=True)


def from_all_modules(found: Iterable[Document], limit: int) -> list[Document]:
    """At most `limit` documents in their order: the first of each module, the second, ..."""
    modules: defaultdict[str, list[tuple[int, Document]]] = defaultdict(list)
    for place, document in enumerate(found):
        modules[document["_id"].split(".")[0]].append((place, document))
    rounds = chain.from_iterable(zip_longest(*modules.values()))
    chosen = [each for each in rounds if each is not None][:limit]
    return [document for _, document in sorted(chosen, key=lambda each: each[0])]


def standard_library() -> Iterator[Document]:
    """Documents of all public modules; a repeated text is given once."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    seen: set[str] = set()
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if LEFT_OUT & set(parts) or any(part.startswith("_") for part in parts[:-1]):
            continue
        module = ".".join(part for part in parts if part != "__init__")
        if not module or module.rsplit(".", 1)[-1].startswith("_"):
            continue
        for document in documents(path, module):
            if document["text"] not in seen:  # methods that repeat their base's docstring
                seen.add(document["text"])
                yield document


def documents(path: Path, module: str) -> Iterator[Document]:
    """Documents of one source file."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    yield from described(tree, module, "module")


def described(node: ast.AST, name: str, kind: str) -> Iterator[Document]:
    """Documents of a node and of the public classes and functions in it."""
    text = ast.get_docstring(node) if isinstance(node, (ast.Module, *DEFINITIONS)) else None
    if text and len(text.split()) >= MIN_WORDS:
        yield {"_id": name, "kind": kind, "title": name, "text": inspect.cleandoc(text)}
    for child in getattr(node, "body", []) if kind != "function" else []:
        if isinstance(child, DEFINITIONS) and not child.name.startswith("_"):
            child_kind = "class" if isinstance(child, ast.ClassDef) else "function"
            yield from described(child, f"{name}.{child.name}", child_kind)


DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
