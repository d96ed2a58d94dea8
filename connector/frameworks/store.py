"""An index as frameworks see it: passages that are found; documents that are added and deleted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch, helpers

from latent_ingest.connector.document import FAILURE_KEY, generated_id
from latent_ingest.connector.document_text import has_field, text_in
from latent_ingest.connector.engine.adapter import Client, adapted
from latent_ingest.connector.engine.client import Connection, default_url, engine_errors
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError, InputError, MismatchError
from latent_ingest.connector.frameworks.filters import Clause, Fields
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta, have_own_words
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.indexing.actions import DeleteAction, Verdict, delete_action
from latent_ingest.connector.indexing.chunks import parent_of
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.indexing.sender import Sender, requests
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.scoring import AUTO
from latent_ingest.connector.querying.searcher import AsyncSearcher, Searcher
from latent_ingest.mappings import PARENT_FIELD, hash_field, id_field
from latent_ingest.mappings.template import CHUNK_FIELDS

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# Seconds of silence or refusals after which writing ends: an application waits for it.
GIVE_UP_AFTER = 60.0

# Chunks of a document that are read, some 200,000 words.
MOST_CHUNKS = 1000

QUESTIONS = ("model", "table", "auto")

Translate = Callable[[Fields], Clause]
"""Makes the clause of a filter, with the fields of the index."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A hit: a document, or in an index of chunks a part of one."""

    id: str
    score: float
    text: str
    """The value of the text field."""
    metadata: dict[str, Any]
    """All other fields of the document."""


