"""latent-ingest search: ask an index in plain words."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latent_ingest.cli.connection import open_client
from latent_ingest.cli.layout import (
    TEXT_WIDTH,
    one_line,
    printable,
    shorten,
    side_by_side,
    terminal_width,
)
from latent_ingest.cli.options import (
    JsonObject,
    compute_options,
    connection_options,
    form_option,
    index_option,
    load_encoder,
    model_option,
)
from latent_ingest.connector.engine.client import Connection, EngineInfo, engine_errors
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.reading import values_at
from latent_ingest.connector.querying.asked_indices import show_own_ids
from latent_ingest.connector.querying.request import check_question
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.scoring import Form

if TYPE_CHECKING:
    from latent_ingest.connector.inspection.explain import Contribution

Hit = dict[str, Any]

# Cells that columns beside each other need.
COLUMNS_WIDTH = 120

# Contributions below a hit.
HEAVIEST = 4

# Characters of a field in which OpenSearch looks for them; other engines refuse longer fields.
MOST_CHARACTERS = 1_000_000

# Bold, for words that are marked on a terminal.
BOLD = ("\033[1m", "\033[0m")


@click.command(
    epilog="""\b
Examples:
  latent-ingest search "does vitamin D prevent falls" --index papers
  latent-ingest search "falls" --index papers --filter '{"term": {"year": 2024}}' --json
  latent-ingest search "does vitamin D prevent falls" --index papers --highlight --explain
  latent-ingest search "does vitamin D prevent falls" --index papers --compare
"""
)
@click.argument("query")
@index_option
@form_option
@click.option("--size", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Hits.")
@click.option(
    "--filter", "filter_clause", type=JsonObject(), help="A query clause that hits must match."
)
@click.option(
    "--highlight", is_flag=True, help="The passages that carry the meaning, their words marked."
)
@click.option("--explain", is_flag=True, help="What adds most to the score of each hit.")
@click.option(
    "--compare", is_flag=True, help="Word hits, latent hits and hybrid hits beside each other."
)
@connection_options
@model_option
@compute_options
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the engine's answer; its hits have `highlight` and `contributions` if wanted.",
)
def search(
    query: str,
    index: str,
    form: str,
    size: int,
    filter_clause: dict[str, Any] | None,
    highlight: bool,
    explain: bool,
    compare: bool,
    connection: Connection,
    model: Path | None,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Search for QUERY by meaning."""
    check_question(query)
    if compare and explain:
        raise InputError("--explain and --compare: use one of them; --form chooses what to explain")
    client = open_client(connection, index)
    engine = EngineInfo.read(client)

    encoder = load_encoder(model, device, dtype)
    rewriter = QueryRewriter.from_index(client, index, encoder)
    bodies = {
        name: rewriter.rewrite(query, form=name, size=size, filter=filter_clause)
        for name in (["latent", "hybrid"] if compare else [form])
    }
    if compare:
        words = rewriter.words_only(query, size=size, filter=filter_clause)
        bodies = {"words": words, **bodies}
    if highlight:
        for name, body in bodies.items():
            if name == "words" or Form(name).words_score:
                body["highlight"] = words_highlight(rewriter, query, engine)
    with engine_errors(client):
        answers = {
            name: client.search(index=rewriter.index, body=body) for name, body in bodies.items()
        }
    hits = {name: answer["hits"]["hits"] for name, answer in answers.items()}
    if highlight:
        for some in hits.values():
            add_highlights(some, rewriter, query, as_json)
    if explain:
        from latent_ingest.connector.encoding.encoder import SHIPPED_MODEL
        from latent_ingest.connector.inspection.explain import explain_hits
        from latent_ingest.connector.inspection.labels import read_labels

        labels = read_labels(model or SHIPPED_MODEL, encoder.fingerprint.autoencoder)
        found = explain_hits(client, rewriter, query, bodies[form], hits[form], labels=labels)
        for hit, explanation in zip(hits[form], found, strict=True):
            hit["contributions"] = explanation.contributions
    if as_json:
        answer = answers if compare else answers[form]
        click.echo(json.dumps(answer, default=asdict))
        return
    show_own_ids(client, index, [hit for some in hits.values() for hit in some])
    width = terminal_width()
    if compare and width and width >= COLUMNS_WIDTH:
        columns = [column(name, some, rewriter.text_fields) for name, some in hits.items()]
        for line in side_by_side(columns, width):
            click.echo(line)
        return
    for name, some in hits.items():
        if compare:
            click.echo(click.style(f"{name}:", bold=True))
        if not some:
            click.echo("  no hits")
        for rank, hit in enumerate(some, start=1):
            for line in lines_of(rank, hit, rewriter.text_fields, width):
                click.echo(line)


