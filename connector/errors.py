"""Everything this package raises on purpose.

LatentIngestError
├── InputError      a file, a line or a value given by the user cannot be used
├── ModelError      a backbone or an autoencoder cannot be loaded, or they do not fit
├── MismatchError   an index was made by another model, or is not one of ours
└── EngineError     the search engine cannot be reached, or refuses what we ask
"""

from __future__ import annotations


class LatentIngestError(Exception):
    """Base of all errors of this package; the message names the value and the mend."""


class InputError(LatentIngestError):
    """A file, line or value given by the user cannot be used: correct it and call again."""


class ModelError(LatentIngestError):
    """A backbone or autoencoder cannot be loaded, does not fit, or gives NaN: name another."""


class MismatchError(LatentIngestError):
    """The index was made by another model or mapping: use that model, or another index."""


class EngineError(LatentIngestError):
    """The engine is not reachable or refuses: check the URL, the credentials, its log."""
