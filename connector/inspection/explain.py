"""Why a document was found: what each word and each latent adds to its score.

request body → the engine's `_explain` → contributions of terms, whose sum is the score
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch

from latent_ingest.connector import terms
from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.inspection.labels import firing_words

if TYPE_CHECKING:
    from latent_ingest.connector.querying.rewriter import QueryRewriter

KINDS = ("latent", "word", "other")

# As Lucene describes a term's part of a score, and how parts are put together.
TERM = re.compile(r"weight\((?P<field>[^:]*):(?P<term>.*) in \d+\)", re.DOTALL)
SYNONYMS = re.compile(r"weight\(Synonym\((?P<terms>.*)\) in \d+\)", re.DOTALL)
SUM = re.compile(r"(.*, )?sum of:?")
BEST = re.compile(r"max plus (?P<tie>[0-9.E+-]+) times others of:")


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one term of a request adds to the score of a document."""

    kind: str
    """"latent", "word", or "other" for what is no term, such as a constant."""
    field: str
    term: str
    label: str
    """What a latent means; the term itself where nothing says it, and for words."""
    idf: float | None
    frequency: float | None
    """Of the term in the document."""
    weight: float | None
    """All factors of the request and the engine: `weight * idf * saturation` is the score."""
    saturation: float | None
    """Of the frequency, 0 to 1, by BM25's k1, b and the document's length."""
    score: float
    share: float
    """Of the document's score, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a document has its score."""

    index: str
    id: str
    matched: bool
    score: float
    """The engine's; zero where the document does not match."""
    contributions: list[Contribution]
    """Heaviest first; their scores add up to `score`."""

    def share(self, kind: str) -> float:
        """Of the score that contributions of one kind have, 0 to 1."""
        return sum(item.share for item in self.contributions if item.kind == kind)

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def explain(
    client: OpenSearch,
    rewriter: QueryRewriter,
    question: str,
    id: str,
    *,
    labels: Mapping[int, str] | None = None,
    **options: Any,
) -> Explanation:
    """Why a document has the score that a question gives it.

    Args:
        client: of the engine.
        rewriter: made by `QueryRewriter.from_index`.
        question: in plain words.
        id: of the document; in an index of chunks, of the chunk.
        labels: of latents, see `read_labels`; latents without one are named by the words of the
            question that fire them.
        options: as for `QueryRewriter.rewrite`. In forms of two phases the score is that of both,
            which hits within the window have.

    Raises:
        InputError: no such document, or an option cannot be.
        ModelError: the backbone gives NaN.
        EngineError: the engine cannot be asked, or refuses.
    """
    body = rewriter.rewrite(question, **options)
    hit = find_hit(client, str(rewriter.index), id)
    return explain_hits(client, rewriter, question, body, [hit], labels=labels)[0]


def explain_hits(
    client: OpenSearch,
    rewriter: QueryRewriter,
    question: str,
    body: Mapping[str, Any],
    hits: Sequence[Mapping[str, Any]],
    *,
    labels: Mapping[int, str] | None = None,
) -> list[Explanation]:
    """Why hits have the scores that the request for a question gives them; as `explain`."""
    named = {**firing_words(rewriter.encoder, question), **(labels or {})}
    found = [explain_request(client, hit, body, latent_field=rewriter.field) for hit in hits]
    return [labelled(explanation, named) for explanation in found]


def find_hit(client: OpenSearch, index: str, id: str) -> dict[str, Any]:
    """Which index a document is in, and its routing, without which no shard knows it.

    Raises:
        InputError: no such document.
        EngineError: the engine cannot be asked.
    """
    body = {"query": {"ids": {"values": [id]}}, "size": 1, "_source": False}
    with engine_errors(client):
        hits: list[dict[str, Any]] = client.search(index=index, body=body)["hits"]["hits"]
    if not hits:
        raise InputError(f"no document {id!r} in index {index}; name one by its _id")
    return hits[0]


