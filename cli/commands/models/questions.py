"""latent-ingest questions: make the table of words of a model, or of an index."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

import click
from click.core import ParameterSource

from latent_ingest.cli import jobs, options, output
from latent_ingest.cli.connection import connection_options, open_client
from latent_ingest.connector.encoding.model_folder import SHIPPED_MODELS, model_path
from latent_ingest.connector.engine.client import Connection, EngineInfo
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.files import disk_errors
from latent_ingest.connector.questions.building import LATENTS, MOST_WORDS
from latent_ingest.connector.questions.stored_table import INDEX_WORDS

# Options that are of use only with SOURCES, and only with --index.
OF_SOURCES = {
    "word_list": "--word-list",
    "list_words": "--list-words",
    "words": "--words",
    "latents": "--latents",
    "text_fields": "--text-fields",
}
OF_INDEX = {"question_words": "--question-words", "yes": "--yes"}


@click.command(
    context_settings={"show_default": True},
    epilog="""\b
Examples:
  latent-ingest questions --index papers
  latent-ingest questions --index papers --question-words 50000 --yes --json
  latent-ingest questions texts.jsonl.gz --model my-model/
  latent-ingest questions wiki/ --model my-model/ --words 30000 --latents 16
  latent-ingest questions texts.jsonl.gz --word-list english.txt --model my-model/
""",
)
@click.argument("sources", nargs=-1)
@click.option("--index", help="Index whose table is made, of the words of its documents.")
@click.option(
    "--question-words",
    type=click.IntRange(min=1),
    default=INDEX_WORDS,
    help="With --index: most words of the table: those of the documents first, then others of the "
    "model's table.",
)
@click.option("--yes", is_flag=True, help="Close the index for a moment without asking.")
@click.option(
    "--word-list",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Words of a language, one a line, the most frequent first; the rest of a line does not "
    "count. They are counted as a text in which the word of rank r occurs 400,000 / r times, and "
    "at least 5 times.",
)
@click.option(
    "--list-words",
    type=click.IntRange(min=1),
    help="Lines of --word-list to read.  [default: all]",
)
@click.option(
    "--words",
    type=click.IntRange(min=1),
    default=MOST_WORDS,
    help="Number of words of SOURCES, most frequent first.",
)
@click.option(
    "--latents",
    type=click.IntRange(1, 255),
    default=LATENTS,
    help="Latents to keep for each word of SOURCES, the heaviest.",
)
@options.text_fields
@connection_options
@options.model_of(
    "Model folder. The table of SOURCES is written into it; with --index, the model of the index, "
    "by default minilm-32k."
)
@options.give_up_after
@options.as_json
@click.pass_context
def questions(
    ctx: click.Context,
    /,
    sources: tuple[str, ...],
    index: str | None,
    question_words: int,
    yes: bool,
    word_list: Path | None,
    list_words: int | None,
    words: int,
    latents: int,
    text_fields: list[str],
    connection: Connection,
    model: options.ChosenModel,
    give_up_after: float,
    as_json: bool,
) -> None:
    """Make the table of words by which questions are encoded without the model.

    With --index: of the words of the documents in an index, and while there is room, of other words
    that the model's table has. It is the search analyzer of the latent field, so that a plain match
    finds by meaning. The index is closed for a moment. An ingest into a new index does this itself;
    later documents bring words that the table lacks until this command is given again.

    With SOURCES, named as for train, or --word-list, or both: of their frequent words, and the
    words that the backbone has as tokens. The table is written into the folder of --model, which
    must be named. It is read by --questions table, and new indices get it.
    """
    if bool(sources or word_list) == (index is not None):
        raise InputError(
            "name SOURCES with --model for the table of a model, or --index for that of an index"
        )
    if list_words and not word_list:
        raise InputError("--list-words needs --word-list")
    for name, option in (OF_INDEX if index is None else OF_SOURCES).items():
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise InputError(f"{option} is for {'--index' if index is None else 'SOURCES'}")
    if index is not None:
        make_for_index(index, question_words, connection, model, give_up_after, yes, as_json)
        return
    if (folder := model_path(model.folder)).parent == SHIPPED_MODELS:
        raise InputError(
            "name a model folder with --model; for another table of a model that ships, copy "
            f"{folder} and name the copy"
        )
    from latent_ingest.connector.questions.building import frequent_words, read_word_list
    from latent_ingest.connector.training.texts import TrainingTexts, find_sources

    spool = ctx.with_resource(tempfile.TemporaryDirectory(prefix="latent-ingest-questions-"))
    texts = (
        TrainingTexts(find_sources(sources, Path(spool)), text_fields=text_fields).round()
        if sources
        else ()
    )
    listed = read_word_list(word_list, list_words) if word_list else ()
    with output.announced("counting words"):
        found = frequent_words(texts, words, listed=listed)
    make_for_model(found, model, folder, latents, as_json)


def make_for_index(
    index: str,
    words: int,
    connection: Connection,
    model: options.ChosenModel,
    give_up_after: float,
    yes: bool,
    as_json: bool,
) -> None:
    """Make the table of an index, after asking."""
    from latent_ingest.connector.indexing.questions.refresh import TableRefresh

    client = open_client(connection, index, give_up_after)
    EngineInfo.read(client)
    refresh = TableRefresh(client, index, words=words, give_up_after=give_up_after)
    output.confirm(refresh.warning, yes=yes)
    encoder = model.load()
    total = refresh.to_read
    with (
        output.sigterm_interrupts(),
        output.progress_bar(total=total, desc="reading words", unit=" documents") as bar,
        jobs.words_bar() as show_words,
    ):
        report = refresh.run(encoder, bar.update, show_words)
    if as_json:
        output.print_json({"index": refresh.name, "documents": refresh.to_read, **asdict(report)})
        return
    click.echo(f"index {refresh.name}: {jobs.table_line(report)}")


def make_for_model(
    words: list[str], model: options.ChosenModel, folder: Path, latents: int, as_json: bool
) -> None:
    """Write the table of words, and of the backbone's vocabulary, into a model folder."""
    from latent_ingest.connector.questions.building import build_table, vocabulary_words
    from latent_ingest.connector.questions.pieces import encode_pieces

    encoder = model.load()
    every = list(dict.fromkeys([*words, *vocabulary_words(encoder)]))
    with output.announced("encoding pieces of words"):
        pieces = encode_pieces(encoder, every)
    with output.progress_bar(total=len(every), desc="encoding", unit="word") as bar:
        table = build_table(encoder, every, latents=latents, pieces=pieces, on_progress=bar.update)
    with disk_errors(folder):
        path = table.save(folder)
    size = path.stat().st_size
    if as_json:
        output.print_json({"out": str(path), "words": len(table.words), "bytes": size})
        return
    click.echo(f"{path}: {len(table.words):,} words, {size / 1e6:.1f} MB")
