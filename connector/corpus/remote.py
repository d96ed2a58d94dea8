"""Files read over the network: `hf://datasets/OWNER/NAME/PATH` of the Hugging Face hub, and
`s3://BUCKET/KEY` of Amazon S3 and of servers with its API.
"""

from __future__ import annotations

import glob
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol

from latent_ingest.connector.corpus_file import CorpusFile
from latent_ingest.connector.errors import InputError

# Bytes of a request. Columns of Parquet are read in parts of this size, too.
PART = 1 << 20

# Kinds of errors of the connection, of the libraries that may be below the hub's.
NO_CONNECTION = {"TransportError", "ConnectionError", "TimeoutError", "gaierror"}

# What pyarrow's errors say if a server of S3 refuses, has no such file, or is silent.
REFUSED = re.compile("ACCESS_DENIED|ACCESS_KEY|SIGNATURE|TOKEN|CREDENTIALS|HTTP status 40[13]")
GONE = re.compile("NO_SUCH_KEY|RESOURCE_NOT_FOUND|HTTP status 404")
SILENT = re.compile("NETWORK_CONNECTION|REQUEST_TIMEOUT|curlCode")


class Remote(Protocol):
    """A path in one of the systems. Methods raise that system's errors, of any kind."""

    def files(self) -> list[str]:
        """The files that it stands for: itself, those of a folder or pattern; in any order."""

    def state(self) -> tuple[int, Any]:
        """Size of the file in bytes; and what is different for another file, None if unknown."""

    def open(self) -> Any:
        """A file object that reads and seeks."""

    def in_words(self, error: Exception) -> str:
        """Why something failed, and what to do."""


class OnHub:
    """A path of the Hugging Face hub, by its own library."""

    def __init__(self, name: str) -> None:
        """Take a path without its scheme."""
        from huggingface_hub import HfFileSystem

        self._name = name
        self._hub: Any = HfFileSystem()

    def files(self) -> list[str]:
        if not glob.has_magic(self._name):
            return list(self._hub.find(self._name))
        found = self._hub.glob(self._name, detail=True)
        return [name for name, entry in found.items() if entry["type"] == "file"]

    def state(self) -> tuple[int, Any]:
        return self._hub.info(self._name)["size"], None

    def open(self) -> Any:
        return self._hub.open(self._name, "rb")

    def in_words(self, error: Exception) -> str:
        from huggingface_hub import constants, errors

        causes = list(chain(error))
        statuses = {getattr(getattr(one, "response", None), "status_code", None) for one in causes}
        if any(isinstance(one, errors.OfflineModeIsEnabled) for one in causes):
            return "HF_HUB_OFFLINE is set; unset it, or name files of this machine"
        if statuses & {401, 403}:
            return (
                "gated, private or not there; accept its terms, run 'hf auth login', check the name"
            )
        if 404 in statuses or isinstance(error, FileNotFoundError):
            return "no such dataset or file on the hub; check the name"
        if any(NO_CONNECTION & {kind.__name__ for kind in type(one).__mro__} for one in causes):
            repository = "/".join(self._name.removeprefix("datasets/").split("/")[:2])
            return (
                f"{constants.ENDPOINT} cannot be reached ({one_line(error)}); check the network, "
                f"name a mirror by HF_ENDPOINT, or run 'hf download {repository} --repo-type "
                f"dataset' where it can be reached, and name that folder"
            )
        return f"{one_line(error)}; check the name and the network"


