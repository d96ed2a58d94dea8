"""The rooms of the package: imports point from later rooms to earlier ones, and never in a circle.

The imports are read from the source, also those within functions; nothing is executed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "latent_ingest"
PARTS = ("connector", "mappings", "cli")

# Rooms by rank: a module imports from its own room and from rooms of lower rank; those of the first
# rank from each other, too.
ORDER = (
    (
        "errors",
        "terms",
        "mappings",
        "document_text",
        "corpus_file",
        "document",
        "prefetch",
        "bm25",
        "files",
        "seen_keys",
    ),
    ("engine", "corpus"),
    ("collections",),
    ("encoding",),
    ("questions",),
    ("index",),
    ("indexing",),
    ("querying",),
    ("inspection", "diagnosis"),
    ("proxy",),
    ("evaluation",),
    ("training",),
    ("sentence_transformers",),
    ("tuning",),
    ("frameworks",),
    ("cli",),
)
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}

MOST_MODULES = 12

Imports = Mapping[str, set[str]]


def sources(root: Path) -> dict[str, str]:
    """Module name → source, of the package whose parts are folders of `root`."""
    found = {}
    for part in PARTS:
        for path in sorted((root / part).rglob("*.py")):
            names = path.relative_to(root).with_suffix("").parts
            names = names[:-1] if names[-1] == "__init__" else names
            found[".".join((PACKAGE, *names))] = path.read_text(encoding="utf-8")
    return found


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names that a module imports when it runs, at its top or within functions."""
    if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.unparse(tree.test):
        for child in tree.orelse:
            yield from imported(child)
        return
    if isinstance(tree, ast.Import):
        yield from (alias.name for alias in tree.names)
    if isinstance(tree, ast.ImportFrom):
        assert not tree.level, "relative imports are not read here"
        yield from (f"{tree.module}.{alias.name}" for alias in tree.names)
    for child in ast.iter_child_nodes(tree):
        yield from imported(child)


def read_imports(modules: Mapping[str, str]) -> dict[str, set[str]]:
    """Module → the modules of the package that it imports, and names from outside as they are."""

    def home(name: str) -> str:
        """The module that holds an imported name."""
        if name in modules or not name.startswith(f"{PACKAGE}."):
            return name
        return home(name.rpartition(".")[0])

    return {
        module: {home(name) for name in imported(ast.parse(source))}
        for module, source in modules.items()
    }


def cycles(imports: Imports) -> list[list[str]]:
    """A cycle for each module that closes one: the modules in order, the first one again."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
        elif module not in done:
            for other in sorted(imports.get(module, ())):
                visit(other, [*path, module])
            done.add(module)

    for module in sorted(imports):
        visit(module, [])
    return found


def room(module: str) -> str | None:
    """The room of a module, None for names from outside and for the packages themselves."""
    package, *names = module.split(".")
    if package != PACKAGE or names in ([], ["connector"]):
        return None
    return names[1] if names[0] == "connector" else names[0]


def climbing(imports: Imports) -> list[str]:
    """Imports from another room of the same or of a higher rank, as `module → imported module`."""
    return sorted(
        f"{module} → {other}"
        for module, others in imports.items()
        for other in others
        if (here := room(module)) and (there := room(other)) and here != there
        if RANK[there] > RANK[here] or (RANK[there] == RANK[here] and RANK[here] > 0)
    )


def crowded(root: Path) -> dict[str, int]:
    """Folders with too many modules, `__init__` not counted."""
    folders = [path for part in PARTS for path in [root / part, *(root / part).rglob("*/")]]
    sizes = {
        str(folder.relative_to(root)): sum(
            path.name != "__init__.py" for path in folder.glob("*.py")
        )
        for folder in folders
    }
    return {folder: size for folder, size in sizes.items() if size > MOST_MODULES}


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    return read_imports(sources(ROOT))


def test_no_module_imports_itself_by_way_of_others(imports: Imports) -> None:
    assert [" → ".join(cycle) for cycle in cycles(imports)] == []


def test_no_room_imports_from_a_later_one(imports: Imports) -> None:
    assert climbing(imports) == []


def test_encoding_does_without_the_client_of_the_engine(imports: Imports) -> None:
    reached = {
        module: {name for name in others if name.split(".")[0] == "opensearchpy"}
        for module, others in imports.items()
        if room(module) in {"encoding", "terms", "mappings", "errors"}
    }
    assert {module: names for module, names in reached.items() if names} == {}


def test_only_its_room_imports_ray(imports: Imports) -> None:
    found = {
        module
        for module, others in imports.items()
        if any(name.split(".")[0] == "ray" for name in others)
    }
    assert found
    assert {module for module in found if ".indexing.on_ray." not in module} == set()


def test_no_room_is_crowded() -> None:
    assert crowded(ROOT) == {}


def test_the_picture_shows_every_room() -> None:
    picture = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    shown = {
        name
        for line in re.findall(r'font-weight="bold" font-size="15"[^>]*>([^<]*)<', picture)
        for name in line.split(" · ")
    }
    assert shown >= {room for rooms in ORDER[1:] for room in rooms}


def test_every_room_has_a_rank(imports: Imports) -> None:
    assert {found for module in imports if (found := room(module))} - RANK.keys() == {"models"}


MADE_UP = {
    "connector/__init__.py": "",
    "connector/errors.py": "import json",
    "connector/engine/__init__.py": "",
    "connector/engine/client.py": "from latent_ingest.connector.errors import Wrong",
    "connector/collections/trec.py": "",
    "connector/encoding/encoder.py": "import opensearchpy.client",
    "connector/index/meta.py": """
