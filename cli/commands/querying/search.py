"""latent-ingest search, explain: ask an index, and show why a document is found."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from latent_ingest.cli import options, output
from latent_ingest.cli.connection import connection_options, open_client
from latent_ingest.cli.output import one_line
from latent_ingest.connector.document_text import texts_at
from latent_ingest.connector.engine.client import Connection, EngineInfo, engine_errors
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.feedback.asking import read_expansion
from latent_ingest.connector.querying.indices.asked_indices import engine_id, show_own_ids
from latent_ingest.connector.querying.report import TABLE
from latent_ingest.connector.querying.request import check_question
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.scoring import AUTO, Form

if TYPE_CHECKING:
    from latent_ingest.connector.inspection.explain import Contribution, Explanation

Hit = dict[str, Any]

# Cells of a terminal from which on forms are shown side by side.
COLUMNS_WIDTH = 120

# Contributions below a hit.
HEAVIEST = 4

# Contributions in the table of `explain` without --all.
MOST = 15

# Bold, for marked words on a terminal.
BOLD = ("\033[1m", "\033[0m")


@click.command(
    epilog="""\b
Examples:
  latent-ingest search "does vitamin D prevent falls" --index papers
  latent-ingest search "falls" --index papers --filter '{"term": {"year": 2024}}' --json
  latent-ingest search "does vitamin D prevent falls" --index papers --highlight --explain
  latent-ingest search "does vitamin D prevent falls" --index papers --compare
  latent-ingest search "falls" --index papers --feedback
  latent-ingest search --like 42 --index papers