class LatentStore:
    """Searches one index, adds documents to it and deletes them; what each framework needs.

    The engine is first asked by the first call. Thread-safe.
    """

    def __init__(
        self,
        index: str,
        client: OpenSearch | Client | str | None = None,
        async_client: Any = None,
        model: LatentEncoder | QueryEncoder | str | Path | None = None,
        form: str = AUTO,
        text_field: str | None = None,
        questions: str = "model",
    ) -> None:
        """Ask nothing yet.

        Args:
            index: name of the index, or an alias.
            client: client of opensearch-py or `elasticsearch`, or the URL of an engine; by default
                the engine of OPENSEARCH_URL, else the local one.
            async_client: an asynchronous client, for the methods that wait for an event loop;
                without one they ask by `client`, in a thread.
            model: the model that made the index, or its folder; by default minilm-32k.
            form: as for `QueryRewriter.rewrite`.
            text_field: field that holds the text of a passage; by default the last text field of
                the index.
            questions: what encodes questions: "model"; "table", a table of words, without the
                model; or "auto", the table of the index if that has one of its documents' words,
                else the model.

        Raises:
            InputError: the URL or the client cannot be used, `questions` is unknown, or a table
                is to encode the questions of a loaded model.
        """
        if questions not in QUESTIONS:
            raise InputError(f"questions {questions!r}: use one of {', '.join(QUESTIONS)}")
        if client is None or isinstance(client, str):
            client = Connection(client or default_url()).open()
        self.client = adapted(client)
        self.index = index
        self.queries = QueryEncoder.of(model)
        self._by_table = None if questions == "model" else self.queries.without_model()
        self._questions = questions
        if async_client is not None:
            adapted(async_client, asynchronous=True)  # one that blocks is refused now
        self._async_client = async_client
        self.form = form
        self._text_field = text_field
        self._searcher: Searcher | None = None
        self._async_searcher: tuple[object, AsyncSearcher] | None = None

    @property
    def searcher(self) -> Searcher:
        """The searcher of the index, opened now if it was not yet; raises as `Searcher`."""
        if self._searcher is None:
            self._searcher = Searcher(self.client, self.index, [self._asking()])
        return self._searcher

    def _asking(self) -> QueryEncoder:
        """What encodes questions to the index."""
        if self._by_table is None:
            return self.queries
        if self._questions == "table" or have_own_words(self.client, self.index):
            return self._by_table
        return self.queries

    def search(
        self,
        question: str,
        size: int,
        filters: Sequence[Clause] = (),
        translate: Translate | None = None,
    ) -> list[Passage]:
        """The best passages for a question.

        Args:
            question: in plain words.
            size: number of passages.
            filters: clauses of the query language that they must match.
            translate: makes one more clause.

        Raises:
            InputError, MismatchError, ModelError, EngineError: as `Searcher` and its `search`.
        """
        check_size(size)
        searcher = self.searcher
        clauses = list(filters)
        if translate:
            with engine_errors(self.client):
                mappings = self.client.indices.get_mapping(index=searcher.rewriter.index)
            clauses.append(translate(Fields(mappings)))
        answer = searcher.search(question, form=self.form, size=size, filter=clauses or None)
        return self._passages(answer, searcher.rewriter)

    async def search_async(
        self,
        question: str,
        size: int,
        filters: Sequence[Clause] = (),
        translate: Translate | None = None,
    ) -> list[Passage]:
        """As `search`, without blocking the event loop."""
        if self._async_client is None:
            return await asyncio.to_thread(self.search, question, size, filters, translate)
        check_size(size)
        loop = asyncio.get_running_loop()
        if self._async_searcher is None or self._async_searcher[0] is not loop:
            asking = await asyncio.to_thread(self._asking)
            opened = await AsyncSearcher.open(self._async_client, self.index, [asking])
            self._async_searcher = loop, opened
        searcher = self._async_searcher[1]
        clauses = list(filters)
        if translate:
            client: Any = adapted(self._async_client, asynchronous=True)
            with engine_errors(client):
                mappings = await client.indices.get_mapping(index=searcher.rewriter.index)
            clauses.append(translate(Fields(mappings)))
        answer = await searcher.search(question, form=self.form, size=size, filter=clauses or None)
        return self._passages(answer, searcher.rewriter)

    def read(self, identifier: str) -> Passage:
        """A whole document, by its id or by that of a hit; with score 0.

        Raises:
            InputError: there is no such document.
            MismatchError, EngineError: as `Searcher`.
        """
        rewriter = self.searcher.rewriter
        body: dict[str, Any] = {
            "size": 1,
            "query": any_id(
                {"ids": {"values": [identifier]}},
                {"term": {id_field(rewriter.field): identifier}},
            ),
            "_source": {"excludes": [rewriter.field, hash_field(rewriter.field)]},
        }
        if rewriter.collapse:
            chunk = parent_of(identifier)
            parents = [identifier, chunk[0]] if chunk else [identifier]
            body |= {"query": {"terms": {PARENT_FIELD: parents}}, "sort": ["chunk"]}
            body["size"] = MOST_CHUNKS
        with engine_errors(self.client):
            answer = self.client.search(index=rewriter.index, body=body)
        passages = self._passages(answer, rewriter)
        if not passages:
            raise InputError(f"no document {identifier!r} in index {self.index}")
        return whole(passages, identifier) if rewriter.collapse else passages[0]

    def _passages(self, answer: Mapping[str, Any], rewriter: QueryRewriter) -> list[Passage]:
        field = self._text_field or (rewriter.text_fields or [""])[-1]
        found = []
        for hit in answer["hits"]["hits"]:
            source = dict(hit.get("_source", {}))
            there = [field] if has_field(source, field) else rewriter.text_fields
            text = text_in(source, there)
            source.pop(field, None)
            identifier = source.pop(id_field(rewriter.field), None) or hit["_id"]
            found.append(Passage(str(identifier), float(hit["_score"] or 0.0), text, source))
        return found

    def add(self, documents: Iterable[tuple[str | None, str, Mapping[str, Any]]]) -> list[str]:
        """Index documents: each an id or None, a text, and its other fields.

        The index is made if there is none. A document replaces the one of the same id. They are
        found as soon as this returns. Meanwhile the index is refreshed as ever.

        Returns:
            Their ids; one that was not given is made of the content.

        Raises:
            InputError: a document cannot be indexed; the others are.
            MismatchError, ModelError: as `open_index`.
            EngineError: the engine is away, or refuses all.
        """
        retry = Retry(self.client, give_up_after=GIVE_UP_AFTER)
        encoder = self.queries.load()
        with engine_errors(self.client):
            before = IndexMeta.read(self.client, self.index)
        wanted = {"text_fields": (self._text_field,)} if self._text_field and not before else {}
        meta = open_index(self.client, self.index, encoder, wanted, retry)
        field = self._text_field or meta.text_fields[-1]
        rows = []
        for identifier, text, others in documents:
            if field in others:
                raise InputError(f"metadata has a field {field!r}, which holds the text; rename it")
            fields = {**others, field: text}
            rows.append({**fields, "_id": identifier or generated_id(as_json(fields))})
        if not rows:
            return []
        with TemporaryDirectory(prefix="latent-ingest-") as folder:
            corpus, failures = Path(folder) / "documents.jsonl", Path(folder) / "failed.jsonl"
            corpus.write_text("".join(json.dumps(as_json(row)) + "\n" for row in rows))
            report = Ingest(
                self.client,
                self.index,
                encoder,
                meta,
                str(corpus),
                id_fields=["_id"],
                failures=failures,
                give_up_after=GIVE_UP_AFTER,
                refresh_off=False,
            ).run()
            if report.stopped:
                raise EngineError(report.stopped)
            if report.failed:
                first = json.loads(failures.read_text().splitlines()[0])[FAILURE_KEY]
                raise InputError(
                    f"{report.failed} of {len(rows)} documents are not in index {self.index}; "
                    f"number {first['line']}: {first['reason']}"
                )
        return [row["_id"] for row in rows]

    def delete(self, ids: Sequence[str]) -> int:
        """Delete documents by id, also their chunks; ids that do not exist are ignored.

        Returns:
            Number of deleted documents or chunks.

        Raises:
            MismatchError: there is no such index, or it has no latent terms.
            EngineError: a document was changed meanwhile, or the engine refuses.
        """
        meta = IndexMeta.read(self.client, self.index)
        if meta is None:
            raise MismatchError(f"no index or alias {self.index}")
        index = Index.find(self.client, self.index) or Index(self.client, self.index)
        retry = Retry(self.client, give_up_after=GIVE_UP_AFTER)
        given = list(map(str, ids))
        queries: list[Clause] = [{"ids": {"values": given}}]
        if meta.long == "chunks":
            queries = [{"terms": {PARENT_FIELD: given}}]
        elif meta.id_field:
            queries.append({"terms": {meta.id_field: given}})
        body = {"query": any_id(*queries), "_source": False, "seq_no_primary_term": True}
        with engine_errors(self.client):
            index.refresh()
            hits = list(helpers.scan(self.client, index=index.name, query=body))
        sender = Sender[DeleteAction](self.client, {"index": index.name}, retry)
        sent = [sender.submit(request) for request in requests([*map(delete_action, hits)])]
        sender.close()
        outcomes = [outcome for future in sent for outcome in future.result()]
        index.refresh()
        for outcome in outcomes:
            if outcome.verdict is Verdict.CONFLICT:
                raise EngineError(
                    f"document {outcome.action.id!r} was changed meanwhile; delete it again"
                )
            if outcome.verdict not in (Verdict.DONE, Verdict.DELETED):
                raise EngineError(f"document {outcome.action.id!r}: {outcome.reason}")
        return len(outcomes)


def whole(chunks: Sequence[Passage], identifier: str) -> Passage:
    """The document of chunks in their order, with the fields that it has itself."""
    own = [chunk for chunk in chunks if chunk.metadata.get(PARENT_FIELD) == identifier] or chunks
    first = own[0]
    fields = {name: first.metadata[name] for name in first.metadata.keys() - CHUNK_FIELDS.keys()}
    return Passage(
        str(first.metadata[PARENT_FIELD]), 0.0, "".join(chunk.text for chunk in own), fields
    )


def any_id(*queries: Clause) -> Clause:
    """The clause for documents by one of several kinds of ids."""
    return {"bool": {"filter": [{"bool": {"should": list(queries)}}]}}


def as_json(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields with dates and other values as text, where JSON has no type for them."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(fields), default=str))
    return plain


def check_size(size: int) -> None:
    """Raise InputError for a number of hits that engines do not return."""
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 10_000:
        raise InputError(f"{size!r} hits: ask for 1 to 10000")
