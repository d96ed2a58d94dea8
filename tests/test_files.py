"""Files: replaced whole or not at all, and one line for what a disk refuses."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from safetensors import SafetensorError

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.files import disk_errors, write_atomically

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "old é")

    def fail(_descriptor: int) -> None:
        raise error

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(type(error)):
        write_atomically(path, b"new")
    assert path.read_text(encoding="utf-8") == "old é"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FULL, "x: the disk is full; make room"),
        (SafetensorError("Error: No space left on device"), "x: the disk is full; make room"),
        (PermissionError(errno.EACCES, "Denied"), "x: cannot be written: Denied; name another"),
        (OSError("odd"), "x: cannot be written: odd; name another"),
    ],
)
def test_what_a_disk_refuses_is_one_line(error: Exception, message: str) -> None:
    with pytest.raises(InputError) as caught, disk_errors("x", "name another", if_full="make room"):
        raise error
    assert str(caught.value) == message