"""
)
@click.argument("query", default="")
@options.index
@options.form
@click.option("--size", type=click.IntRange(1, 10_000), default=10, help="Number of hits.")
@options.filter_clause
@click.option(
    "--highlight", is_flag=True, help="Show the best passages of each hit, with marked words."
)
@click.option("--explain", is_flag=True, help="Show what adds most to the score of each hit.")
@click.option("--compare", is_flag=True, help="Show word, latent and hybrid hits side by side.")
@click.option(
    "--feedback", is_flag=True, help="Take over latent terms of the first hits, and ask again."
)
@click.option(
    "--like",
    multiple=True,
    metavar="ID",
    help="Take over latent terms of this document; repeatable. Without QUERY: search for documents "
    "like it.",
)
@connection_options
@options.model
@options.questions
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the engine's response as JSON; hits have `highlight` and `contributions` if asked "
    "for.",
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
    feedback: bool,
    like: tuple[str, ...],
    connection: Connection,
    model: options.ChosenModel,
    questions: str,
    as_json: bool,
) -> None:
    """Search for QUERY by meaning."""
    if query or not like:
        check_question(query)
    if compare and explain:
        raise InputError("--explain and --compare: use one of them; --form chooses what to explain")
    if (feedback and like) or (compare and (feedback or like)):
        raise InputError("--compare, --feedback and --like: use one of them")
    client = open_client(connection, index)
    encoder = model.queries(questions, client, index)
    rewriter = QueryRewriter.from_index(client, index, encoder)
    forms = ("words", "latent", "hybrid") if compare else (form,)
    expansion = None
    if feedback or like:
        relevant = [engine_id(client, index, identifier) for identifier in like]
        expansion = read_expansion(
            client, rewriter, query, relevant=relevant, form=form, filter=filter_clause
        )
        for line in expansion.lines() if not expansion.shares else ():
            output.warn(line)
    bodies = {
        name: rewriter.words_only(query, size=size, filter=filter_clause)
        if name == "words"
        else rewriter.rewrite(
            query, form=name, size=size, filter=filter_clause, expansion=expansion
        )
        if query
        else rewriter.feedback.like(expansion or "", size=size, filter=filter_clause)
        for name in forms
    }
    if highlight and query:
        from latent_ingest.connector.inspection.highlight import word_highlight

        for name, body in bodies.items():
            # The engine marks the words that matched.
            if name in ("words", AUTO) or Form(name).words_score:
                body["highlight"] = word_highlight(rewriter, query, EngineInfo.read(client))
    with engine_errors(client):
        answers = {
            name: client.search(index=rewriter.index, body=body) for name, body in bodies.items()
        }
    hits: dict[str, list[Hit]] = {name: answer["hits"]["hits"] for name, answer in answers.items()}
    every = [hit for some in hits.values() for hit in some]
    if highlight and query:
        add_highlights(every, rewriter, query, for_json=as_json)
    if expansion:
        answers[form] |= {"feedback": expansion.to_json()}
    if explain:
        from latent_ingest.connector.inspection.explain import explain_hits

        labels = model.labels(rewriter.encoder)
        found = explain_hits(
            client, rewriter, query, bodies[form], every, labels=labels, expansion=expansion
        )
        for hit, explanation in zip(every, found, strict=True):
            hit["contributions"] = explanation.contributions
    if query and rewriter.table:
        output.warn(f"questions: {rewriter.table}; --questions model encodes them by the model")
        if rewriter.table == TABLE:
            output.warn(
                f"{index} has no table of its own words; "
                f"'latent-ingest questions --index {index}' adds it"
            )
        for answer in answers.values():
            answer["questions"] = rewriter.table
        unknown = rewriter.unknown(query)
        for words, done in (
            (unknown.borrowed, "not in the table of the index, so taken from the model's"),
            (unknown.pieced, "in no table, so taken from its parts"),
            (unknown.lacking, "not in the table, so searched as words alone"),
        ):
            if words:
                output.warn(f"{done}: {', '.join(words)}")
        if not (unknown.lacking or rewriter.terms(query)):
            output.warn("no word of the question is in the table, so it is searched as words alone")
    if as_json:
        output.print_json(answers if compare else answers[form], default=asdict)
        return
    show_own_ids(client, index, every)
    width = output.terminal_width()
    if compare and width and width >= COLUMNS_WIDTH:
        columns = [column(name, some, rewriter.text_fields) for name, some in hits.items()]
        output.print_lines(output.side_by_side(columns, width))
        return
    for name, some in hits.items():
        if compare:
            click.echo(click.style(f"{name}:", bold=True))
        if not some:
            click.echo("  no hits")
        for rank, hit in enumerate(some, start=1):
            output.print_lines(lines_of(rank, hit, rewriter.text_fields, width))


def add_highlights(
    hits: Sequence[Hit], rewriter: QueryRewriter, query: str, *, for_json: bool
) -> None:
    """Set `highlight` of each hit: HTML for JSON output, else bold words for a terminal.

    Words that the engine marked are marked too.
    """
    from latent_ingest.connector.inspection.highlight import TAGS, Highlighter

    highlighter = Highlighter(
        rewriter,
        query,
        tags=TAGS if for_json else BOLD,
        escape=html.escape if for_json else output.printable,
    )
    found = highlighter.highlight_hits(hits, rewriter.text_fields)
    for hit, passages in zip(hits, found, strict=True):
        hit["highlight"] = passages


def lines_of(rank: int, hit: Hit, text_fields: Sequence[str], width: int | None) -> list[str]:
    """A hit: rank, score, id and title, then its passages or the beginning of its text, then what
    adds most to its score. A text without a title is in the first line."""
    start = f"{rank:>3}  {hit['_score']:>7.3f}  {one_line(hit['_id'])}  "
    room = max(width - len(start), 20) if width else output.TEXT_WIDTH
    title, text = title_and_text(hit, text_fields)
    passages = passages_of(hit, text_fields)
    lines = [(start + output.shorten(title or text, room)).rstrip()]
    if title and text and not passages:
        passages = [output.shorten(text, room)]
    lines += [f"     {passage}" for passage in passages]
    if heaviest := hit.get("contributions"):
        lines.append("     " + ", ".join(map(in_short, heaviest[:HEAVIEST])))
    return lines


def column(name: str, hits: Sequence[Hit], text_fields: Sequence[str]) -> list[str]:
    """Two lines per hit of one form, to be shown beside those of other forms."""
    lines = [click.style(name, bold=True)]
    for rank, hit in enumerate(hits, start=1):
        title, text = title_and_text(hit, text_fields)
        passages = passages_of(hit, text_fields)
        lines.append(f"{rank:>2} {hit['_score']:>7.3f} {one_line(hit['_id'])} {title}")
        lines.append(f"   {passages[0] if passages else text}")
    return lines if hits else [*lines, "no hits"]


def title_and_text(hit: Hit, text_fields: Sequence[str]) -> tuple[str, str]:
    """The first text field, if the hit has several of them, and the others; one line each.

    All string fields count if it has no text field. A text that equals the id is left out.
    """
    source = hit["_source"]
    named = [" ".join(texts_at(source, name)) for name in text_fields]
    every = [value for value in source.values() if isinstance(value, str)]
    texts = [one_line(text) for text in (named if any(named) else every) if text.strip()]
    has_title = len(texts) > 1
    texts = [text if text != one_line(hit["_id"]) else "" for text in texts]
    return (texts[0] if has_title else ""), " ".join(filter(None, texts[has_title:]))


def passages_of(hit: Hit, text_fields: Sequence[str]) -> list[str]:
    """The best passage of each field except the title, which is shown anyway."""
    title = text_fields[0] if len(text_fields) > 1 else None
    found: dict[str, list[str]] = hit.get("highlight", {})
    return [" ".join(some[0].split()) for name, some in found.items() if name != title]


def in_short(item: Contribution) -> str:
    """A contribution in a few words: "23% f12 (glob pattern)"."""
    label = one_line(item.label)
    name = label if item.label == item.term else f"{item.term} ({label})"
    taken = f" from {', '.join(map(one_line, item.feedback))}" if item.feedback else ""
    return f"{item.share:.0%} {name}{taken}"


@click.command(
    epilog="""\b
