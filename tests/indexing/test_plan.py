"""The plan of an index: from a sample of the corpus, each figure as its formula says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from toys import toy_backbone, toy_model

from latent_ingest.cli.main import cli
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.indexing.planning import sample as sampling
from latent_ingest.connector.indexing.planning.plan import IndexPlan
from latent_ingest.connector.indexing.planning.sample import sample_corpus

NAMED = {"id_fields": ("_id",), "text_fields": ("title", "text")}


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Result]:
    """The command with a toy model, over two files of 150 documents each and a bad line."""
    toy_model(tmp_path / "model", toy_backbone(tmp_path / "backbone"))
    for name in "ab":
        rows = [json.dumps({"_id": str(n), "text": "find files in trees"}) for n in range(150)]
        Path(f"{name}.jsonl").write_text("\n".join([*rows, ""]) + "\n")

    def run(*arguments: str) -> Result:
        named = ["plan", "a.jsonl", "b.jsonl", "--model", str(tmp_path / "model")]
        result = CliRunner().invoke(cli, [*named, *arguments])
        assert not result.exception or isinstance(result.exception, SystemExit)
        return result

    return run


def test_each_figure_is_as_its_formula_says(plan: Callable[..., Result]) -> None:
    given = ["--gpu-tokens-per-second", "500K", "--gpus", "8", "--price-per-hour", "2"]
    found = json.loads(plan("--for", "100M", "--documents", "120", *given, "--json").stdout)
    assert (found["documents"], found["sampled"]) == (100_000_000, 120)
    assert found["tokens"] == 4 * 100_000_000
    assert found["hours"] == pytest.approx(found["tokens"] / found["tokens_per_second"] / 3600)
    assert found["gpu_hours"] == pytest.approx(4e8 / 500e3 / 3600)
    assert found["price"] == pytest.approx(2 * found["gpu_hours"])
    assert found["primary_bytes"] == pytest.approx(sum(found["bytes"].values()))
    assert found["shards"] == -(-found["primary_bytes"] // 40e9)
    printed = plan("--documents", "50").stdout
    assert "documents   300 (all were read)" in printed
    assert "GPU         tokens / --gpu-tokens-per-second, as you measure it" in printed
    assert "money       hours of encoding x --price-per-hour" in printed


def test_the_number_of_documents_is_estimated_from_what_was_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only two of forty files are read, and one line in four holds no document."""
    names = [f"{number:02}.jsonl" for number in range(40)]
    for name in names:
        rows = ['{"_id": "a", "text": "trees"}'] * 3 + ["no document of this file"]
        Path(name).write_text("".join(row + "\n" for row in rows * 10))
    monkeypatch.setattr(sampling, "FILES", 2)
    found = sample_corpus(names, 1000, **NAMED)  # type: ignore[arg-type]
    assert (found.whole, len(found.documents)) == (False, 60)
    assert found.total == pytest.approx(1200, rel=0.01)


def test_shards_and_heap_grow_with_bytes() -> None:
    made = IndexPlan(10**8, 1, 1, 1, "cpu", 1, {"source": 900e9})
    assert made.shards == 23
    assert made.heap_gb == pytest.approx(46 / 20 + 0.035)


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("-", None, "a pipe can be read only once"),
        ("none.jsonl", None, "no such file"),
        ("empty.jsonl", "\n", "no documents to plan for"),
        ("bad.jsonl", '{"_id": "a"}\n', "no documents to plan for"),
    ],
)
def test_a_corpus_that_cannot_be_planned_for(path: str, content: str | None, reason: str) -> None:
    if content is not None:
        Path(path).write_text(content)
    with pytest.raises(InputError, match=reason):
        sample_corpus(path, 10, **NAMED)  # type: ignore[arg-type]
