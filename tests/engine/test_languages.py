"""Texts in other languages: tiny models of three architectures, and the engines' own analyzers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from architectures import SAMPLE, write_backbone
from click.testing import CliRunner
from opensearchpy import OpenSearch
from toys import toy_model

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.inspection.highlight import Highlighter
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.scoring import Form

# Analyzer, text, and its terms on every engine that the tests have, without a plugin.
ANALYZED = {
    "cjk": ("維生素預防", ["維生", "生素", "素預", "預防"]),
    "thai": ("วิตามินป้องกันการหกล้ม", ["วิตามิน", "ป้องกัน", "หกล้ม"]),
    "arabic": ("الدراسات", ["دراس"]),
    "german": ("Krankenversicherungskarten", ["krankenversicherungskart"]),
    "standard": ("維生素", ["維", "生", "素"]),
}

# Analyzers that need a plugin: refused by an engine that lacks it.
PLUGINS = ("kuromoji", "smartcn", "nori")

# A decompounder needs a list of words, so it is in the index's settings.
DECOMPOUNDING = {
    "analysis": {
        "filter": {
            "parts": {
                "type": "dictionary_decompounder",
                "word_list": ["kranken", "versicherung", "karte", "dampf", "schiff", "fahrt"],
            },
            "stems": {"type": "stemmer", "language": "light_german"},
        },
        "analyzer": {
            "german_words": {
                "type": "custom",
                "tokenizer": "standard",
                "filter": ["lowercase", "parts", "german_normalization", "stems"],
            }
        },
    }
}


def terms(client: OpenSearch, analyzer: str, text: str, index: str | None = None) -> list[str]:
    answer = client.indices.analyze(index=index, body={"analyzer": analyzer, "text": text})
    return [token["token"] for token in answer["tokens"]]


def test_analyzers_that_the_docs_name_are_in_every_engine(either: OpenSearch, root: Path) -> None:
    page = (root / "docs" / "backbones.md").read_text()
    for analyzer, (text, expected) in ANALYZED.items():
        assert terms(either, analyzer, text) == expected, analyzer
        assert f"`{analyzer}`" in page
    for analyzer in PLUGINS:
        answer = either.transport.perform_request(
            "POST", "/_analyze", body={"analyzer": analyzer, "text": "a"}, params={"ignore": 400}
        )
        assert answer["status"] == 400
        assert f"`{analyzer}`" in page


def test_an_analyzer_of_a_template_decompounds(
    client: OpenSearch, index: str, opensearch_url: str, tmp_path: Path
) -> None:
    """`--analyzer` takes every analyzer that the new index has, one of a template, too."""
    model = toy_model(tmp_path / "m", write_backbone(tmp_path / "XLM-R", "XLM-R"))
    name = f"t-{index}"
    body = {"index_patterns": [index], "template": {"settings": DECOMPOUNDING}, "priority": 9}
    client.indices.put_index_template(name=name, body=body)
    try:
        lines = [{"_id": "1", "text": "Krankenversicherungskarten"}, {"_id": "2", "text": "Hund"}]
        Path("corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        done = CliRunner().invoke(cli, [
            "corpus.jsonl", "--url", opensearch_url, "--index", index, "--model", str(model),
            "--analyzer", "german_words", "--no-questions",
        ])  # fmt: skip
        assert done.exit_code == 0, done.output
        found = terms(client, "german_words", "Krankenversicherungskarten", index)
        assert {"versicherung", "krankenversicherungskart"} <= set(found)
        client.indices.refresh(index=index)
        hits = client.search(index=index, body={"query": {"match": {"words": "Versicherung"}}})
        assert [hit["_id"] for hit in hits["hits"]["hits"]] == ["1"]
    finally:
        client.indices.delete_index_template(name=name)


@pytest.mark.parametrize("name", ["XLM-R", "EmbeddingGemma", "Qwen3-Embedding"])
def test_every_language_is_found_and_highlighted(
    client: OpenSearch, index: str, load: Any, tmp_path: Path, name: str
) -> None:
    """A text that is asked for with its own words comes first; marked words are its own."""
    model = toy_model(tmp_path / "m", write_backbone(tmp_path / name, name))
    encoder = LatentEncoder.load(model, device="cpu", dtype="float32")
    lines = [json.dumps({"_id": key, "text": text}) for key, text in SAMPLE.items()]
    report = load(client, index, lines, encoder=encoder, wanted={"analyzer": "cjk"})
    assert report.indexed == len(SAMPLE)
    rewriter = QueryRewriter.from_index(client, index, encoder)
    for key, text in SAMPLE.items():
        body = rewriter.rewrite(text, form=Form("hybrid"))
        hits = client.search(index=index, body=body)["hits"]["hits"]
        assert hits[0]["_id"] == key
        fragments = Highlighter(rewriter, text, escape=str).highlight(text)
        assert fragments
        for fragment in fragments:
            assert fragment.replace("<em>", "").replace("</em>", "") in text
            assert "<em>" in fragment