from typing import TYPE_CHECKING

from latent_ingest.connector.engine import client
if TYPE_CHECKING:
    from latent_ingest.connector.index.repair import Repair
    from latent_ingest.connector.tuning.tune import Tune
""",
    "connector/index/repair.py": "from latent_ingest.connector.index.meta import Meta",
    "connector/tuning/tune.py": "import latent_ingest.connector.index.repair",
    "cli/main.py": "from latent_ingest.connector.index.meta import Meta",
}


def made_up(root: Path, changes: Mapping[str, str]) -> dict[str, set[str]]:
    """Imports of a small package, written to `root`."""
    for name, source in {**MADE_UP, **changes}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return read_imports(sources(root))


def test_the_checks_pass_a_package_in_order(tmp_path: Path) -> None:
    imports = made_up(tmp_path, {})
    assert cycles(imports) == []
    assert climbing(imports) == []
    assert crowded(tmp_path) == {}
    assert imports["latent_ingest.connector.index.meta"] == {
        "typing.TYPE_CHECKING",
        "latent_ingest.connector.engine.client",
    }


def test_the_checks_find_a_cycle_that_a_function_closes(tmp_path: Path) -> None:
    late = "def late():\n    from latent_ingest.connector.index.repair import repair"
    (cycle,) = cycles(made_up(tmp_path, {"connector/index/meta.py": late}))
    names = [name.removeprefix("latent_ingest.connector.index.") for name in cycle]
    assert names == ["meta", "repair", "meta"]


@pytest.mark.parametrize(
    ("importing", "imported_name"),
    [
        ("engine.client", "connector.index.meta"),
        ("encoding.encoder", "connector.index.meta"),
        ("engine.client", "connector.collections.trec"),
        ("tuning.tune", "cli.main"),
        ("errors", "connector.engine.client"),
    ],
)
def test_the_checks_find_an_arrow_that_climbs(
    tmp_path: Path, importing: str, imported_name: str
) -> None:
    path = f"connector/{importing.replace('.', '/')}.py"
    imports = made_up(tmp_path, {path: f"def late():\n    import {PACKAGE}.{imported_name}"})
    climbs = f"{PACKAGE}.connector.{importing} → {PACKAGE}.{imported_name}"
    assert climbing(imports) == [climbs]


def test_the_checks_find_a_crowded_room(tmp_path: Path) -> None:
    many = {f"connector/index/m{n}.py": "" for n in range(MOST_MODULES - 1)}
    made_up(tmp_path, many)
    assert crowded(tmp_path) == {"connector/index": MOST_MODULES + 1}
