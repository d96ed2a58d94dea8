"""Questions made of a collection's own titles and sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.tuning.known_items import known_items


def corpus(path: Path, texts: list[tuple[str, str]]) -> Path:
    rows = [{"_id": f"d{n}", "title": title, "text": x} for n, (title, x) in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_title_or_else_a_sentence_asks_without_its_rarest_third(tmp_path: Path) -> None:
    """Words by document frequency: "bees" is in 12 documents, a word with a number in one."""
    common = "bees fly over green old"
    titles = [(f"Bees fly over w{n} green x{n} old y{n} hills", "no") for n in range(10)]
    short = [
        ("Short", f"A word. Green bees fly over old v{n} u{n} hills t{n}. Yes.") for n in (0, 1)
    ]
    file = corpus(tmp_path / "mine.jsonl", [*titles, *short])
    found = known_items(file, 50, 0)
    assert found.name == "mine"
    assert len(found.queries) == 12
    for n in range(10):
        assert found.queries[f"item-d{n}"] == f"{common} hills"
        assert found.qrels[f"item-d{n}"] == {f"d{n}": 1}
    assert found.queries["item-d10"] == "green bees fly over old hills"


def test_a_sample_depends_on_the_seed_and_covers_the_whole_file(tmp_path: Path) -> None:
    texts = [(f"Bees fly over green old hills w{n}", "no") for n in range(200)]
    file = corpus(tmp_path / "corpus.jsonl", texts)
    drawn = [set(known_items(path, 20, seed).queries) for path, seed in ((file, 0), (tmp_path, 0))]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 20
    other = set(known_items(file, 20, 1).queries)
    assert other != drawn[0]
    numbers = [int(name.removeprefix("item-d")) for name in drawn[0] | other]
    assert min(numbers) < 50
    assert max(numbers) >= 150


def test_an_error_says_that_there_are_too_few_items(tmp_path: Path) -> None:
    texts = [("Bees fly over green old hills", "no")] * 9 + [("Bees fly", "Too short. So too.")]
    with pytest.raises(InputError, match="9 documents have a title or a sentence of 6 words"):
        known_items(corpus(tmp_path / "corpus.jsonl", texts), 20, 0)
