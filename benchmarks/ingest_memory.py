"""Peak memory of `latent-ingest` for a corpus, and for larger corpora: ratios.

The corpora are the docstrings of the standard library, about 4,600 documents; ten copies of them
with other ids; and the first corpus with 50 kB more in each document, in a field that is not
encoded. Needs an engine: OPENSEARCH_URL, the local one, or http://localhost:9200.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from command import Benchmark

from latent_ingest.connector.collections.docstrings import standard_library
from latent_ingest.connector.engine.client import Connection, EngineInfo, default_url

INDEX = "benchmark-ingest-memory"
COPIES = 10
PADDING = 50_000


def write(path: Path, copies: int, padding: int) -> int:
    documents = list(standard_library())
    more = {"padding": "not encoded " * (padding // 12)} if padding else {}
    with path.open("w") as file:
        for copy in range(copies):
            for document in documents:
                named = {**document, **more, "_id": f"{document['_id']}-{copy}"}
                file.write(json.dumps(named) + "\n")
    return copies * len(documents)


def peak_megabytes(corpus: Path) -> float:
    """Largest resident set of a run, as the kernel measures it, in MB."""
    client = Connection(default_url()).open()
    client.indices.delete(index=INDEX, ignore_unavailable=True)
    start = "from latent_ingest.cli.main import cli; cli()"
    process = subprocess.Popen([sys.executable, "-c", start, str(corpus), "--index", INDEX])
    _, status, usage = os.wait4(process.pid, 0)
    client.indices.delete(index=INDEX, ignore_unavailable=True)
    if status:
        sys.exit(f"latent-ingest ended with status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


@click.command(cls=Benchmark)
def main() -> None:
    """Print peak memory of ingest for a corpus and for larger ones."""
    EngineInfo.read(Connection(default_url()).open())
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for copies, padding in ((1, 0), (COPIES, 0), (1, PADDING)):
            corpus = Path(folder) / f"stdlib-{copies}-{padding}.jsonl"
            documents = write(corpus, copies, padding)
            peaks.append(peak_megabytes(corpus))
            size = corpus.stat().st_size / 1e6
            print(
                f"{documents:,} documents of {size:,.0f} MB: peak {peaks[-1]:,.0f} MB", flush=True
            )
    print(
        f"{COPIES} times the corpus, {peaks[1] / peaks[0]:.2f} times the memory; with "
        f"{PADDING:,} bytes more in each document, {peaks[2] / peaks[0]:.2f} times"
    )


if __name__ == "__main__":
    main()
