"""`latent-ingest train` interrupted and killed: the next command resumes and makes a model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from toys import toy_backbone

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.encoder import LatentEncoder


@pytest.fixture
def probe(documents: list[dict[str, str]], tmp_path: Path) -> Path:
    """A judged collection whose questions are the first words of twenty documents."""
    folder = tmp_path / "probe"
    (folder / "qrels").mkdir(parents=True)
    chosen = documents[::4][:20]
    rows = [{"_id": d["_id"], "text": d["text"]} for d in chosen]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [
        {"_id": f"q{i}", "text": " ".join(row["text"].split()[:6])} for i, row in enumerate(rows)
    ]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    judged = "".join(f"q{i}\t{row['_id']}\t1\n" for i, row in enumerate(rows))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return folder


def begin(corpus: Path, probe: Path, *more: str) -> subprocess.Popen[str]:
    command = [
        *(sys.executable, "-c", "from latent_ingest.cli.main import cli; cli()"),
        *("train", str(corpus), "--out", "m", "--cache", "cache", "--probe", str(probe)),
        *("--tokens", "200K", "--batch", "500", "--latents", "256", "--k", "4"),
        *("--dtype", "float32", "--int8", *more),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def last_step() -> int:
    path = Path("m.run/metrics.jsonl")
    lines = path.read_text().splitlines() if path.is_file() else []
    return int(json.loads(lines[-1])["step"]) if lines and lines[-1].endswith("}") else 0


def cut(process: subprocess.Popen[str], after: int, number: signal.Signals) -> str:
    """Send a signal once a step beyond `after` is in the metrics; returns stderr."""
    while last_step() <= after and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(number)
    return process.communicate(timeout=300)[1]


@pytest.mark.slow
def test_a_run_that_is_interrupted_and_killed_resumes(corpus: Path, probe: Path) -> None:
    process = begin(corpus, probe)
    said = cut(process, 0, signal.SIGINT)
    assert process.returncode == 130, said
    assert "finishing work in progress" in said
    kept = last_step()
    assert 0 < kept < 400
    refused = begin(corpus, probe)
    _, said = refused.communicate(timeout=300)
    assert refused.returncode == 2
    assert "a run was interrupted here; continue it with --resume" in said

    process = begin(corpus, probe, "--resume")
    said = cut(process, kept + 10, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, said
    assert not Path("m").exists()

    process = begin(corpus, probe, "--resume", "--json")
    printed, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    report = json.loads(printed)
    assert (report["steps"], report["tokens"]) == (400, 200_000)
    assert len(report["probe_curve"]) == 8
    # A small corpus is trained on for some twenty rounds, which causes a warning.
    assert f"warning: all texts were trained on {report['rounds']} times" in said
    card = Path("m/README.md").read_text()
    assert f"| 200,000 | {report['probe_curve'][-1][1]:.4f} |" in card
    assert report["probe_curve"][-1][1] > 0.3
    steps = [json.loads(line)["step"] for line in Path("m/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert steps[-1] == 400
    assert LatentEncoder.load("m", device="cpu").n_latents == 256
    assert json.loads(Path("m/config.json").read_text())["weights"] == "int8"
    assert not Path("m.run").exists()


def test_csv_is_read_by_ingests_options(tmp_path: Path) -> None:
    """Also what they are for is said: not for pairs, and not without a CSV file."""
    backbone = str(toy_backbone(tmp_path / "backbone"))
    Path("notes.csv").write_text("".join(f"{n};note number {n} of a few\n" for n in range(40)))
    Path("notes.jsonl").write_text('{"text": "bees"}\n')
    csv = ["--delimiter", ";", "--header", "id,text"]
    small = [
        *("--backbone", backbone, "--out", "m", "--tokens", "400", "--latents", "16", "--k", "2"),
        *("--batch", "64", "--device", "cpu", "--dtype", "float32", "--json"),
    ]
    done = CliRunner().invoke(cli, ["train", "notes.csv", *csv, *small])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["skipped_lines"], report["duplicate_texts"]) == (0, 0)
    for wrong, said in (
        (
            ["notes.jsonl", *csv, *small, "--out", "n"],
            "--delimiter is for CSV, and notes.jsonl is not; omit it",
        ),
        (["--from", "minilm-32k", "notes.csv", "--out", "n", *csv], "--delimiter: "),
    ):
        refused = CliRunner().invoke(cli, ["train", *wrong])
        assert refused.exit_code == 2
        assert said in refused.stderr
