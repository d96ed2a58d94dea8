"""What an evaluation leaves behind: report.json, a page, run files, values of each query."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latent_ingest.connector.client import EngineInfo
from latent_ingest.connector.evaluation.folder import make_folder, writing
from latent_ingest.connector.evaluation.page import FORMAT, html
from latent_ingest.connector.evaluation.searches import Run

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
