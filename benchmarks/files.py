"""CPU time of reading documents from each format, as a ratio to JSON lines. Needs no engine.

The documents are the docstrings of the standard library, four times with other ids. `lines alone`
is `CorpusFile`, which reads JSON lines without folders, formats or places.
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
from command import Benchmark

from latent_ingest.connector.collections.docstrings import standard_library
from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.corpus_file import CorpusFile
from latent_ingest.connector.document import parse_line

COPIES = 4
ROUNDS = 9


def write(documents: list[dict[str, Any]]) -> dict[str, Path]:
    """Write the documents in each format, in the current folder."""
    table = pa.Table.from_pylist(documents)
    lines = [json.dumps(document) for document in documents]
    Path("c.jsonl").write_text("\n".join(lines) + "\n")
    Path("c.json").write_text("[" + ",\n".join(lines) + "]")
    with Path("c.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(documents[0]))
        writer.writeheader()
        writer.writerows(documents)
    with Path("c.ndjson").open("w") as file:
        for document in documents:
            fields = {name: value for name, value in document.items() if name != "_id"}
            action = {"index": {"_id": document["_id"]}}
            file.write(f"{json.dumps(action)}\n{json.dumps(fields)}\n")
    pyarrow.parquet.write_table(table, "c.parquet")
    pyarrow.feather.write_feather(table, "c.arrow")
    return {
        "JSON array": Path("c.json"),
        "CSV": Path("c.csv"),
        "bulk request": Path("c.ndjson"),
        "Parquet": Path("c.parquet"),
        "Arrow": Path("c.arrow"),
    }


def seconds(opened: Corpus | CorpusFile, number: int) -> float:
    """CPU seconds to read and parse every document."""
    started = time.process_time()
    with opened as file:
        read = sum(hasattr(parse_line(line), "fields") for line in file)
    assert read == number, (opened.name, read)
    return time.process_time() - started


@click.command(cls=Benchmark)
def main() -> None:
    """Print the CPU time of reading each format, JSON lines = 1."""
    documents = [
        {**document, "_id": f"{document['_id']}-{copy}"}
        for copy in range(COPIES)
        for document in standard_library()
    ]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        paths = write(documents)
        ratios: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            usual = seconds(Corpus("c.jsonl"), len(documents))
            alone = seconds(CorpusFile("c.jsonl"), len(documents))
            ratios.setdefault("lines alone", []).append(alone / usual)
            for name, path in paths.items():
                taken = seconds(Corpus(path), len(documents))
                ratios.setdefault(name, []).append(taken / usual)
        os.chdir("/")
    print(f"{len(documents):,} documents, {ROUNDS} rounds: CPU time of reading, JSON lines = 1")
    for name, found in ratios.items():
        print(f"{name:13}{statistics.median(found):5.2f}  ({min(found):.2f} to {max(found):.2f})")


if __name__ == "__main__":
    main()
