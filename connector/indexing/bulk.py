"""Encoded documents → bulk requests → one outcome a document."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tenacity
from opensearchpy import OpenSearch
from opensearchpy.exceptions import ConnectionError as NoConnection
from opensearchpy.exceptions import OpenSearchException, SSLError, TransportError

from latent_ingest.connector.client import in_words, reason_in, url_of
from latent_ingest.connector.corpus import Document

# A request holds at most this many documents and bytes; one document larger than that goes
# alone. 5 to 10 MB is the useful size; the engine refuses above 100 MB.
MAX_DOCUMENTS = 500
MAX_BYTES = 5_000_000

# Answers that pass: too busy, or a proxy or node that is away for a moment.
PASSING = frozenset({429, 502, 503, 504})

# Waits before a retry grow to about 1, 2, 4 ... 60 s, each drawn at random from zero up, so that
# several loaders do not come back at once; ten attempts are about four minutes.
ATTEMPTS = 10
WAIT = tenacity.wait_random_exponential(multiplier=1, max=60)


@dataclass(frozen=True, slots=True)
class Action:
    """A document ready to be sent."""

    document: Document
    body: bytes
    """Its two lines of a bulk request."""
    empty: bool
    """Whether its text gives no latents."""
    truncated: bool
    """Whether its text is longer than the backbone's window."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a document ended."""

    document: Document
    reason: str | None = None
    """Why the engine rejected it; none when it is indexed."""


class Busy(Exception):
    """Some documents were turned away for now; they are sent again."""


class Unsent(Exception):
    """The engine took no request for all of the retries, or refuses them for good.

    `outcomes` are the documents of the batch that had ended before, `reason` is one line.
    """

    def __init__(self, reason: str, outcomes: list[Outcome]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.outcomes = outcomes


def make_action(
    document: Document,
    latent_field: str,
    latent_string: str,
    *,
    hash_field: str | None = None,
    truncated: bool = False,
) -> Action:
    """The bulk lines that index a document with its latent terms and the hash of its text."""
    header = {"index": {"_id": document.id}}
    source = {**document.fields, latent_field: latent_string}
    if hash_field:
        source[hash_field] = document.text_hash
    lines = f"{json.dumps(header)}\n{json.dumps(source, ensure_ascii=False)}\n"
    # A lone surrogate is valid JSON as an escape but no UTF-8.
    return Action(document, lines.encode("utf-8", "replace"), not latent_string, truncated)


def requests(actions: Sequence[Action]) -> Iterator[list[Action]]:
    """Cut actions into requests by count and bytes; no request has the same id twice.

    So that of two documents with one id the later wins, whichever of them is retried.
    """
    request: list[Action] = []
    size = 0
    ids: set[str] = set()
    for action in actions:
        full = len(request) >= MAX_DOCUMENTS or size + len(action.body) > MAX_BYTES
        if request and (full or action.document.id in ids):
            yield request
            request, size, ids = [], 0, set()
        request.append(action)
        size += len(action.body)
        ids.add(action.document.id)
    if request:
        yield request


def send(client: OpenSearch, index: str, actions: Sequence[Action]) -> list[Outcome]:
    """Index the documents of one request, each exactly one outcome.

    What is turned away with 429, 502, 503 or 504, and requests that break, are sent again; the
    ids make that harmless. A request too large (413) is halved.

    Raises:
        Unsent: the engine takes nothing even after the retries.
    """
    outcomes: list[Outcome] = []
    pending = list(actions)
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=WAIT,
        retry=tenacity.retry_if_exception(passes),
        reraise=True,
    )
    try:
        for attempt in retrying:
            with attempt:
                pending = send_once(client, index, pending, outcomes)
                if pending:
                    raise Busy
    except Busy:
        reason = f"still too busy after {ATTEMPTS} attempts; feed the failures file back in later"
        outcomes += [Outcome(action.document, reason) for action in pending]
    except TransportError as error:
        if error.status_code == 413:
            return outcomes + send_halves(client, index, pending)
        raise Unsent(str(in_words(error, url_of(client))), outcomes) from error
    except OpenSearchException as error:
        raise Unsent(str(in_words(error, url_of(client))), outcomes) from error
    return outcomes


def passes(error: BaseException) -> bool:
    """Whether it is worth trying again."""
    if isinstance(error, NoConnection):  # timeouts too
        return not isinstance(error, SSLError)
    return isinstance(error, Busy) or (
        isinstance(error, TransportError) and error.status_code in PASSING
    )


def send_halves(client: OpenSearch, index: str, actions: Sequence[Action]) -> list[Outcome]:
    """Send a request that was too large as two; a single document is rejected."""
    if len(actions) == 1:
        reason = (
            f"too large for the engine: {len(actions[0].body):,} bytes (http.max_content_length)"
        )
        return [Outcome(actions[0].document, reason)]
    middle = len(actions) // 2
    first = send(client, index, actions[:middle])
    try:
        return first + send(client, index, actions[middle:])
    except Unsent as error:
        raise Unsent(error.reason, first + error.outcomes) from error


def send_once(
    client: OpenSearch, index: str, actions: Sequence[Action], outcomes: list[Outcome]
) -> list[Action]:
    """One request; adds what ended to `outcomes`, returns what was turned away for now."""
    body = b"".join(action.body for action in actions)
    answer: dict[str, Any] = client.bulk(body=body, index=index)
    turned_away: list[Action] = []
    for action, item in zip(actions, answer["items"], strict=True):
        result = item["index"]
        if result["status"] in PASSING:
            turned_away.append(action)
        elif "error" in result:
            outcomes.append(Outcome(action.document, reason_in(result["error"])))
        else:
            outcomes.append(Outcome(action.document))
    return turned_away
