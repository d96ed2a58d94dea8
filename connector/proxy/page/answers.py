"""What the page asks: indices, searches side by side, passages, explanations, cards of latents."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from opensearchpy import OpenSearch

from latent_ingest.connector import terms
from latent_ingest.connector.engine.client import EngineInfo, engine_errors
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.index.listing import list_indices
from latent_ingest.connector.inspection.explain import Contribution, explain_request
from latent_ingest.connector.inspection.highlight import FRAGMENT_SIZE, Highlighter, word_highlight
from latent_ingest.connector.proxy.page.opened import Caller, Opened, OpenedIndices
from latent_ingest.connector.proxy.page.shown import (
    LONGEST_NAME,
    beyond,
    clean,
    cut,
    fields_of,
    pieces,
    shortened,
)
from latent_ingest.connector.querying.request import check_question
from latent_ingest.connector.querying.scoring import AUTO, Form

WORDS = "words"

# Hits per column, and documents whose passages are asked for at once.
MOST_HITS = 50
MOST_PASSAGES = 10

LONGEST_QUESTION = 4000

# Fragments per field.
FRAGMENTS = 2

# Contributions of an explanation; words, neighbours and documents of a latent's card.
MOST_CONTRIBUTIONS = 60
MOST_WORDS = 15
MOST_NEIGHBOURS = 8
MOST_DOCUMENTS = 5

# Signs that no name of an index has; a comma is between names, a star is in a pattern.
NO_NAME = frozenset('\\/?"<>| #')

Json = dict[str, Any]

Allowed = Callable[[str, Json | None], bool]
"""Whether names of indices may be asked, with a filter that may name others."""

Key = tuple[str, str]
"""Index and id of a document."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to an index."""

    index: str
    question: str
    size: int = 10
    filter: Json | None = None
    form: str = AUTO
    """Form of the hybrid column."""

    @classmethod
    def read(cls, content: Any) -> Asked:
        """Read what the page sends; raises InputError if a part of it cannot be used."""
        if not isinstance(content, dict):
            raise InputError("send a JSON object")
        index, question = content.get("index"), content.get("question")
        if not isinstance(index, str) or not index.strip():
            raise InputError("name an index")
        check_name(index)
        if not isinstance(question, str):
            raise InputError("the question is missing")
        if len(question) > LONGEST_QUESTION:
            raise InputError(f"the question has more than {LONGEST_QUESTION:,} characters")
        check_question(question)
        size, form, filter = (
            content.get("size", 10),
            content.get("form", AUTO),
            content.get("filter"),
        )
        if type(size) is not int or not 1 <= size <= MOST_HITS:
            raise InputError(f"the number of hits must be 1 to {MOST_HITS}")
        if filter is not None and not isinstance(filter, dict):
            raise InputError('the filter must be an object like {"term": {"year": 2024}}')
        if has_lone_surrogates(filter):
            raise InputError("the filter has half of a character (a lone surrogate)")
        forms = [AUTO, *(one.value for one in Form if one.words_score)]
        if form not in forms:
            raise InputError(f"form {form!r}: use one of {', '.join(forms)}")
        return cls(index.strip(), clean(question), size, filter, form)


