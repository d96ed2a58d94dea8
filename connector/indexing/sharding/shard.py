"""One shard of a corpus: the documents that one of several commands indexes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from latent_ingest.connector.document import BadLine, Document
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.seen_keys import key_hash


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `number` of `of`.

    Documents are chosen by a hash of their ids, so that all lines with the same id are in the same
    shard, and the last of them counts whichever shard ends first. What has no id, such as a blank
    line, is chosen by its line number. So each line of a corpus is in exactly one shard.
    """

    number: int
    """Counted from 1."""
    of: int
    """Number of shards."""

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `2/8`; raises InputError if it is not a shard."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
        if not found:
            raise InputError(f"shard {text!r}: write NUMBER/SHARDS, such as 2/8")
        number, of = int(found[1]), int(found[2])
        if not 1 <= number <= of:
            last = f"1/{of} to {of}/{of}" if of else "from 1/1"
            raise InputError(f"shard {text!r} is out of range; shards are counted {last}")
        return cls(number, of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def file_name(self) -> str:
        """The shard as a part of a file's name."""
        return f"shard-{self.number}-of-{self.of}"

    def has(self, number: int, content: Document | BadLine | None) -> bool:
        """Whether a line is in this shard, by its number and what it holds."""
        document = content.content if isinstance(content, BadLine) else content
        key = document.id if isinstance(document, Document) else f"\n{number}"
        return key_hash(key) % self.of == self.number - 1