Examples:
  latent-ingest explain "does vitamin D prevent falls" --index papers --id 42
  latent-ingest explain "does vitamin D prevent falls" --index papers --id 42 --form latent --all
  latent-ingest explain "does vitamin D prevent falls" --index papers --id 42 --json
"""
)
@click.argument("query")
@options.index
@click.option(
    "--id",
    "identifier",
    required=True,
    help="The document's _id, or its own id if the engine generates _id.",
)
@options.form
@click.option(
    "--all", "every", is_flag=True, help=f"Show all contributions, not only the first {MOST}."
)
@click.option("--feedback", is_flag=True, help="Explain the score that `search --feedback` gives.")
@connection_options
@options.model
@options.questions
@options.as_json
def explain(
    query: str,
    index: str,
    identifier: str,
    form: str,
    every: bool,
    feedback: bool,
    connection: Connection,
    model: options.ChosenModel,
    questions: str,
    as_json: bool,
) -> None:
    """Show what each word and each latent of QUERY adds to a document's score.

    A latent is named by its label in the model's labels.json, or by the words of QUERY that fire
    it. In the two-phase forms the score is that of both phases, as hits within the window have it.
    """
    from latent_ingest.connector.inspection.explain import explain as explain_document

    check_question(query)
    client = open_client(connection, index)
    rewriter = QueryRewriter.from_index(client, index, model.queries(questions, client, index))
    expansion = read_expansion(client, rewriter, query, form=form) if feedback else None
    more = {"form": form, "expansion": expansion}
    form = str(rewriter.rewrite_and_report(query, **more)[1].form)  # the one that auto chooses
    made = engine_id(client, index, identifier)
    labels = model.labels(rewriter.encoder)
    found = explain_document(
        client, rewriter, query, made, form=form, labels=labels, expansion=expansion
    )
    found = replace(found, id=identifier)
    if as_json:
        output.print_json({"query": query, "form": form, **found.to_json()})
    elif found.matched:
        output.print_lines(explanation_lines(found, form, None if every else MOST))
    else:
        click.echo(
            f"{one_line(identifier)} in {found.index} does not match: it has no term of the query"
        )


def explanation_lines(found: Explanation, form: str, most: int | None) -> Iterator[str]:
    """The score by kinds of terms, and a table of the heaviest contributions."""
    names = {"word": "words", "latent": "latents", "other": "other"}
    shares = {name: found.share(kind) for kind, name in names.items()}
    parts = " + ".join(f"{share:.1%} {name}" for name, share in shares.items() if share)
    yield f"{one_line(found.id)} in {found.index}, {form}: {found.score:.3f} = {parts}"
    yield ""
    shown = found.contributions[:most]
    heads = ["share", "score", "term", "means", "weight", "idf", "freq"]
    rows = [cells(item) for item in shown]
    yield from output.table(heads, rows, right=(0, 1, 4, 5, 6), shrink=(3, 2))
    if rest := found.contributions[len(shown) :]:
        share = sum(item.share for item in rest)
        yield f"and {len(rest)} more, together {share:.1%}; --all shows them"


def meaning(item: Contribution) -> str:
    """A contribution's label, and the documents that a latent was taken over from."""
    label = item.label if item.label != item.term else f"({item.kind})"
    return f"{label} from {', '.join(item.feedback)}" if item.feedback else label


def cells(item: Contribution) -> list[str]:
    """A contribution as a row of the table."""
    return [
        f"{item.share:.1%}",
        f"{item.score:.3f}",
        item.term,
        meaning(item),
        "" if item.weight is None else f"{item.weight:.3f}",
        "" if item.idf is None else f"{item.idf:.3f}",
        "" if item.frequency is None else f"{item.frequency:g}",
    ]