class InBucket:
    """A path of S3, by pyarrow, which finds credentials, region and endpoint by itself."""

    def __init__(self, name: str) -> None:
        """Take a path without its scheme; raises InputError if it names no bucket."""
        try:
            import pyarrow.fs
        except ImportError:
            raise InputError(
                f"s3://{name}: needs pyarrow: pip install 'latent-ingest[files]'"
            ) from None
        self._pyarrow = pyarrow.fs
        self._name = name
        self._bucket = name.partition("/")[0]
        if not re.fullmatch("[A-Za-z0-9._-]+", self._bucket):
            raise InputError(f"s3://{name}: names no bucket; write s3://BUCKET/PATH")

    @property
    def _system(self) -> Any:
        return system_of(self._bucket)

    def files(self) -> list[str]:
        from fsspec.utils import glob_translate

        magic = re.search(r"[*?[]", self._name)
        if magic is None and self._is_file():
            return [self._name]
        before = self._name[: magic.start()].rpartition("/")[0] if magic else self._name
        # One listing of all that is below, not one a folder, unless only names in it are matched.
        deep = magic is None or "/" in self._name[magic.start() :]
        selector = self._pyarrow.FileSelector(before.rstrip("/"), recursive=deep)
        try:
            found = self._system.get_file_info(selector)
        except FileNotFoundError:
            return []
        wanted = re.compile(glob_translate(self._name) if magic else "")
        return [one.path for one in found if one.is_file and wanted.match(one.path)]

    def _is_file(self) -> bool:
        try:
            self.state()
        except FileNotFoundError:
            return False
        except OSError as error:
            if not REFUSED.search(str(error)):
                raise
            return False  # who may read what is in a folder may not have to ask for its name
        return True

    def state(self) -> tuple[int, Any]:
        (found,) = self._system.get_file_info([self._name])
        if not found.is_file:
            raise FileNotFoundError(self._name)
        return found.size, found.mtime

    def open(self) -> Any:
        return self._system.open_input_file(self._name)

    def in_words(self, error: Exception) -> str:
        reason = re.sub(r"^.*AWS Error | \(Request ID: \w*\)", "", one_line(error))
        if "NO_SUCH_BUCKET" in reason:
            return f"no bucket {self._bucket}; check its name and AWS_ENDPOINT_URL"
        if isinstance(error, FileNotFoundError) or GONE.search(reason):
            return "no such file; check the name"
        if REFUSED.search(reason):
            return (
                f"access denied ({reason}); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                f"AWS_PROFILE or the role of this machine, and their rights to list and read "
                f"bucket {self._bucket}"
            )
        if SILENT.search(reason):
            server = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
            return (
                f"{server or 'Amazon S3'} cannot be reached ({reason}); check the network, or "
                f"name the server by AWS_ENDPOINT_URL"
            )
        return f"{reason}; check the name, AWS_ENDPOINT_URL and AWS_REGION"


@cache
def system_of(bucket: str) -> Any:
    """pyarrow's file system of a bucket, in its region."""
    from pyarrow.fs import FileSystem

    return FileSystem.from_uri(f"s3://{bucket}")[0]


SYSTEMS: dict[str, type[OnHub] | type[InBucket]] = {"hf": OnHub, "s3": InBucket}


def is_remote(path: str) -> bool:
    """Whether the path names a file, folder or pattern that is read over the network.

    Raises InputError if it has the form of one of a system that is not known.
    """
    scheme = re.match("([a-z][a-z0-9]*)://", path)
    if scheme and scheme[1] not in SYSTEMS:
        raise InputError(
            f"{path}: {scheme[0]} is not read; use {', '.join(f'{one}://' for one in SYSTEMS)} or "
            f"a path of this machine"
        )
    return scheme is not None


@contextmanager
def reached(path: str) -> Iterator[Remote]:
    """The path in its system; whatever fails in the context is an InputError."""
    scheme, _, name = path.partition("://")
    remote = SYSTEMS[scheme](name)
    with said(path, remote):
        yield remote


@contextmanager
def said(path: str, remote: Remote) -> Iterator[None]:
    """Make whatever fails in the context an InputError that says why, and what to do."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of the network, the system's own, of the path
        raise InputError(f"{path}: could not be downloaded: {remote.in_words(error)}") from error


def one_line(error: Exception) -> str:
    """What an error says."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class Stream(io.RawIOBase):
    """The bytes of a remote file.

    Reading raises InputError if the connection fails, or, at the end, if the file was replaced.
    """

    def __init__(self, path: str, remote: Remote) -> None:
        """Open the file; raises the errors of its system."""
        self._path = path
        self._remote = remote
        self._state = remote.state()
        self._file = remote.open()

    @property
    def size(self) -> int:
        """Bytes of the file when it was opened."""
        return self._state[0]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._file.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any, /) -> int:
        with said(self._path, self._remote):
            number = int(self._file.readinto(buffer))
            if number == 0 and self._state[1] is not None and self._remote.state() != self._state:
                raise InputError(
                    f"{self._path}: replaced while it was read; start again, an ingest with "
                    f"--restart"
                )
        return number

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def list_files(path: str) -> list[str]:
    """The files that a path stands for, sorted: itself, those of a folder or pattern."""
    scheme = path.partition("://")[0]
    with reached(path) as remote:
        return [f"{scheme}://{name}" for name in sorted(remote.files())]


def open_file(path: str) -> CorpusFile:
    """Open a file."""
    with reached(path) as remote:
        stream = Stream(path, remote)
        return CorpusFile(path, io.BufferedReader(stream, PART), stream.size)


def size(path: str) -> int:
    """Size of a file in bytes."""
    with reached(path) as remote:
        return remote.state()[0]