def words_highlight(rewriter: QueryRewriter, query: str, engine: EngineInfo) -> dict[str, Any]:
    """What asks the engine to mark the words of the question, in whole fields."""
    bound = {"max_analyzer_offset": MOST_CHARACTERS} if engine.distribution == "opensearch" else {}
    return {
        **bound,
        "fields": {name: {"number_of_fragments": 0} for name in rewriter.text_fields},
        "highlight_query": rewriter.words_only(query)["query"],
        "require_field_match": False,
        "encoder": "html",
    }


def add_highlights(
    hits: Sequence[Hit], rewriter: QueryRewriter, query: str, for_json: bool
) -> None:
    """Give each hit its `highlight`: HTML for programs, bold words for a terminal.

    Words that the engine has marked are marked too.
    """
    from latent_ingest.connector.inspection.highlight import TAGS, Highlighter

    highlighter = Highlighter(
        rewriter,
        query,
        tags=TAGS if for_json else BOLD,
        escape=html.escape if for_json else printable,
    )
    for hit, found in zip(
        hits, highlighter.highlight_hits(hits, rewriter.text_fields), strict=True
    ):
        hit["highlight"] = found


def lines_of(rank: int, hit: Hit, text_fields: Sequence[str], width: int | None) -> list[str]:
    """A hit: rank, score, id and title; below it its passages, or else how its text begins, and
    what adds to its score. A text without a title stands in the first line."""
    start = f"{rank:>3}  {hit['_score']:>7.3f}  {one_line(hit['_id'])}  "
    room = max(width - len(start), 20) if width else TEXT_WIDTH
    title, text = title_and_text(hit, text_fields)
    passages = passages_of(hit, text_fields)
    lines = [(start + shorten(title or text, room)).rstrip()]
    if title and text and not passages:
        passages = [shorten(text, room)]
    lines += [f"     {passage}" for passage in passages]
    if heaviest := hit.get("contributions"):
        lines.append("     " + ", ".join(map(in_short, heaviest[:HEAVIEST])))
    return lines


def column(name: str, hits: Sequence[Hit], text_fields: Sequence[str]) -> list[str]:
    """The lines of a form's hits, two for each, beside those of other forms."""
    lines = [click.style(name, bold=True)]
    for rank, hit in enumerate(hits, start=1):
        title, text = title_and_text(hit, text_fields)
        passages = passages_of(hit, text_fields)
        lines.append(f"{rank:>2} {hit['_score']:>7.3f} {one_line(hit['_id'])} {title}")
        lines.append(f"   {passages[0] if passages else text}")
    return lines if hits else [*lines, "no hits"]


def title_and_text(hit: Hit, text_fields: Sequence[str]) -> tuple[str, str]:
    """A hit's first text field, if it has several, and the others, each a line.

    Where it has none of them, its strings; those that are its id are left out.
    """
    source = hit["_source"]
    named = [" ".join(values_at(source, name)) for name in text_fields]
    every = [value for value in source.values() if isinstance(value, str)]
    texts = [one_line(text) for text in (named if any(named) else every) if text.strip()]
    has_title = len(texts) > 1
    texts = [text if text != one_line(hit["_id"]) else "" for text in texts]
    return (texts[0] if has_title else ""), " ".join(filter(None, texts[has_title:]))


def passages_of(hit: Hit, text_fields: Sequence[str]) -> list[str]:
    """The best passage of each field but the title, which is there already."""
    title = text_fields[0] if len(text_fields) > 1 else None
    found: dict[str, list[str]] = hit.get("highlight", {})
    return [" ".join(some[0].split()) for name, some in found.items() if name != title]


def in_short(item: Contribution) -> str:
    """A contribution in a few words."""
    label = one_line(item.label)
    name = label if item.label == item.term else f"{item.term} ({label})"
    return f"{item.share:.0%} {name}"
