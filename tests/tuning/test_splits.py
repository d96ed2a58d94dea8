"""Splits of folders in BEIR and TREC layout into queries that choose and queries that report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.tuning.splits import Split, split_of


def beir(folder: Path, **judged: range) -> Path:
    """Numbers of the queries that each file judges."""
    (folder / "qrels").mkdir(parents=True)
    rows = [json.dumps({"_id": f"q{n}", "text": f"bee {n}"}) for n in range(300)]
    (folder / "queries.jsonl").write_text("\n".join(rows))
    for name, numbers in judged.items():
        lines = "".join(f"q{n}\td{n}\t1\n" for n in numbers)
        (folder / "qrels" / f"{name}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{lines}")
    return folder


def split(folder: Path, split: str | None = None, report: str | None = None) -> Split:
    return split_of(str(folder), split, report)


def names(split: Split) -> tuple[set[str], set[str]]:
    assert split.held_out is not None
    return set(split.development.queries), set(split.held_out.queries)


def test_queries_of_both_files_report_and_do_not_choose(tmp_path: Path) -> None:
    found = split(beir(tmp_path / "c", dev=range(50), test=range(30, 90)))
    choose, report = names(found)
    assert choose == {f"q{n}" for n in range(30)} == set(found.development.qrels)
    assert report == {f"q{n}" for n in range(30, 90)}
    assert "30 queries of dev, without 20 that are also in test" in found.description
    with pytest.raises(InputError, match="5 queries with a relevant document; tuning needs 10"):
        split(beir(tmp_path / "few", dev=range(35), test=range(5, 90)))


def test_one_file_is_halved(tmp_path: Path) -> None:
    found = split(beir(tmp_path / "c", train=range(120)))
    choose, report = names(found)
    assert (len(choose), len(report), choose & report) == (60, 60, set())
    assert "qrels/train.tsv" in found.description


def test_errors_name_missing_judgement_files(tmp_path: Path) -> None:
    folder = beir(tmp_path / "c", dev=range(50), all=range(60))
    with pytest.raises(
        InputError, match=r"no qrels/tset.tsv; name one with --report \(existing: all"
    ):
        split(folder, "dev", "tset")
    with pytest.raises(
        InputError, match=r"no qrels/dve.tsv; name one with --split \(existing: all"
    ):
        split(folder, "dve")
    other = beir(tmp_path / "other", all=range(60))
    with pytest.raises(
        InputError, match=r"no qrels/test.tsv; name one with --split \(existing: all"
    ):
        split(other)
    with pytest.raises(InputError, match="no such folder"):
        split(tmp_path / "nowhere")


def test_collections_of_trec_are_halved(tmp_path: Path) -> None:
    (tmp_path / "topics.txt").write_text("".join(f"{n}\tbee {n}\n" for n in range(110)))
    (tmp_path / "qrels.txt").write_text("".join(f"{n} 0 d{n} 1\n" for n in range(110)))
    choose, report = names(split(tmp_path))
    assert (len(choose), len(report)) == (55, 55)
    with pytest.raises(
        InputError, match=r"no qrels/dev.tsv; name one with --split \(existing: none"
    ):
        split(tmp_path, "dev")
