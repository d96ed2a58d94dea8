"""The command `latent-ingest inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from toys import PROMPTS, TEXTS, toy_backbone, toy_model

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.inspection.labels import LABELS_FILE, read_labels


def run(*arguments: object) -> Result:
    options = ["--device", "cpu", "--dtype", "float32"]
    result = CliRunner().invoke(cli, ["inspect", *map(str, arguments), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def refused(*arguments: object) -> str:
    """The last line of the message about wrong input."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    return result.stderr.strip().splitlines()[-1]


def test_the_report_of_a_model(small_model: Any, corpus: Path) -> None:
    """As a table and as JSON, with random directions for comparison."""
    model = small_model()
    sample = ("--sample", corpus, "--tokens", "3K", "--baseline")
    shown = run(model, *sample)
    assert shown.exit_code == 0, shown.stderr
    told = json.loads(run(model, *sample, "--json").stdout)
    assert told["model"] == "small"
    assert told["sample"]["sources"] == [corpus.name]
    assert told["sample"]["tokens"] > 2500
    assert len(told["latents"]) == 20
    frequencies = [row["document_frequency"] for row in told["latents"]]
    assert frequencies == sorted(frequencies, reverse=True)
    assert told["vocabulary"]["words"]["terms"] > 300
    assert 0 < told["vocabulary"]["latents"]["terms"] <= 512
    assert told["baseline"]["latents"] != told["vocabulary"]["latents"]
    assert told["baseline"]["words"] == told["vocabulary"]["words"]

    lines = shown.stdout.splitlines()
    assert lines[0].startswith(f"small in {told['sample']['texts']} texts, ")
    assert lines[2].split() == ["latents", "random", "words"]
    slopes = next(line for line in lines if line.startswith("slope"))
    own = told["vocabulary"]
    assert slopes.split()[1] == f"{own['latents']['slope']:.2f}"
    assert slopes.split()[3] == f"{own['words']['slope']:.2f}"
    assert [line.split()[0] for line in lines[-20:]] == [
        str(row["latent"]) for row in told["latents"]
    ]
    assert "\x1b" not in shown.stdout


def test_one_latent_in_full(small_model: Any, corpus: Path) -> None:
    model = small_model()
    sample = ("--sample", corpus, "--tokens", "2K")
    told = json.loads(run(model, *sample, "--latent", 7, "--latent", 9, "--json").stdout)
    assert [row["latent"] for row in told["latents"]] == [7, 9]
    row = told["latents"][0]
    assert row["document_frequency"] > 0
    shown = run(model, *sample, "--latent", 7)
    assert shown.exit_code == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("latent 7: ")
    assert lines[1].startswith(f"fires in {row['document_frequency']} of ")
    assert lines[3].split()[0] == row["words"][0]["word"]
    assert len(row["contexts"]) == len([line for line in lines if "[" in line and "]" in line])


def test_the_latents_of_a_text(small_model: Any, encoder: LatentEncoder) -> None:
    """No sample is read; the labels of the model are shown."""
    text = "Vitamin D prevents falls"
    told = json.loads(run("--text", text, "--json").stdout)
    vectors = encoder.encode([text])
    assert {row["latent"] for row in told["text"]} == set(vectors.indices.tolist())
    pooled = dict(zip(vectors.indices.tolist(), vectors.values.tolist(), strict=True))
    assert "sample" not in told
    for row in told["text"]:
        assert row["activation"] == pytest.approx(pooled[row["latent"]], rel=1e-3, abs=1e-3)
        summed = sum(word["activation"] for word in row["words"])
        assert summed == pytest.approx(row["activation"])
        for word in row["words"]:
            assert text[word["start"] : word["end"]] == word["word"]
    strengths = [row["activation"] for row in told["text"]]
    assert strengths == sorted(strengths, reverse=True)

    model = small_model()
    (model / LABELS_FILE).write_text(json.dumps({str(i): f"label {i}" for i in range(512)}))
    shown = run(model, "--text", text).stdout.splitlines()
    assert shown[0].split() == ["term", "activation", "means", "fired", "by"]
    latent = shown[1].split()[0].removeprefix("f")
    assert f"label {latent} " in shown[1]
    assert refused("--text", " ").endswith("the text is empty; write some words")


def test_a_text_is_read_as_a_question(tmp_path: Path) -> None:
    """With the backbone's prompt for questions, as in `explain`."""
    backbone = toy_backbone(tmp_path / "backbone", prompts=PROMPTS)
    model = toy_model(tmp_path / "model", backbone)
    told = json.loads(run(model, "--text", TEXTS[0], "--json").stdout)
    found = {row["latent"]: row["activation"] for row in told["text"]}
    vectors = LatentEncoder.load(model, device="cpu", dtype="float32")
    wanted, other = (vectors.encode([TEXTS[0]], kind=kind) for kind in ("query", "document"))
    assert found == pytest.approx(
        dict(zip(wanted.indices.tolist(), wanted.values.tolist(), strict=True)), rel=1e-3
    )
    assert sum(found.values()) != pytest.approx(other.values.sum(), rel=1e-3)


def test_labels_are_stored_and_read(small_model: Any, corpus: Path) -> None:
    model = small_model()
    done = run(model, "--sample", corpus, "--tokens", "8K", "--write-labels", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    labels = read_labels(model, told["fingerprint"])
    assert len(labels) == told["vocabulary"]["labels"]["labelled"] > 51
    for row in told["latents"]:
        assert labels.get(row["latent"], "") == row["label"]
    stored = json.loads((model / LABELS_FILE).read_text())
    assert stored["sample"] == told["sample"]

    other = small_model("other", seed=1)
    (other / LABELS_FILE).write_text((model / LABELS_FILE).read_text())
    line = run(other, "--text", "falls")
    assert line.exit_code == 1
    assert f"labels of another model ({told['fingerprint']}, this one is " in line.stderr
    assert len(line.stderr.splitlines()) == 1


def test_a_page_is_written(small_model: Any, corpus: Path) -> None:
    """With neighbours by direction if the model has its decoder."""
    for name, decoder, near in (("with", True, "direction"), ("without", False, "texts in")):
        model = small_model(name, decoder=decoder)
        done = run(model, "--sample", corpus, "--tokens", "2K", "--html", f"{name}.html")
        assert done.exit_code == 0, done.stderr
        assert f"{name}.html: " in done.stderr
        text = Path(f"{name}.html").read_text(encoding="utf-8")
        assert f"by {near}" in text
        assert f"<title>{name} in " in text


def test_wrong_input_gives_one_line(small_model: Any, corpus: Path) -> None:
    model = small_model()
    for number in (512, -1):
        line = refused(model, "--latent", number)
        assert line.endswith(f"--latent {number}: small has 512 latents, from 0 to 511")
    line = refused(model, "--sample", corpus, "--tokens", 200, "--write-labels")
    assert "the sample is too small for labels" in line
    assert "use more --tokens" in line
    assert "no such folder" in refused(model, "--html", "nowhere/report.html")
    Path("empty.jsonl").write_text("")
    assert "empty.jsonl: no texts" in refused(model, "--sample", "empty.jsonl")
    assert "nope.jsonl" in refused(model, "--sample", "nope.jsonl")
    gone = run("no-such-model")
    assert gone.exit_code == 1
    assert "no-such-model: no such model folder" in gone.stderr
