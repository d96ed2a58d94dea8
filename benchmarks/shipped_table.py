"""Make the question table of minilm-32k again, in part, and compare.

    python benchmarks/shipped_table.py train/*.jsonl.gz \\
        --word-list symspellpy/frequency_dictionary_en_82_765.txt --list-words 60000

All its words are chosen again from the texts and the list, as `latent-ingest questions` does, and
some of them are encoded again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from command import Benchmark

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.questions.building import (
    MOST_WORDS,
    build_table,
    frequent_words,
    read_word_list,
    vocabulary_words,
)
from latent_ingest.connector.questions.question_table import QuestionTable
from latent_ingest.connector.training.texts import TrainingTexts, find_sources


@click.command(cls=Benchmark)
@click.argument("sources", nargs=-1, required=True)
@click.option("--word-list", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--list-words", type=int)
@click.option("--encode", "most", default=500, help="Number of words to encode.")
def main(sources: tuple[str, ...], word_list: Path, list_words: int | None, most: int) -> None:
    """Print how many words of the table of SOURCES, and how many entries, are as shipped."""
    encoder, shipped = LatentEncoder.shared(), QuestionTable.load()
    with tempfile.TemporaryDirectory() as spool:
        texts = TrainingTexts(find_sources(sources, Path(spool))).round()
        listed = read_word_list(word_list, list_words)
        found = frequent_words(texts, MOST_WORDS, listed=listed)
    words = list(dict.fromkeys([*found, *vocabulary_words(encoder)]))
    same = sum(ours == theirs for ours, theirs in zip(words, shipped.words, strict=False))
    click.echo(f"words in the same place: {same:,} of {len(shipped.words):,}, made {len(words):,}")
    click.echo(f"words in both: {len(set(words) & set(shipped.words)):,}")
    some = list(shipped.words)[:: max(1, len(shipped.words) // most)]
    entries = weights_of(shipped)
    made = weights_of(build_table(encoder, some))
    equal = sum(entries[word] == weights for word, weights in made.items())
    either = sum(len(entries[word].keys() | weights.keys()) for word, weights in made.items())
    both = sum(len(entries[word].items() & weights.items()) for word, weights in made.items())
    click.echo(f"words encoded again: {len(made):,}, with the same entry: {equal:,}")
    click.echo(f"latents with the same weight: {both:,} of {either:,}")


def weights_of(table: QuestionTable) -> dict[str, dict[int, int]]:
    """Return the latents of each word and their weights."""
    return {
        word: dict(zip(latents.tolist(), weights.tolist(), strict=True))
        for word, latents, weights in table.entries()
    }


if __name__ == "__main__":
    main()
