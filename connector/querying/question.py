"""A question in plain words → the request for it; one of very many words is asked without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.clause_limit import count_clauses, room_for
from latent_ingest.connector.querying.report import RewriteReport
from latent_ingest.connector.querying.rewriting import Target, Weigh, Wish, rewritten

# A form without the words' scores.
LATENT_ALONE = {"hybrid": "latent", "hybrid_two_phase": "two_phase"}

# Of words in several fields: the best field's score, and half of the others'. nDCG@10 of the words
# alone, in title and text, on the training judgements of SciFact and the dev ones of NFCorpus: .694
# and .296; by cross_fields .689 and .283; in one field for both .699 and .289.
TIE_BREAKER = 0.5


def check_question(text: str) -> None:
    """Raise InputError where nothing is asked."""
    if not any(letter.isprintable() and not letter.isspace() for letter in text):
        raise InputError("the question is empty; write one")


def words_clause(text: str, fields: Sequence[str]) -> dict[str, Any]:
    """The clause that the words alone make."""
    if len(fields) > 1:
        return {"multi_match": {"query": text, "fields": list(fields), "tie_breaker": TIE_BREAKER}}
    return {"match": {fields[0]: {"query": text}}}


def rewritten_question(
    body: dict[str, Any], words: dict[str, Any], target: Target, wish: Wish, weigh: Weigh
) -> tuple[dict[str, Any], RewriteReport]:
    """The request of a question's words, rewritten, and the report.

    Words stay while all latent terms that a question may have fit in beside them, and where an
    engine takes few clauses, while they take no more than half of these.

    Args:
        body: with the words and filters.
        words: the clause of the words in it.
        target: as for `rewritten`.
        wish: the same.
        weigh: the same.
    """
    n_words, _ = count_clauses(words, target.known_fields)
    room = room_for([body["query"]], [words], target.max_clauses, target.known_fields)
    alone = LATENT_ALONE.get(wish.form)
    if alone is None or n_words <= max(room - target.max_query_terms, room // 2):
        return rewritten(body, target, wish, weigh)
    made, report = rewritten(body, target, replace(wish, form=alone), weigh)
    note = f"{alone} instead of {wish.form}: beside {n_words:,} words there is too little room"
    return made, replace(report, form=wish.form, notes=(note, *report.notes))
