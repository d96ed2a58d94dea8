"""A corpus that every machine with Python has: the docstrings of its standard library."""

from __future__ import annotations

import ast
import inspect
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest
from pathlib import Path

# Folders that are not the library itself: its tests, its graphical tools, installed packages.
LEFT_OUT = {"test", "tests", "idlelib", "idle_test", "lib2to3", "site-packages", "turtledemo"}

# Shorter docstrings say too little to be searched for.
MIN_WORDS = 6

DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

Document = dict[str, str]


def standard_library() -> Iterator[Document]:
    """Yield one document per public module, class and function; each text once.

    Keys of a document: `_id` and `title` (the dotted name), `kind` ("module", "class" or
    "function"), `text`.
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
            if document["text"] not in seen:  # methods that repeat the docstring of their base
                seen.add(document["text"])
                yield document


def documents(path: Path, module: str) -> Iterator[Document]:
    """Yield the documents of one source file; skip a file that Python cannot parse."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    yield from described(tree, module, "module")


def described(node: ast.AST, name: str, kind: str) -> Iterator[Document]:
    """Yield the documents of a node and of the public classes and functions in it."""
    text = ast.get_docstring(node) if isinstance(node, (ast.Module, *DEFINITIONS)) else None
    if text and len(text.split()) >= MIN_WORDS:
        yield {"_id": name, "kind": kind, "title": name, "text": inspect.cleandoc(text)}
    for child in getattr(node, "body", []) if kind != "function" else []:
        if isinstance(child, DEFINITIONS) and not child.name.startswith("_"):
            child_kind = "class" if isinstance(child, ast.ClassDef) else "function"
            yield from described(child, f"{name}.{child.name}", child_kind)


def from_all_modules(found: Iterable[Document], limit: int) -> list[Document]:
    """Take `limit` documents: the first of each top-level module, then the second, and so on.

    They stay in the order in which they were found.
    """
    modules: defaultdict[str, list[tuple[int, Document]]] = defaultdict(list)
    for place, document in enumerate(found):
        modules[document["_id"].split(".")[0]].append((place, document))
    rounds = chain.from_iterable(zip_longest(*modules.values()))
    chosen = [each for each in rounds if each is not None][:limit]
    return [document for _, document in sorted(chosen, key=lambda each: each[0])]
