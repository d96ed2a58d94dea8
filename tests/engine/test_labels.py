"""`latent-ingest explain` and `search --explain` show the labels that `inspect` stored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from latent_ingest.cli.main import cli
from latent_ingest.connector import terms
from latent_ingest.connector.encoding.autoencoder import AutoencoderConfig, TokenAutoencoder
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.inspection.labels import LABELS_FILE, read_labels


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [*map(str, arguments), "--device", "cpu"])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_explanations_use_the_labels_of_the_model(
    opensearch_url: str,
    new_index: Any,
    encoder: LatentEncoder,
    corpus: Path,
    generator: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENSEARCH_URL", opensearch_url)
    model = Path("small")
    config = AutoencoderConfig(
        d_in=encoder.backbone.d_in, n_latents=512, k=8, backbone=encoder.backbone.name
    )
    autoencoder = TokenAutoencoder(config)
    autoencoder.initialize(generator)
    autoencoder.save(model)
    index = new_index()
    assert invoke(corpus, "--index", index, "--model", model).exit_code == 0
    document = json.loads(corpus.read_text().splitlines()[0])
    asked = ("explain", document["text"][:60], "--index", index, "--id", document["_id"])
    asked = (*asked, "--model", model, "--json")

    done = invoke("inspect", model, "--sample", corpus, "--tokens", "20K", "--write-labels")
    assert done.exit_code == 0, done.output
    labels = read_labels(model)
    assert labels
    told = json.loads(invoke(*asked).stdout)
    latents = [item for item in told["contributions"] if item["kind"] == "latent"]
    known = [item for item in latents if terms.latent_of(item["term"]) in labels]
    assert len(known) > 3
    for item in known:
        assert item["label"] == labels[terms.latent_of(item["term"])]
    found = invoke("search", document["text"][:60], "--index", index, *asked[6:], "--explain")
    (hit, *_) = json.loads(found.stdout)["hits"]["hits"]
    named = {item["term"]: item["label"] for item in hit["contributions"]}
    assert any(named.get(terms.term(latent)) == label for latent, label in labels.items())

    stored = json.loads((model / LABELS_FILE).read_text())
    (model / LABELS_FILE).write_text(json.dumps({**stored, "fingerprint": "0123456789abcdef"}))
    refused = invoke(*asked)
    assert refused.exit_code == 1
    assert "labels of another model (0123456789abcdef, " in refused.stderr
    shutil.rmtree(model)
