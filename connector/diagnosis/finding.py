"""Findings: the results of checks, and how checks are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from opensearchpy.exceptions import TransportError

from latent_ingest.connector.engine.client import reason_of

OK, NOTE, UNKNOWN, WARNING, PROBLEM = "ok", "note", "unknown", "warning", "problem"

# From good to bad; `unknown` is no worse than a note.
STATES = (OK, NOTE, UNKNOWN, WARNING, PROBLEM)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    state: str
    """One of `STATES`."""
    found: str
    advice: str = ""
    """What follows from it, and what to do; empty if nothing does."""


Check = Callable[[], Iterator[Finding]]


def run_checks(checks: Mapping[str, Check]) -> Iterator[Finding]:
    """Run checks by name, in order. What the engine refuses to tell is `unknown`.

    Raises:
        TransportError: the engine does not answer.
    """
    for name, check in checks.items():
        try:
            yield from check()
        except TransportError as error:
            if not isinstance(error.status_code, int):
                raise
            yield Finding(name, UNKNOWN, f"the engine does not tell: {refusal(error)}")


def refusal(error: TransportError) -> str:
    """Status and reason of an answer that is no success."""
    return f"{error.status_code}, {reason_of(error)}"


def setting(answer: dict[str, Any], name: str) -> Any:
    """The value of a cluster setting in an answer with flat settings; None if it has none."""
    for level in ("transient", "persistent", "defaults"):
        if (value := answer.get(level, {}).get(name)) is not None:
            return value
    return None


def is_true(value: Any) -> bool:
    """Whether a setting is on; engines write `true` and `"true"`."""
    return str(value).lower() == "true"
