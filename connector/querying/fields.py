"""Fields of an index: all that can be asked, and those whose text is in the latent field."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from latent_ingest.connector.client import engine_errors
from latent_ingest.connector.errors import InputError


def read_fields(client: OpenSearch, index: str) -> dict[str, bool] | None:
    """Each field of an index, and whether it is of type text; none where we may not ask.

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
    return {name: "text" in types for name, types in found.items() if not name.startswith("_")}


def fed_fields(
    latent_field: str,
    fed: Sequence[str],
    known: Mapping[str, bool] | None,
    wanted: Sequence[str] | Mapping[str, str] | None,
) -> Collection[str]:
    """The fields on which text clauses are rewritten.

    Args:
        latent_field: of the index.
        fed: fields whose text is in it; text fields within them, with other analyzers, are too.
        known: as `read_fields` has them.
        wanted: the caller's own choice, or a mapping of it to the latent field.

    Raises:
        InputError: one of `wanted` is not in the index, or is to go to another latent field.
    """
    if wanted is None:
        within = (n for n, text in (known or {}).items() if text and n.rpartition(".")[0] in fed)
        return list(dict.fromkeys([*fed, *within]))
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
    return list(wanted)
