"""A saved request of the user's own, with a place for the question."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.systems import SYSTEMS

PLACEHOLDER = "{{question}}"

# What names a system, which files are named by.
NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True)
class Template:
    """A request body with `{{question}}` in one of its strings, or in several."""

    name: str
    content: dict[str, Any]

    @classmethod
    def load(cls, spec: str) -> Template:
        """Read `name=body.json`.

        Raises:
            InputError: it is not of that form, or the file is no request with a placeholder.
        """
        name, _, file = spec.partition("=")
        if not file or not NAME.fullmatch(name):
            raise InputError(f"--system {spec}: write NAME=FILE, as in mine=body.json")
        if name in SYSTEMS:
            raise InputError(f"--system {spec}: {name} is there already; take another name")
        try:
            content = json.loads(Path(file).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{file}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise InputError(f"{file}: not JSON: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"{file}: not a request body, which is an object")
        if filled(content, PLACEHOLDER) == filled(content, ""):
            raise InputError(
                f"{file}: no {PLACEHOLDER}; put it in the string where the question belongs"
            )
        return cls(name, content)

    def body(self, question: str, size: int, collapse: str | None = None) -> dict[str, Any]:
        """The request for a question, with as many hits as are measured.

        Args:
            question: in place of the placeholder.
            size: hits wanted.
            collapse: in an index of chunks, the field that names the document of each.
        """
        body: dict[str, Any] = filled(self.content, question)
        body["size"] = size
        if collapse:
            body.setdefault("collapse", {"field": collapse})
            body["docvalue_fields"] = [*body.get("docvalue_fields", []), collapse]
        return body


def filled(part: Any, question: str) -> Any:
    """`part` with the question in place of the placeholder, in all its strings."""
    if isinstance(part, dict):
        return {key: filled(value, question) for key, value in part.items()}
    if isinstance(part, list):
        return [filled(value, question) for value in part]
    return part.replace(PLACEHOLDER, question) if isinstance(part, str) else part