class Answers:
    """Answers the page, with the rights of each caller. Its methods block."""

    def __init__(
        self, opened: OpenedIndices, allowed: Allowed = lambda names, clause: True
    ) -> None:
        """`allowed` says what may be asked at all."""
        self._opened = opened
        self._allowed = allowed

    def indices(self, caller: Caller) -> Json:
        """The names of indices of latent terms and of their aliases, as far as they may be seen."""
        names: dict[str, str] = {}
        for info in list_indices(caller.client):
            if info.stored and not info.closed:
                for name in (*info.aliases, info.name):
                    names.setdefault(name, str(info.stored.get("model", "")))
        return {
            "indices": [
                {"name": name, "model": model}
                for name, model in sorted(names.items())
                if self._allowed(name, None)
            ]
        }

    def search(self, caller: Caller, asked: Asked) -> Json:
        """The hits of words, of latent terms and of both, each with the request behind it."""
        opened = self._open(caller, asked.index, asked.filter)
        rewriter = opened.rewriter
        notes: list[str] = []
        columns: Json = {}
        for name in (WORDS, "latent", "hybrid"):
            body, form, lines = request_of(opened, asked, name)
            notes += [line for line in lines if line not in notes]
            with engine_errors(caller.client):
                answer = caller.client.search(index=rewriter.index, body=body)
            columns[name] = {
                "form": form,
                "took": answer.get("took"),
                "body": body,
                "hits": [self._hit(hit, opened) for hit in answer["hits"]["hits"]],
            }
        return {
            "index": asked.index,
            "searched": list(rewriter.indices),
            "model": opened.meta.model,
            "questions": rewriter.table or "by the model",
            "text_fields": list(rewriter.text_fields),
            "plain": rewriter.words_only(asked.question, size=asked.size, filter=asked.filter),
            "columns": columns,
            "notes": [clean(note) for note in notes],
        }

    def passages(self, caller: Caller, asked: Asked, hits: Sequence[Key]) -> Json:
        """The best passages of some hits, given by index and id: `[text, marked]` pieces."""
        opened = self._open(caller, asked.index, asked.filter)
        rewriter = opened.rewriter
        found = fetched(caller.client, opened, asked.question, hits)
        short = [
            {**hit, "_source": shortened(hit.get("_source") or {}, rewriter.text_fields)}
            for hit in found
        ]
        by_words = opened.words if opened.by_table else None
        highlighter = Highlighter(
            rewriter, asked.question, number_of_fragments=FRAGMENTS, words=by_words
        )
        marked = highlighter.highlight_hits(short, rewriter.text_fields)
        answers = []
        for hit, by_field in zip(short, marked, strict=True):
            fields = dict(by_field)
            for name, fragments in (hit.get("highlight") or {}).items():
                if more := beyond(fragments, hit["_source"].get(name, "")):
                    fields[name] = [*fields.get(name, []), *more][: 2 * FRAGMENTS]
            answers.append({
                "index": hit["_index"],
                "id": clean(hit["_id"]),
                "fields": {
                    clean(name): [pieces(fragment) for fragment in fragments]
                    for name, fragments in fields.items()
                },
            })  # fmt: skip
        return {"passages": answers, "by": "table" if by_words else "model"}

    def explain(self, caller: Caller, asked: Asked, column: str, key: Key) -> Json:
        """What each word and each latent adds to the score of a hit in one of the columns."""
        opened = self._open(caller, asked.index, asked.filter)
        hits = found_by_id(caller.client, opened, [key], {"_source": False})
        if not hits:
            raise InputError("the document is not there any more")
        body, form, _ = request_of(opened, asked, column)
        names = {terms.term(latent): label for latent, label in named(opened, asked).items()}
        found = explain_request(
            caller.client, hits[0], body, latent_field=opened.rewriter.field, labels=names
        )
        shown, rest = (
            found.contributions[:MOST_CONTRIBUTIONS],
            found.contributions[MOST_CONTRIBUTIONS:],
        )
        return {
            "form": form,
            "matched": found.matched,
            "score": found.score,
            "shares": {kind: found.share(kind) for kind in ("word", "latent", "other")},
            "contributions": [contribution(item) for item in shown],
            "more": {"number": len(rest), "share": sum(item.share for item in rest)},
        }

    def latent(self, caller: Caller, index: str, latent: int) -> Json:
        """The card of a latent: label, words, neighbours, and documents that have most of it."""
        check_name(index)
        opened = self._open(caller, index)
        if not 0 <= latent < opened.meta.n_latents:
            raise InputError(
                f"there is no latent {latent}: {opened.meta.model} has "
                f"{opened.meta.n_latents:,}, from 0 to {opened.meta.n_latents - 1}"
            )
        rewriter, words = opened.rewriter, opened.words
        body = {
            "query": {"term": {rewriter.field: {"value": terms.term(latent)}}},
            "size": MOST_DOCUMENTS,
            "track_total_hits": True,
            "_source": list(rewriter.text_fields),
        }
        with engine_errors(caller.client):
            answer = caller.client.search(index=rewriter.index, body=body)
            every = caller.client.count(index=rewriter.index)["count"]
        return {
            "latent": latent,
            "term": terms.term(latent),
            "label": opened.labels.get(latent, ""),
            "model": opened.meta.model,
            "words": [
                {"word": clean(word), "weight": weight}
                for word, weight in (words.words_of(latent, MOST_WORDS) if words else ())
            ],
            "neighbours": [
                {"latent": other, "label": opened.labels.get(other, ""), "cosine": cosine}
                for other, cosine in (words.neighbours(latent, MOST_NEIGHBOURS) if words else ())
            ],
            "has_table": words is not None,
            "has_labels": bool(opened.labels),
            "documents": answer["hits"]["total"]["value"],
            "of": every,
            "hits": [self._hit(hit, opened) for hit in answer["hits"]["hits"]],
        }

    def _open(self, caller: Caller, index: str, filter: Json | None = None) -> Opened:
        if not self._allowed(index, filter):
            raise InputError("this proxy does not serve that index (--allow-index)")
        return self._opened.get(caller, index)

    def _hit(self, hit: Json, opened: Opened) -> Json:
        meta = opened.meta
        hidden = {meta.latent_field, meta.hash_field}
        source = {k: v for k, v in (hit.get("_source") or {}).items() if k not in hidden}
        return {
            "index": hit["_index"],
            "id": clean(hit["_id"]),
            "score": hit["_score"],
            "fields": fields_of(source, opened.rewriter.text_fields),
        }


