"""Reports: report.json, an HTML page, TREC run files, and values per question."""

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
    """Return the report of a new evaluation; collections are added as they are complete."""
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


def write_report(folder: Path, report: dict[str, Any], runs: dict[str, Run]) -> None:
    """Write the report, and the files of the collection that was added last.

    `COLLECTION.SYSTEM.run` is a TREC run file; `COLLECTION.SYSTEM.per_query.json` maps query ids
    to measures to values. `runs` has the systems' runs on that collection.

    Raises:
        InputError: the folder cannot be written to.
    """
    collection = report["collections"][-1]
    files = {"report.json": json.dumps(report, indent=1), "report.html": html(report)}
    for system, run in runs.items():
        stem = f"{collection['name']}.{system}"
        files[f"{stem}.run"] = "".join(trec_lines(run, system))
        files[f"{stem}.per_query.json"] = json.dumps(collection["systems"][system]["per_query"])
    with writing(folder):
        for name, content in files.items():
            (folder / name).write_text(content, encoding="utf-8")


def trec_lines(run: Run, tag: str) -> list[str]:
    """Format a run as lines `query Q0 document rank score tag`; white space in ids becomes `_`."""
    return [
        f"{joined(query)} Q0 {joined(document)} {rank} {score!r} {tag}\n"
        for query, hits in run.ranking.items()
        for rank, (document, score) in enumerate(hits.items(), 1)
    ]


def joined(name: str) -> str:
    return re.sub(r"\s", "_", name)


def make_folder(path: Path) -> None:
    """Create a folder and check that it can be written to; raises InputError."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        trial = path / ".trial"
        trial.touch()
        trial.unlink()


def writing(folder: Path) -> AbstractContextManager[None]:
    """Turn errors of writing to a folder into InputError that names `--out`."""
    return disk_errors(f"--out {folder}", "name a writable folder")


def published(name: str, split: str, n_documents: int, n_queries: int) -> list[dict[str, Any]]:
    """Return figures that others have published for a BEIR collection; published.json has them.

    There are none unless the numbers of documents and questions are those of the collection.

    Returns:
        Objects with `system`, `measure`, `value` and `source`.
    """
    stored = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
    sizes = {"documents": n_documents, "queries": n_queries}
    return [
        {
            "system": row["system"],
            "measure": stored["measure"],
            "value": row["values"][key],
            "source": row["source"],
        }
        for key, size in stored["collections"].items()
        if key in name.lower() and split == stored["split"] and size == sizes
        for row in stored["systems"]
    ]
