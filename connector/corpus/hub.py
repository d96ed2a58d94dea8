"""Files of the Hugging Face hub, `hf://datasets/OWNER/NAME/PATH`, read over the network."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from latent_ingest.connector.corpus_file import CorpusFile
from latent_ingest.connector.errors import InputError

PREFIX = "hf://"

# Kinds of errors of the connection, of the libraries that may be below the hub's.
NO_CONNECTION = {"TransportError", "ConnectionError", "TimeoutError", "gaierror"}


def on_hub(path: str) -> bool:
    """Whether the path names a file, folder or pattern of the hub."""
    return path.startswith(PREFIX)


@contextmanager
def reached(path: str) -> Iterator[Any]:
    """The hub's file system; whatever fails in the context is an InputError."""
    try:
        from huggingface_hub import HfFileSystem

        yield HfFileSystem()
    except InputError:
        raise
    except Exception as error:  # of the network, the hub's own, of the path
        raise InputError(f"{path}: could not be downloaded: {in_words(path, error)}") from error


def in_words(path: str, error: Exception) -> str:
    """Why a file of the hub cannot be had, and what to do."""
    from huggingface_hub import constants, errors

    causes = list(chain(error))
    statuses = {getattr(getattr(one, "response", None), "status_code", None) for one in causes}
    reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
    if any(isinstance(one, errors.OfflineModeIsEnabled) for one in causes):
        return "HF_HUB_OFFLINE is set; unset it, or name files of this machine"
    if statuses & {401, 403}:
        return "gated, private or not there; accept its terms, run 'hf auth login', check the name"
    if 404 in statuses or isinstance(error, FileNotFoundError):
        return "no such dataset or file on the hub; check the name"
    if any(NO_CONNECTION & {kind.__name__ for kind in type(one).__mro__} for one in causes):
        repository = "/".join(path.removeprefix(f"{PREFIX}datasets/").split("/")[:2])
        return (
            f"{constants.ENDPOINT} cannot be reached ({reason}); check the network, name a mirror "
            f"by HF_ENDPOINT, or run 'hf download {repository} --repo-type dataset' where it can "
            f"be reached, and name that folder"
        )
    return f"{reason}; check the name and the network"


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def list_files(path: str) -> list[str]:
    """The files that a path of the hub stands for, sorted: itself, of a folder, of a pattern."""
    with reached(path) as hub:
        found = hub.glob(path) if glob.has_magic(path) else hub.find(path)
        return [f"{PREFIX}{name}" for name in sorted(found)]


def open_file(path: str) -> CorpusFile:
    """Open a file of the hub."""
    with reached(path) as hub:
        size = hub.info(path)["size"]
        return CorpusFile(path, cast(Any, hub.open(path, "rb")), size)
