"""Fields of an index: all that can be asked, and those whose text is in the latent field."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase

from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import InputError

# Patterns that are remembered; applications have a few.
MOST_PATTERNS = 1000


class IndexFields(dict[str, bool]):
    """The fields of an index, and whether each is of type text. It stays as it was made."""

    def __init__(self, fields: Mapping[str, bool]) -> None:
        super().__init__(fields)
        self._matching: dict[str, Sequence[str]] = {}

    def matching(self, pattern: str) -> Sequence[str]:
        """The names that a pattern stands for, looked for once: an index may have thousands."""
        found = self._matching.get(pattern)
        if found is None:
            if len(self._matching) >= MOST_PATTERNS:
                self._matching.clear()
            found = [name for name in self if fnmatchcase(name, pattern)]
            self._matching[pattern] = found
        return found


def read_fields(client: OpenSearch, index: str) -> IndexFields | None:
    """The fields of an index; none where we may not ask.

    Raises:
        EngineError: the engine cannot be reached.
    """
    with engine_errors(client):
        try:
            found = client.field_caps(index=index, fields="*")["fields"]
        except TransportError as error:
            if not isinstance(error.status_code, int):  # nothing answers
                raise
            return None
    return IndexFields(
        {name: "text" in types for name, types in found.items() if not name.startswith("_")}
    )


def fed_fields(
    latent_field: str,
    fed: Sequence[str],
    known: IndexFields | None,
    wanted: Sequence[str] | Mapping[str, str] | None,
) -> Collection[str]:
    """The fields on which text clauses are rewritten.

    Args:
        latent_field: of the index.
        fed: fields whose text is in it; text fields within them, with other analyzers, are too.
        known: all fields of the index, if they are known.
        wanted: the caller's own choice, or a mapping of it to the latent field.

    Raises:
        InputError: one of `wanted` is not in the index, or is to go to another latent field.
    """
    if wanted is None:
        within = (n for n, text in (known or {}).items() if text and n.rpartition(".")[0] in fed)
        return dict.fromkeys([*fed, *within])
    if isinstance(wanted, str) or not wanted:
        raise InputError(f"fields {wanted!r}: name them in a list, or leave it out for all")
    for name in wanted:
        if known is not None and not known.get(name):
            raise InputError(
                f"field {name}: the index has no such text field; those whose text is in "
                f"{latent_field}: {', '.join(dict.fromkeys(fed))}"
            )
        if isinstance(wanted, Mapping) and wanted[name] != latent_field:
            raise InputError(
                f"field {name}: no latent field {wanted[name]}; this index has {latent_field}"
            )
    return dict.fromkeys(wanted)
