"""Changes of each document: fields that are renamed, set or left out."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from latent_ingest.connector.document_text import has_field, nearest, paths_in, steps

# Documents that are looked at for fields to rename.
NOTED = 1000


class Changes:
    """First fields are renamed, all at once, then some are left out, then some are set."""

    def __init__(
        self, renamed: Mapping[str, str], values: Mapping[str, Any], dropped: Sequence[str]
    ) -> None:
        """Take field → path of its source; field → value; paths of fields to leave out."""
        self._renamed = renamed
        self._values = values
        self._dropped = dropped
        self._unseen = list(renamed.values())
        self._names: dict[str, None] = {}
        self._noted = 0

    def __call__(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The changed document; `fields` may be changed, too."""
        if self._unseen and self._noted < NOTED:
            self._note(fields)
        taken = {
            field: value
            for field, path in self._renamed.items()
            for found, value in [take(fields, path)]
            if found
        }
        for path in self._dropped:
            take(fields, path)
        fields.update(taken)
        for field, value in self._values.items():
            fields[field] = copy.deepcopy(value)
        return fields

    def unseen(self) -> list[str]:
        """A message for each field to rename that none of the first documents had so far.

        Any thread may ask.
        """
        names = list(self._names)
        return [
            f"none of the first documents has the field {path!r} of --map{nearest(path, names)}"
            for path in self._unseen
        ]

    def _note(self, fields: dict[str, Any]) -> None:
        self._noted += 1
        self._unseen = [path for path in self._unseen if not has_field(fields, path)]
        if self._unseen:
            self._names.update(dict.fromkeys(paths_in(fields)))


def take(value: Any, path: str) -> tuple[bool, Any]:
    """Remove what is at a path; gives whether anything was there, and what.

    Of objects in an array, it is the array of what they had. Objects that become empty are removed.
    """
    if isinstance(value, list):
        taken = [item for found, item in (take(item, path) for item in value) if found]
        return bool(taken), taken
    if not isinstance(value, dict):
        return False, None
    for key, rest in steps(value, path):
        if not rest:
            return True, value.pop(key)
        found, inner = take(value[key], rest)
        if found:
            if value[key] == {}:
                del value[key]
            return True, inner
    return False, None
