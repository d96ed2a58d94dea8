"""Files of the Hugging Face hub, `hf://datasets/OWNER/NAME/PATH`, read over the network."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from latent_ingest.connector.corpus_file import CorpusFile
from latent_ingest.connector.errors import InputError

PREFIX = "hf://"


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
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: could not be downloaded: {reason[:200]}; check the name, the network, and "
            f"'hf auth login' for a gated dataset"
        ) from error


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
