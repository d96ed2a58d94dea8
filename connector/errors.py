"""Exceptions raised on purpose; catch LatentIngestError for all of them.

LatentIngestError
├── InputError      a file, line or value given by the user cannot be used
├── ModelError      a backbone or an autoencoder cannot be loaded, or they do not fit together
├── MismatchError   an index was made by another model, or not by this package
└── EngineError     the search engine is not reachable, or refuses a request

The command line exits with status 2 for an InputError and 1 for the others.
"""

from __future__ import annotations


class LatentIngestError(Exception):
    """Base of all errors of this package; the message names what is wrong and how to fix it."""


class InputError(LatentIngestError):
    """A file, line or value given by the user cannot be used. Correct it and call again."""


class ModelError(LatentIngestError):
    """A model cannot be used.

    The backbone or autoencoder cannot be loaded, they do not fit together, or they give NaN. Use
    another model, or the device and dtype that the message suggests.
    """


class MismatchError(LatentIngestError):
    """An index does not fit the model or the mapping. Use the index's model, or another index."""


class EngineError(LatentIngestError):
    """The engine is not reachable or refuses a request. Check its URL, credentials and log."""
