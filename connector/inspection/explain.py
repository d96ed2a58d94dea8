"""Explanations: what each word and each latent term adds to a document's score.

request body → the engine's `_explain` → contributions of terms, whose sum is the score
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch

from latent_ingest.connector import terms
from latent_ingest.connector.engine.adapter import Client, adapted
from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.feedback.expansion import Expansion

if TYPE_CHECKING:
    from latent_ingest.connector.querying.rewriter import QueryRewriter

# Lucene's descriptions of a term's part of a score, and of how parts are combined.
TERM = re.compile(r"weight\((?P<field>[^:]*):(?P<term>.*) in \d+\)", re.DOTALL)
SYNONYMS = re.compile(r"weight\(Synonym\((?P<terms>.*)\) in \d+\)", re.DOTALL)
SUM = re.compile(r"(.*, )?sum of:?")
BEST = re.compile(r"max plus (?P<tie>[0-9.E+-]+) times others of:")


@dataclass(frozen=True, slots=True)
class Contribution:
    """The part of a document's score that one term of a request adds."""

    kind: str
    """ "latent", "word", or "other" for a part without a term, such as a constant."""
    field: str
    term: str
    label: str
    """Label of the latent; for words and latents without a label, the term itself."""
    idf: float | None
    frequency: float | None
    """Frequency of the term in the document."""
    weight: float | None
    """Product of all factors of request and engine: the score is `weight * idf * saturation`."""
    saturation: float | None
    """BM25's function of frequency and document length, by k1 and b; 0 to 1."""
    score: float
    share: float
    """Share of the document's score, 0 to 1."""
    feedback: tuple[str, ...] = ()
    """Ids of the documents from which the question took over the latent term."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a document has its score."""

    index: str
    id: str
    matched: bool
    score: float
    """The engine's score; zero if the document does not match."""
    contributions: list[Contribution]
    """In descending order; their scores add up to `score`."""

    def share(self, kind: str) -> float:
        """Share of the score that contributions of one kind have, 0 to 1."""
        return sum(item.share for item in self.contributions if item.kind == kind)

    def to_json(self) -> dict[str, Any]:
        """The explanation as a dictionary for `json.dumps`."""
        return asdict(self)


def explain(
    client: OpenSearch | Client,
    rewriter: QueryRewriter,
    question: str,
    id: str,
    *,
    labels: Mapping[int, str] | None = None,
    **options: Any,
) -> Explanation:
    """Explain the score that a question gives to a document.

    Args:
        client: of opensearch-py or `elasticsearch`.
        rewriter: made by `QueryRewriter.from_index`.
        question: in plain words.
        id: of the document; in an index of chunks, of the chunk.
        labels: latent → label, see `read_labels`; latents without a label are named by the words
            of the question that activate them.
        options: as for `QueryRewriter.rewrite`. In two-phase forms the score is that of both
            phases, which hits within the window have.

    Raises:
        InputError: there is no such document, or an option is invalid.
        ModelError: the backbone gives NaN.
        EngineError: the engine is not reachable, or refuses.
    """
    client = adapted(client)
    body = rewriter.rewrite(question, **options)
    hit = find_hit(client, str(rewriter.index), id)
    expansion = options.get("expansion")
    return explain_hits(
        client, rewriter, question, body, [hit], labels=labels, expansion=expansion
    )[0]


def explain_hits(
    client: OpenSearch,
    rewriter: QueryRewriter,
    question: str,
    body: Mapping[str, Any],
    hits: Sequence[Mapping[str, Any]],
    *,
    labels: Mapping[int, str] | None = None,
    expansion: Expansion | str | None = None,
) -> list[Explanation]:
    """Explain the scores that the request for a question gives to hits; see `explain`.

    `expansion` is that of the request, whose terms are marked with the documents they came from,
    unless the question has them itself.
    """
    from latent_ingest.connector.inspection.firings import firing_words  # loads torch

    firing = firing_words(rewriter.encoder, question) if question else {}
    labels = {**firing, **(labels or {})}
    named = {terms.term(latent): label for latent, label in labels.items()}
    found = [
        explain_request(client, hit, body, latent_field=rewriter.field, labels=named)
        for hit in hits
    ]
    if expansion is None:
        return found
    expansion = Expansion.read(expansion) if isinstance(expansion, str) else expansion
    own = {item.term for item in rewriter.terms(question)} if question else set()
    sources = {term: ids for term, ids in expansion.sources.items() if term not in own}
    return [marked(explanation, sources) for explanation in found]


def marked(explanation: Explanation, sources: Mapping[str, tuple[str, ...]]) -> Explanation:
    """Return an explanation whose latent terms have the documents that they came from."""
    contributions = [
        replace(item, feedback=sources.get(item.term, ())) if item.kind == "latent" else item
        for item in explanation.contributions
    ]
    return replace(explanation, contributions=contributions)