def request_of(opened: Opened, asked: Asked, column: str) -> tuple[Json, str, list[str]]:
    """The request body of a column, its form, and notes on what was done differently."""
    rewriter = opened.rewriter
    if column == WORDS:
        body = rewriter.words_only(asked.question, size=asked.size, filter=asked.filter)
        return body, WORDS, []
    form = {"latent": "latent", "hybrid": asked.form}.get(column)
    if form is None:
        raise InputError(f"column {column!r}: use words, latent or hybrid")
    body, report = rewriter.rewrite_and_report(
        asked.question, form=form, size=asked.size, filter=asked.filter
    )
    return body, str(report.form), list(report.losses())


def fetched(client: OpenSearch, opened: Opened, question: str, hits: Sequence[Key]) -> list[Json]:
    """Documents by index and id, in which the engine has marked the question's words."""
    rewriter = opened.rewriter
    marks = word_highlight(rewriter, question, EngineInfo.read(client))
    for options in marks["fields"].values():
        options |= {"number_of_fragments": FRAGMENTS, "fragment_size": FRAGMENT_SIZE}
    wanted = {"_source": list(rewriter.text_fields)}
    try:
        return found_by_id(client, opened, hits, {**wanted, "highlight": marks})
    except EngineError as error:
        # An engine may refuse to mark words in a field that is too long for it.
        if status_of(error) != 400:
            raise
        return found_by_id(client, opened, hits, wanted)


def found_by_id(
    client: OpenSearch, opened: Opened, keys: Sequence[Key], options: Mapping[str, Any]
) -> list[Json]:
    """The documents of some indices and ids that the name of the index gives to see."""
    rewriter = opened.rewriter
    body = {
        "query": {"ids": {"values": sorted({id for _, id in keys})}},
        "size": len(keys) * max(1, len(rewriter.indices)),
        **options,
    }
    with engine_errors(client):
        answer = client.search(index=rewriter.index, body=body)
    found = {(hit["_index"], hit["_id"]): hit for hit in answer["hits"]["hits"]}
    return [found[key] for key in keys if key in found]


def has_lone_surrogates(value: object) -> bool:
    """Whether a value of JSON cannot be sent on in UTF-8."""
    text = json.dumps(value, ensure_ascii=False)
    return clean(text) != text


def check_name(index: str) -> None:
    """Raise InputError if this cannot be the name of an index."""
    if not index.isprintable() or NO_NAME & set(index.strip()):
        raise InputError("this cannot be the name of an index")


def named(opened: Opened, asked: Asked) -> Mapping[int, str]:
    """Names of latents: their labels, or the words of the question that fire them."""
    if opened.by_table:
        firing = opened.words.firing_words(asked.question) if opened.words else {}
    else:
        from latent_ingest.connector.inspection.firings import firing_words  # loads torch

        firing = firing_words(opened.rewriter.encoder, asked.question)
    return {**firing, **opened.labels}


def contribution(item: Contribution) -> Json:
    """A contribution for the page, with the number of its latent."""
    latent = terms.latent_of(item.term) if item.kind == "latent" else None
    row = asdict(item) | {"latent": latent}
    return {
        name: cut(value, LONGEST_NAME) if isinstance(value, str) else value
        for name, value in row.items()
    }


def status_of(error: EngineError) -> int | None:
    """The status that the engine answered; None if it did not answer."""
    status = getattr(error.__cause__, "status_code", None)
    return status if isinstance(status, int) else None
