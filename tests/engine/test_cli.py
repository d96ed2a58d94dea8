"""The commands against a real engine, as a user or a program calls them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from opensearchpy import OpenSearch

# In batches that take little time.
START = """
from latent_ingest.connector.indexing import batches
batches.MAX_BATCH_LINES = 20
from latent_ingest.cli.main import cli
cli()
"""

Run = Callable[..., Result]


@pytest.fixture
def index(new_index: Any) -> str:
    name: str = new_index()
    return name


def write(*rows: str) -> Path:
    path = Path("corpus.jsonl")
    path.write_text("".join(row + "\n" for row in rows))
    return path


GOOD = '{"_id": "bees", "title": "Honey", "text": "Insects dance to tell where nectar is."}'
OTHER = '{"_id": "bank", "text": "The bank raised its interest rate on mortgages."}'


def test_search_with_feedback_and_like_a_document(run: Run, index: str) -> None:
    rows = [
        json.dumps({"_id": f"bees{n}", "text": f"Insects dance to tell where nectar is, part {n}."})
        for n in range(4)
    ]
    run(write(*rows, OTHER), "--index", index)
    done = run("search", "flowers and bees", "--index", index, "--feedback", "--explain")
    assert done.exit_code == 0, done.stderr
    assert " from bees" in done.stdout
    answer = json.loads(
        run("search", "flowers and bees", "--index", index, "--feedback", "--json").stdout
    )
    assert len(answer["feedback"]["documents"]) == 3
    assert answer["feedback"]["terms"]
    options = ("--index", index, "--id", "bees0", "--feedback", "--all")
    explained = run("explain", "flowers and bees", *options)
    assert explained.exit_code == 0, explained.stderr
    assert " from bees" in explained.stdout
    like = json.loads(run("search", "--like", "bees2", "--index", index, "--json").stdout)
    found = [hit["_id"] for hit in like["hits"]["hits"]]
    assert set(found[:3]) == {"bees0", "bees1", "bees3"}
    shown = run("search", "--like", "bees2", "--index", index, "--explain", "--highlight")
    assert shown.exit_code == 0, shown.stderr
    assert "bees2" not in shown.stdout.replace("from bees2", "")
    asked = run("search", "mortgages", "--like", "bees2", "--index", index)
    assert asked.exit_code == 0, asked.stderr
    for wrong, said in (
        (("search", "--like", "nobody"), "no document 'nobody'"),
        (("search", "bees", "--feedback", "--compare"), "use one of them"),
        (("search", "bees", "--feedback", "--like", "bees1"), "use one of them"),
        (("search",), "the question is empty"),
    ):
        refused = run(*wrong, "--index", index)
        assert refused.exit_code == 2
        assert said in refused.stderr


def test_the_way_through(run: Run, index: str, client: OpenSearch) -> None:
    """FILE alone is ingest; then search and rewrite, for people and for programs."""
    done = run(write(GOOD, OTHER), "--index", index)
    assert done.exit_code == 0, done.stderr
    assert f"index {index}: 2 documents indexed in" in done.stdout
    assert "2 lines = 2 indexed" in done.stdout
    assert "kB per document, 2 documents" in done.stdout

    found = run("search", "flowers and bees", "--index", index)
    assert found.exit_code == 0
    first, second, *_ = found.stdout.splitlines()
    assert first.split()[2:] == ["bees", "Honey"]
    assert second.strip() == "Insects dance to tell where nectar is."

    answer = json.loads(run("search", "flowers and bees", "--index", index, "--json").stdout)
    assert answer["hits"]["hits"][0]["_id"] == "bees"
    assert "latent" not in answer["hits"]["hits"][0]["_source"]

    body = json.loads(run("rewrite", "flowers and bees", "--index", index).stdout)
    assert client.search(index=index, body=body)["hits"]["hits"] == answer["hits"]["hits"]


def test_compare_shows_words_latents_and_hybrid(run: Run, index: str) -> None:
    run(write(GOOD, OTHER), "--index", index)
    shown = run("search", "flowers and bees", "--index", index, "--compare").stdout
    words, latent = shown.index("words:"), shown.index("latent:")
    assert words < latent < shown.index("hybrid:")
    assert "no hits" in shown[words:latent]


def test_json_is_one_object_on_stdout(run: Run, index: str) -> None:
    done = run("ingest", write(GOOD, "broken", OTHER), "--index", index, "--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert (report["lines"], report["indexed"], report["failed"]) == (3, 2, 1)
    assert report["tokens_per_second"] > 0
    assert report["failures_file"] == "corpus.failed.jsonl"
    assert "corpus.jsonl: line 2: not JSON" in done.stderr


def test_standard_input(run: Run, index: str, client: OpenSearch) -> None:
    done = run("-", "--index", index, input=f"{GOOD}\n{OTHER}\n")
    assert done.exit_code == 0, done.stderr
    assert client.count(index=index)["count"] == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_read_once(run: Run, index: str, client: OpenSearch) -> None:
    os.mkfifo("pipe")
    write_it = threading.Thread(target=Path("pipe").write_text, args=(f"{GOOD}\nbroken\n",))
    write_it.start()
    done = run("pipe", "--index", index)
    write_it.join()
    assert "2 lines = 1 indexed + 1 failed" in done.stdout
    assert f"failures: {index}.failed.jsonl" in done.stdout
    assert client.count(index=index)["count"] == 1
    refused = run("verify", "pipe", "--index", index)
    assert (refused.exit_code, "pipe can be read only once" in refused.stderr) == (2, True)


def test_other_fields_and_filters(run: Run, index: str) -> None:
    rows = [
        '{"pmid": 1, "abstract": "Insects dance to tell where nectar is.", "year": 2020}',
        '{"pmid": 2, "abstract": "Insects dance to tell where nectar is.", "year": 2024}',
    ]
    options = ("--index", index, "--text-fields", "abstract", "--id-field", "pmid")
    assert run(write(*rows), *options).exit_code == 0
    clause = '{"term": {"year": 2024}}'
    found = run("search", "bees", "--index", index, "--filter", clause, "--json").stdout
    assert [hit["_id"] for hit in json.loads(found)["hits"]["hits"]] == ["2"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["none.jsonl"], 2, "none.jsonl: no such file; check the path"),
        (["serach", "bees"], 2, "no command or file 'serach'; did you mean 'search'?"),
        (["*.parquet"], 2, "*.parquet: no file matches; check the pattern"),
        (["corpus.jsonl", "--url", "localhost:9200"], 2, "not a URL; write http://host:9200"),
        (["corpus.jsonl", "--url", "http://127.0.0.1:1"], 1, "latent-ingest engine up"),
        (["corpus.jsonl", "--url", "HTTPS"], 1, "TLS failure at https://"),
        (["corpus.jsonl", "--user", "me"], 2, "--user needs --password-env"),
        (["corpus.jsonl", "--user", "me", "--password-env", "NO_SUCH"], 2, "no such environment"),
        (["corpus.jsonl", "--model", "no-model"], 1, "no-model: no such model folder"),
        (["corpus.jsonl", "--scale", "0"], 2, "scale 0.0: must be above 0"),
        (["corpus.jsonl", "--failures", "no/f.jsonl"], 2, "no/f.jsonl: cannot be written: No such"),
        (["corpus.jsonl", "--text-fields", ","], 2, "write at least one name"),
        (["corpus.jsonl", "--colour", "red"], 2, "No such option '--colour'"),
        (
            ["search", "bees", "--index", "latent-ingest-test-none"],
            1,
            "make it with 'latent-ingest",
        ),
        (["search", " "], 2, "the question is empty"),
        (["search", "bees", "--filter", "{"], 2, "not JSON"),
        (["search", "bees", "--filter", "[]"], 2, "write an object"),
        (["rewrite", "bees", "--form", "magic"], 2, "'magic' is not one of"),
        (["evaluate", "."], 2, "neither queries.jsonl and qrels/*.tsv (BEIR layout)"),
        (["evaluate", ".", "--systems", "words,magic"], 2, "'magic': use some of"),
        (["train", "none.jsonl", "--out", "m"], 2, "none.jsonl: no such file"),
        (["train", "corpus.jsonl", "--out", "m", "--tokens", "many"], 2, "500K or 3M"),
        (["train", "corpus.jsonl", "--out", "m", "--tokens", "9"], 2, "fewer than one batch"),
        (["train", "corpus.jsonl", "--out", "m", "--k", "99999"], 2, "must be 1 to the number"),
        (["train", "corpus.jsonl", "--out", "m", "--activation", "relu"], 2, "is not one of"),
        (["train", "corpus.jsonl=x", "--out", "m"], 2, "'x' is not a weight; write FILE=2"),
        (["train", "corpus.jsonl", "--out", "."], 2, "already exists; name another folder"),
        (["train", "corpus.jsonl", "--out", "m", "--text-fields", "body"], 2, "no texts; fields"),
        (["train", "corpus.jsonl", "--out", "m", "--backbone", "no/such/one"], 1, "no such folder"),
        (["train", "corpus.jsonl", "--out", "m", "--device", "abacus"], 1, "use auto, cuda, mps"),
    ],
)
def test_wrong_input_is_one_clear_line(
    run: Run, opensearch_url: str, arguments: list[str], status: int, message: str
) -> None:
    write(GOOD)
    tls = opensearch_url.replace("http://", "https://")
    done = run(*[tls if argument == "HTTPS" else argument for argument in arguments])
    assert done.exit_code == status, done.stderr
    error = done.stderr.splitlines()[-1]
    assert error.startswith("Error: ")
    assert message in error


def test_an_unknown_backbone_of_a_model_without_a_network_is_said(run: Run) -> None:
    import torch

    from latent_ingest.connector.encoding.autoencoder import AutoencoderConfig, TokenAutoencoder

    config = AutoencoderConfig(d_in=8, n_latents=16, k=2, backbone="nobody/nothing")
    autoencoder = TokenAutoencoder(config)
    autoencoder.initialize(torch.Generator().manual_seed(0))
    autoencoder.save(Path("m"))
    done = run(write(GOOD), "--model", "m")
    assert done.exit_code == 1
    assert "nobody/nothing: not a folder, not in the Hugging Face cache" in done.stderr


def test_train_makes_a_model_that_works_everywhere(run: Run, index: str, corpus: Path) -> None:
    options = ("--latents", 256, "--k", 8, "--tokens", "5K", "--learning-rate", 0.01)
    done = run("train", corpus, "--out", "my-model", *options, "--json")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["tokens"] == 4096
    assert 0 < report["normalized_mse"] < 1.2
    card = Path("my-model/README.md").read_text()
    assert f"`latent-ingest train {corpus.name} --out my-model --latents 256" in card
    assert run(write(GOOD, OTHER), "--index", index, "--model", "my-model").exit_code == 0
    found = run("search", "bees", "--index", index, "--model", "my-model", "--form", "latent")
    assert found.exit_code == 0
    refused = run("search", "bees", "--index", index)
    assert refused.exit_code == 1
    assert "was made by model my-model" in refused.stderr


@pytest.mark.parametrize("form", ["folder", "standard input"])
def test_train_reads_folders_and_standard_input(run: Run, corpus: Path, form: str) -> None:
    options = ("--latents", 64, "--k", 4, "--tokens", "1K", "--batch", 256)
    if form == "folder":
        done = run("train", f"{corpus.parent}=2", "--out", "m", *options)
    else:
        done = run("train", "-", "--out", "m", *options, input=corpus.read_text())
    assert done.exit_code == 0, done.stderr
    assert Path("m/config.json").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_ingest_ends_in_good_order(
    index: str,
    client: OpenSearch,
    opensearch_url: str,
    documents: list[dict[str, str]],
    number: signal.Signals,
) -> None:
    """Ctrl-C or SIGTERM: indexed documents stay, counts add up, refresh is restored, status 130."""
    with Path("corpus.jsonl").open("w") as file:
        for line in range(100_000):
            text = documents[line % len(documents)]["text"]
            file.write(json.dumps({"_id": line, "text": text}) + "\n")
    process = subprocess.Popen(
        [sys.executable, "-c", START, "corpus.jsonl", "--index", index, "--json"],
        env={**os.environ, "OPENSEARCH_URL": opensearch_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not holds_documents(client, index):
        time.sleep(0.2)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    report = json.loads(out)
    assert report["stopped"] == "interrupted"
    assert 0 < report["indexed"] == report["lines"] < 100_000
    assert client.count(index=index)["count"] == report["indexed"]
    assert b"Traceback" not in err
    settings = client.indices.get_settings(index=index)[index]["settings"]["index"]
    assert "refresh_interval" not in settings


def holds_documents(client: OpenSearch, index: str) -> bool:
    if not client.indices.exists(index=index):
        return False
    stats = client.indices.stats(index=index, metric="indexing")["_all"]["primaries"]
    return bool(stats["indexing"]["index_total"])