def find_hit(client: OpenSearch, index: str, id: str) -> dict[str, Any]:
    """Index, id and routing of a document; without its routing, no shard finds it."""
    body = {"query": {"ids": {"values": [id]}}, "size": 1, "_source": False}
    with engine_errors(client):
        hits: list[dict[str, Any]] = client.search(index=index, body=body)["hits"]["hits"]
    if not hits:
        raise InputError(f"no document {id!r} in index {index}; name one by its _id")
    return hits[0]


def explain_request(
    client: OpenSearch,
    hit: Mapping[str, Any],
    body: Mapping[str, Any],
    *,
    latent_field: str,
    labels: Mapping[str, str] | None = None,
) -> Explanation:
    """Explain the score that a request gives to a hit; `labels` are those of latent terms.

    Raises:
        InputError: a rescore combines scores other than by adding.
        EngineError: the engine is not reachable, or refuses.
    """
    index, id = hit["_index"], hit["_id"]
    query = {"query": in_one_phase(body)}
    with engine_errors(client):
        answer = client.explain(index=index, id=id, body=query, routing=hit.get("_routing"))
    if not answer["matched"]:
        return Explanation(index, id, False, 0.0, [])
    tree = answer["explanation"]
    score = float(tree["value"])
    found = []
    for part in sorted(parts_of(tree), key=lambda part: -part.score):
        part = replace(part, share=part.score / score if score else 0.0)
        if part.field == latent_field:
            part = replace(part, kind="latent", label=(labels or {}).get(part.term, part.term))
        found.append(part)
    return Explanation(index, id, True, score, found)


def in_one_phase(body: Mapping[str, Any]) -> dict[str, Any]:
    """The query whose score equals that after rescoring, because `_explain` ignores rescores."""
    query: dict[str, Any] = body["query"]
    rescores = body.get("rescore") or []
    for rescore in rescores if isinstance(rescores, list) else [rescores]:
        phase = rescore["query"]
        if str(phase.get("score_mode", "total")).lower() != "total":
            raise InputError("only rescores with score_mode total can be explained")
        first, second = phase.get("query_weight", 1.0), phase.get("rescore_query_weight", 1.0)
        query = {
            "bool": {
                "must": [{"bool": {"must": [query], "boost": first}}],
                "should": [{"bool": {"must": [phase["rescore_query"]], "boost": second}}],
            }
        }
    return query


def parts_of(node: Mapping[str, Any], factor: float = 1.0) -> Iterator[Contribution]:
    """Contributions of the terms below a node of an explanation, multiplied by `factor`."""
    description = str(node["description"])
    value = float(node["value"]) * factor
    details: Sequence[Mapping[str, Any]] = node["details"]
    best = BEST.match(description)
    if term := of_term(description):
        yield contribution(node, *term, factor)
    elif best or description.startswith("max of:"):
        tie = float(best["tie"]) if best else 0.0
        top = max(range(len(details)), key=lambda i: float(details[i]["value"]))
        for place, part in enumerate(details):
            counts = 1.0 if place == top else tie
            if counts:
                yield from parts_of(part, factor * counts)
    elif SUM.fullmatch(description):
        for part in details:
            if float(part["value"]):
                yield from parts_of(part, factor)
    elif (scoring := [part for part in details if has_terms(part)]) and len(scoring) == 1:
        (part,) = scoring  # a product, or a score changed by a function: shares are unchanged
        inner = float(part["value"])
        yield from parts_of(part, value / inner if inner else 0.0)
    else:
        name = " ".join(description.split())
        yield Contribution("other", "", name, name, None, None, None, None, value, 0.0)


def of_term(description: str) -> tuple[str, str] | None:
    """Field and term of a node that scores a term; several terms if scored as synonyms."""
    if found := SYNONYMS.match(description):
        names = found["terms"].split()
        field = names[0].partition(":")[0] if names else ""
        return field, " ".join(name.removeprefix(f"{field}:") for name in names)
    found = TERM.match(description)
    return (found["field"], found["term"]) if found else None


def contribution(node: Mapping[str, Any], field: str, term: str, factor: float) -> Contribution:
    """The contribution of a node that scores a term."""
    known = dict(numbers(node["details"]))
    score = float(node["value"]) * factor
    idf, saturation = known.get("idf"), known.get("tf")
    # From the score, since the details do not have all factors of the engine.
    weight = score / (idf * saturation) if idf and saturation else None
    frequency = known.get("freq", known.get("termFreq"))
    return Contribution("word", field, term, term, idf, frequency, weight, saturation, score, 0.0)


def numbers(details: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    """Names and values in the details of a node, innermost first."""
    for node in details:
        yield from numbers(node["details"])
        yield re.split(r"[=,\s]", str(node["description"]), maxsplit=1)[0], float(node["value"])


def has_terms(node: Mapping[str, Any]) -> bool:
    """Whether a term scores in a node."""
    return bool(of_term(str(node["description"]))) or any(map(has_terms, node["details"]))
