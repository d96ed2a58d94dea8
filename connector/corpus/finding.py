"""The files that the user's paths stand for: files, folders, patterns, here or remote."""

from __future__ import annotations

import glob
import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from latent_ingest.connector.corpus import remote
from latent_ingest.connector.corpus.formats import COMPRESSED, ENDINGS, ending, stem
from latent_ingest.connector.corpus_file import is_pipe
from latent_ingest.connector.errors import InputError

Sources = str | Path | Sequence[str | Path]
"""Paths of files, folders and patterns; "-" is standard input."""

# Files beside the data of a saved dataset.
NOT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}

# Names of the documents in the folders of BEIR and MS MARCO, which also hold questions.
BEIR, MS_MARCO = "corpus.jsonl", "collection.tsv"

log = logging.getLogger(__name__)


def listed(sources: Sources) -> list[str]:
    """The paths, also if there is one."""
    found = [sources] if isinstance(sources, str | Path) else list(sources)
    return [str(source) for source in found]


def piped(sources: Sources) -> bool:
    """Whether the documents are read from standard input or another pipe."""
    return any(is_pipe(source) for source in listed(sources))


def find_files(sources: Sources) -> list[str]:
    """The files to read, in order: that of the paths, and by name in each folder or pattern.

    Raises:
        InputError: a folder or pattern has no files, a file is named twice, or a pipe is not alone.
    """
    paths = listed(sources)
    if not paths:
        raise InputError("no file is named")
    if piped(paths) and len(paths) > 1:
        raise InputError("standard input or a pipe is read alone; name only that, or only files")
    found = [file for path in paths for file in expanded(path)]
    for path, times in Counter(found).items():
        if times > 1:
            raise InputError(f"{path}: named twice; name it once")
    return found


def expanded(path: str) -> list[str]:
    """The files that one path stands for; the path itself if it is a file, or is not there."""
    if remote.is_remote(path):
        found = remote.list_files(path)
        if not found or found == [path] or glob.has_magic(path):
            return matched(path, found)
        names = [name.removeprefix(path).lstrip("/") for name in found]
        return [f"{path.rstrip('/')}/{name}" for name in documents_of(path, names)]
    if Path(path).is_dir():
        inside = sorted(file for file in Path(path).rglob("*") if file.is_file())
        names = [file.relative_to(path).as_posix() for file in inside]
        return [str(Path(path, name)) for name in documents_of(path, names)]
    if Path(path).exists() or not glob.has_magic(path):
        return [path]
    found = glob.glob(path, recursive=True)  # noqa: PTH207 - of paths that may be absolute
    return matched(path, sorted(name for name in found if Path(name).is_file()))


def matched(pattern: str, found: list[str]) -> list[str]:
    """The files that match a pattern; raises InputError if there are none."""
    if not found and not glob.has_magic(pattern):
        raise InputError(f"{pattern}: no such file or folder; check the name")
    if not found:
        raise InputError(f"{pattern}: no file matches; check the pattern and the folder")
    return found


def is_data(name: str) -> bool:
    """Whether a file of a folder is read, by its name in the folder."""
    parts = Path(name).parts
    hidden = any(part.startswith((".", "_")) for part in parts)
    return bool(ending(name)) and not hidden and parts[-1] not in NOT_DATA


def documents_of(folder: str, names: Sequence[str]) -> list[str]:
    """Of the names of files in a folder, those that hold documents.

    In the layouts of BEIR and MS MARCO, others hold questions and judgements.
    """
    files = [name for name in names if is_data(name)]
    for layout, wanted in (("BEIR", BEIR), ("MS MARCO", MS_MARCO)):
        known = [name for name in files if name in (wanted, *(wanted + end for end in COMPRESSED))]
        if len(known) == 1 and any(name.startswith(("queries", "qrels")) for name in names):
            log.info("%s: %s's layout: %s is read", folder, layout, known[0])
            return known
    if not files:
        raise InputError(
            f"{folder}: a folder without a file to read; their names end in "
            f"{', '.join(ENDINGS)}, or such an ending and {', '.join(COMPRESSED)}"
        )
    if len(names) > len(files):
        log.info(
            "%s: %d of %d files are read; the names of the others tell no format, or are hidden",
            folder,
            len(files),
            len(names),
        )
    return files


def identity(sources: Sources) -> str:
    """Name of a corpus in the journal: its absolute paths, or the first of them; "-" for a pipe."""
    if piped(sources):
        return "-"
    paths = [
        path if remote.is_remote(path) else str(Path(path).resolve()) for path in listed(sources)
    ]
    if len(paths) == 1:
        return paths[0]
    digest = hashlib.sha256("\n".join(paths).encode()).hexdigest()[:16]
    return f"{paths[0]} and {len(paths) - 1} more ({digest})"


def short_name(sources: Sources) -> str | None:
    """A name for what belongs to a corpus; None if it is a pipe, a pattern or several paths."""
    paths = listed(sources)
    if len(paths) > 1 or piped(paths) or (glob.has_magic(paths[0]) and not Path(paths[0]).exists()):
        return None
    return stem(paths[0]) or None