def explain_request(
    client: OpenSearch, hit: Mapping[str, Any], body: Mapping[str, Any], *, latent_field: str
) -> Explanation:
    """Why a hit has the score that a request gives it; latents have no labels.

    Args:
        client: of the engine.
        hit: its `_index`, `_id` and, if it has one, `_routing`.
        body: of the request.
        latent_field: of the index.

    Raises:
        InputError: it is rescored otherwise than by adding.
        EngineError: the engine cannot be asked, or refuses.
    """
    index, id = hit["_index"], hit["_id"]
    with engine_errors(client):
        answer = client.explain(
            index=index,
            id=id,
            body={"query": in_one_phase(body)},
            routing=hit.get("_routing"),
        )
    if not answer["matched"]:
        return Explanation(index, id, False, 0.0, [])
    tree = answer["explanation"]
    score = float(tree["value"])
    parts = [replace(part, share=part.score / score if score else 0.0) for part in parts_of(tree)]
    merged = [
        replace(part, kind="latent") if part.field == latent_field else part for part in parts
    ]
    return Explanation(index, id, True, score, sorted(merged, key=lambda part: -part.score))


def labelled(explanation: Explanation, labels: Mapping[int, str]) -> Explanation:
    """The same, with labels for latents."""
    named = [
        replace(part, label=labels.get(terms.latent_of(part.term), part.term))
        if part.kind == "latent"
        else part
        for part in explanation.contributions
    ]
    return replace(explanation, contributions=named)


def in_one_phase(body: Mapping[str, Any]) -> dict[str, Any]:
    """The query whose score a hit has after rescoring, which `_explain` does not know."""
    query: dict[str, Any] = body["query"]
    rescores = body.get("rescore") or []
    for rescore in rescores if isinstance(rescores, list) else [rescores]:
        phase = rescore["query"]
        if str(phase.get("score_mode", "total")).lower() != "total":
            raise InputError("only a rescore that adds its score can be explained")
        first, second = phase.get("query_weight", 1.0), phase.get("rescore_query_weight", 1.0)
        query = {
            "bool": {
                "must": [{"bool": {"must": [query], "boost": first}}],
                "should": [{"bool": {"must": [phase["rescore_query"]], "boost": second}}],
            }
        }
    return query


def parts_of(node: Mapping[str, Any], factor: float = 1.0) -> Iterator[Contribution]:
    """What terms add to a node of an explanation, of whose value `factor` counts."""
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
        (part,) = scoring  # a product, or a score that a function changes: shares stay
        inner = float(part["value"])
        yield from parts_of(part, value / inner if inner else 0.0)
    else:
        name = " ".join(description.split())
        yield Contribution("other", "", name, name, None, None, None, None, value, 0.0)


def of_term(description: str) -> tuple[str, str] | None:
    """Field and term of a term's part; terms of one place that the engine scores as one, too."""
    if found := SYNONYMS.match(description):
        names = found["terms"].split()
        field = names[0].partition(":")[0] if names else ""
        return field, " ".join(name.removeprefix(f"{field}:") for name in names)
    found = TERM.match(description)
    return (found["field"], found["term"]) if found else None


def contribution(node: Mapping[str, Any], field: str, term: str, factor: float) -> Contribution:
    """Of a term's part of an explanation."""
    known = dict(numbers(node["details"]))
    score = float(node["value"]) * factor
    idf, saturation = known.get("idf"), known.get("tf")
    # As the score says, since not all that the engine multiplies is among the details.
    weight = score / (idf * saturation) if idf and saturation else None
    return Contribution(
        kind="word",
        field=field,
        term=term,
        label=term,
        idf=idf,
        frequency=known.get("freq", known.get("termFreq")),
        weight=weight,
        saturation=saturation,
        score=score,
        share=0.0,
    )


def numbers(details: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    """Names and values in the details of a term's part, the innermost first."""
    for node in details:
        yield from numbers(node["details"])
        yield re.split(r"[=,\s]", str(node["description"]), maxsplit=1)[0], float(node["value"])


def has_terms(node: Mapping[str, Any]) -> bool:
    """Whether some term scores in a node."""
    if of_term(str(node["description"])):
        return True
    return any(has_terms(part) for part in node["details"])
