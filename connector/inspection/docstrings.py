"""The docstrings of the Python standard library: a corpus that every machine with Python has."""

from __future__ import annotations

import ast
import inspect
import sysconfig
from collections.abc import Iterator
from pathlib import Path

# Folders that are not the library itself: tests, graphical tools, and installed packages.
LEFT_OUT = {"test", "tests", "idlelib", "idle_test", "lib2to3", "site-packages", "turtledemo"}

# A docstring of fewer words says too little to be found by.
MIN_WORDS = 6

DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def standard_library() -> Iterator[dict[str, str]]:
    """Documents of all public modules, classes and functions; each text once.

    A document has `_id` and `title` (the dotted name), `kind` (module, class or function) and
    `text`.
    """
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


def documents(path: Path, module: str) -> Iterator[dict[str, str]]:
    """The documents of one source file; none if it cannot be parsed."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    yield from described(tree, module, "module")


def described(node: ast.AST, name: str, kind: str) -> Iterator[dict[str, str]]:
    """The documents of a node and of the public classes and functions in it."""
    text = ast.get_docstring(node) if isinstance(node, (ast.Module, *DEFINITIONS)) else None
    if text and len(text.split()) >= MIN_WORDS:
        yield {"_id": name, "kind": kind, "title": name, "text": inspect.cleandoc(text)}
    for child in getattr(node, "body", []) if kind != "function" else []:
        if isinstance(child, DEFINITIONS) and not child.name.startswith("_"):
            child_kind = "class" if isinstance(child, ast.ClassDef) else "function"
            yield from described(child, f"{name}.{child.name}", child_kind)
