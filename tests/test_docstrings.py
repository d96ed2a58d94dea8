"""latent-ingest docstrings: the corpus of the demo."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from click.testing import CliRunner

from latent_ingest.cli.main import cli
from latent_ingest.connector.collections.docstrings import from_all_modules


def written(*options: str) -> list[dict[str, str]]:
    done = CliRunner().invoke(cli, ["docstrings", *options])
    assert done.exit_code == 0, done.stderr
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert f"{len(documents):,} docstrings" in done.stderr
    return documents


def test_a_limit_takes_from_all_modules_alike() -> None:
    whole, some = written(), written("--limit", "1500")
    assert len(some) == 1500 < len(whole)
    assert [document for document in whole if document in some] == some
    names = [document["_id"] for document in whole]
    assert len(set(names)) > 0.99 * len(names)
    available, taken = (
        Counter(document["_id"].split(".")[0] for document in documents)
        for documents in (whole, some)
    )
    assert available.keys() == taken.keys()
    most = max(taken.values())
    assert all(taken[module] in (available[module], most, most - 1) for module in available)
    assert written("--limit", str(10**6)) == whole


@pytest.mark.parametrize(
    ("limit", "expected"), [(1, "a"), (3, "a b c"), (4, "a a.x b c"), (9, "a a.x a.y b c c.x")]
)
def test_the_first_of_each_module_then_the_second(limit: int, expected: str) -> None:
    found = [{"_id": name} for name in ["a", "a.x", "a.y", "b", "c", "c.x"]]
    chosen = from_all_modules(found, limit)
    assert [document["_id"] for document in chosen] == expected.split()
