"""Datasets of the Hugging Face hub, by its library and a server that stands in for the hub."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from .hub_server import Hub, printed

FILES = {
    "README.md": b"# A dataset",
    "data/a.jsonl": b'{"_id": "1", "text": "bees"}\n{"_id": "2", "text": "ants"}\n',
    "data/more/b.jsonl": b'{"_id": "3", "text": "wasps"}\n',
    "data/state.json": b"{}",
}

PROGRAM = """
import sys
from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.errors import InputError
try:
    with Corpus(sys.argv[1]) as corpus:
        for line in corpus:
            print(corpus.place(line.number), line.content.decode())
except InputError as error:
    print(error)
"""


def read(source: str, endpoint: str, **variables: str) -> list[str]:
    """The lines of a source, or what is wrong with it, as a process prints them."""
    return printed(PROGRAM, endpoint, source, **variables)


@pytest.mark.parametrize(
    "source", ["hf://datasets/me/set/data/**/*.jsonl", "hf://datasets/me/set/data"]
)
def test_files_of_a_dataset_are_read_over_the_network(source: str) -> None:
    hub = Hub("me/set", FILES)
    with hub.listening() as endpoint:
        lines = read(source, endpoint)
    folder = "hf://datasets/me/set/data"
    assert lines == [
        f'{folder}/a.jsonl: line 1 {{"_id": "1", "text": "bees"}}',
        f'{folder}/a.jsonl: line 2 {{"_id": "2", "text": "ants"}}',
        f'{folder}/more/b.jsonl: line 1 {{"_id": "3", "text": "wasps"}}',
    ]
    assert hub.ranges


def test_parquet_of_a_dataset_is_read_by_parts() -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [{"text": "bees", "more": os.urandom(3000).hex()} for _ in range(2000)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), "a.parquet")
    hub = Hub("me/set", {"a.parquet": Path("a.parquet").read_bytes()})
    with hub.listening() as endpoint:
        lines = read("hf://datasets/me/set/a.parquet", endpoint)
    assert len(lines) == 2000
    assert json.loads(lines[7].split("row 8 ")[1]) == rows[7]
    assert len(hub.ranges) > 1


def test_what_cannot_be_had_is_one_line_that_says_what_to_do() -> None:
    hub = Hub("me/set", FILES, gated="me/gated")
    with hub.listening() as endpoint:
        (gated,) = read("hf://datasets/me/gated/a.jsonl", endpoint)
        (nobody,) = read("hf://datasets/nobody/nothing/a.jsonl", endpoint)
        (missing,) = read("hf://datasets/me/set/c.jsonl", endpoint)
        (none,) = read("hf://datasets/me/set/*.csv", endpoint)
        (offline,) = read("hf://datasets/me/set/data", endpoint, HF_HUB_OFFLINE="1")
    (away,) = read("hf://datasets/me/set/data", endpoint)
    assert gated.startswith("hf://datasets/me/gated/a.jsonl: could not be downloaded: gated")
    assert "'hf auth login'" in gated
    assert "no such dataset or file on the hub; check the name" in nobody
    assert "hf://datasets/me/set/c.jsonl: " in missing
    assert "no such file or folder; check the name" in missing
    assert "no file matches" in none
    assert "HF_HUB_OFFLINE is set; unset it" in offline
    assert f"{endpoint} cannot be reached" in away
    assert "'hf download me/set --repo-type dataset'" in away
