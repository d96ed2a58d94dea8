"""What an evaluation leaves behind: report.json, a page, run files, values of each query.

The folder of a report: made, and what prevents writing to it said in a line.

Figures that others have published for collections of BEIR; published.json says where.
"""

from __future__ import annotations

import json
import re
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latent_ingest.connector.engine.client import EngineInfo
from latent_ingest.connector.evaluation.page import FORMAT, html
from latent_ingest.connector.evaluation.runs import Run
from latent_ingest.connector.files import disk_errors

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder


def new_report(engine: EngineInfo, encoder: LatentEncoder, measures: list[str]) -> dict[str, Any]:
    """The report of an evaluation that begins; collections are added as they are done."""
    number = ".".join(map(str, engine.version))
    return {
        "format": FORMAT,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "latent_ingest": version("latent-ingest"),
        "engine": {"distribution": engine.distribution, "version": number},
        "model": encoder.name,
        "fingerprint": encoder.fingerprint.digest,
        "measures": measures,
        "collections": [],
    }


class ReportFolder:
    """The folder of a report, which is written again after each collection."""

    def __init__(self, path: Path) -> None:
        """Make the folder; raises InputError if nothing can be written there."""
        self._path = path
        make_folder(path)

    def write(self, report: dict[str, Any], runs: dict[str, Run]) -> None:
        """Write the report, and files of the collection that was added last.

        `COLLECTION.SYSTEM.run` is TREC's form, `COLLECTION.SYSTEM.per_query.json` an object of
        query ids, each with its measures.

        Args:
            report: of all collections so far.
            runs: the answers of each system for the last one.

        Raises:
            InputError: the folder cannot be written.
        """
        collection = report["collections"][-1]
        with writing(self._path):
            for system, run in runs.items():
                stem = f"{collection['name']}.{system}"
                self._text(f"{stem}.run", "".join(trec_lines(run, system)))
                values = collection["systems"][system]["per_query"]
                self._text(f"{stem}.per_query.json", json.dumps(values))
            self._text("report.json", json.dumps(report, indent=1))
            self._text("report.html", html(report))

    def _text(self, name: str, content: str) -> None:
        (self._path / name).write_text(content, encoding="utf-8")


def trec_lines(run: Run, tag: str) -> list[str]:
    """`query Q0 document rank score tag`; white space in ids, which the form lacks, becomes `_`."""
    return [
        f"{joined(query)} Q0 {joined(document)} {rank} {score!r} {tag}\n"
        for query, hits in run.ranking.items()
        for rank, (document, score) in enumerate(hits.items(), 1)
    ]


def joined(name: str) -> str:
    return re.sub(r"\s", "_", name)


def make_folder(path: Path) -> None:
    """Make a folder, and see that it can be written to; raises InputError."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        trial = path / ".trial"
        trial.touch()
        trial.unlink()


def writing(folder: Path) -> AbstractContextManager[None]:
    """Turn what a disk refuses inside the block into an InputError that names `--out`."""
    return disk_errors(f"--out {folder}", "name a folder that can be")


def published(name: str, split: str, n_documents: int, n_queries: int) -> list[dict[str, Any]]:
    """Figures to compare with, none unless documents and queries are those they were made with.

    Args:
        name: of the collection, as of its folder.
        split: of its judgements.
        n_documents: that it has.
        n_queries: that were asked.

    Returns:
        Objects of `system`, `measure`, `value` and `source`.
    """
    stored = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
    sizes = {"documents": n_documents, "queries": n_queries}
    known = [
        key
        for key, size in stored["collections"].items()
        if key in name.lower() and split == stored["split"] and size == sizes
    ]
    return [
        {
            "system": row["system"],
            "measure": stored["measure"],
            "value": row["values"][key],
            "source": row["source"],
        }
        for key in known
        for row in stored["systems"]
    ]
