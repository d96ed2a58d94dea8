"""latent-ingest docstrings: the corpus of the demo."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from click.testing import CliRunner

from latent_ingest.cli.main import cli
from latent_ingest.connector.collections.docstrings import from_all_modules, standard_library


def test_a_limit_takes_from_all_modules_alike() -> None:
    done = CliRunner().invoke(cli, ["docstrings", "--limit", "1500"])
    assert done.exit_code == 0, done.stderr
    assert "1,500 docstrings" in done.stderr
    some = [json.loads(line) for line in done.stdout.splitlines()]
    whole = list(standard_library())
    assert from_all_modules(whole, len(whole)) == whole
    texts = {document["text"] for document in some}
    assert [document for document in whole if document["text"] in texts] == some
    assert len(some) == 1500 < len(whole)
    available, taken = (
        Counter(document["_id"].split(".")[0] for document in documents)
        for documents in (whole, some)
    )
    assert available.keys() == taken.keys()
    most = max(taken.values())
    assert all(taken[module] in (available[module], most, most - 1) for module in available)


@pytest.mark.parametrize(
    ("limit", "expected"), [(1, "a"), (3, "a b c"), (4, "a a.x b c"), (9, "a a.x a.y b c c.x")]
)
def test_the_first_of_each_module_then_the_second(limit: int, expected: str) -> None:
    found = [{"_id": name} for name in ["a", "a.x", "a.y", "b", "c", "c.x"]]
    chosen = from_all_modules(found, limit)
    assert [document["_id"] for document in chosen] == expected.split()
