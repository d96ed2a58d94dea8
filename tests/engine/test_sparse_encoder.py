"""A model trained by sentence-transformers' own trainer is served by the engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from datasets import Dataset
from opensearchpy import OpenSearch
from sentence_transformers import (
    SparseEncoder,
    SparseEncoderTrainer,
    SparseEncoderTrainingArguments,
)

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.hub import DEFAULT_BACKBONE
from latent_ingest.connector.evaluation.measures import mean_ndcg
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.sentence_transformers import (
    LatentBM25Evaluator,
    SparseAutoEncoderTokenEncoder,
    SparseTokenPooling,
    TokenReconstructionLoss,
    load_transformer,
)


@pytest.fixture(scope="module")
def trained(
    documents: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[SparseEncoder, Path]:
    """A model built from the modules, trained for some seconds, and its folder."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("trained")
    modules = [
        load_transformer(DEFAULT_BACKBONE),
        SparseAutoEncoderTokenEncoder(384, 2048, k=16),
        SparseTokenPooling(2048),
    ]
    model = SparseEncoder(modules=modules, device="cpu")
    settings = SparseEncoderTrainingArguments(
        str(folder / "run"), num_train_epochs=2, learning_rate=1e-2, save_strategy="no",
        report_to=[], use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    data = Dataset.from_dict({"text": [document["text"] for document in documents]})
    loss = TokenReconstructionLoss(model)
    SparseEncoderTrainer(model, settings, data, loss=loss).train()
    model.save_pretrained(str(folder / "model"))
    return model, folder / "model"


@pytest.mark.slow
def test_it_finds_its_documents_and_as_well_as_its_evaluator_said(
    client: OpenSearch,
    opensearch_url: str,
    trained: tuple[SparseEncoder, Path],
    documents: list[dict[str, str]],
    corpus: Path,
    request: pytest.FixtureRequest,
) -> None:
    model, folder = trained
    index = "latent-ingest-test-sparse-encoder"
    request.addfinalizer(lambda: client.indices.delete(index=index, ignore=[404]))
    options = ["--url", opensearch_url, "--index", index, "--model", str(folder)]
    fields = ["--text-fields", "text", "--long", "truncate", "--dtype", "float32"]
    done = CliRunner().invoke(cli, [str(corpus), *options, *fields, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["indexed"] == len(documents)

    texts = {document["_id"]: document["text"] for document in documents}
    questions = {f"about {name}": " ".join(text.split()[2:7]) for name, text in texts.items()}
    relevant = {question: {question.removeprefix("about "): 1} for question in questions}
    (said,) = [
        value
        for name, value in LatentBM25Evaluator(questions, texts, relevant)(model).items()
        if name == "bm25_ndcg@10"
    ]
    encoder = LatentEncoder.load(folder, device="cpu", dtype="float32")
    rewriter = QueryRewriter.from_index(client, index, encoder)
    ranking: dict[str, dict[str, float]] = {}
    for question, text in questions.items():
        body: dict[str, Any] = rewriter.rewrite(text, form="latent", size=100)
        hits = client.search(index=index, body=body)["hits"]["hits"]
        ranking[question] = {hit["_id"]: hit["_score"] for hit in hits}
    assert mean_ndcg(relevant, ranking) == pytest.approx(said, abs=1e-6)
    # Not a sign of learning: among so few documents untrained directions find as much.
    assert said > 0.8

    asked = CliRunner().invoke(cli, ["search", texts[documents[5]["_id"]][:60], *options, "--json"])
    assert asked.exit_code == 0, asked.output
    assert json.loads(asked.stdout)["hits"]["hits"][0]["_id"] == documents[5]["_id"]
