"""The frameworks that are needed: one line for one that is missing, or of another version."""

from __future__ import annotations

import importlib.metadata
import re


def require(package: str, extra: str, oldest: str, below: str) -> None:
    """Check the version of a package before it is imported.

    Args:
        package: its name on PyPI.
        extra: the extra of latent-ingest that installs it.
        oldest: the oldest version that works, such as "0.14".
        below: the first version that is not known to work.

    Raises:
        ImportError: it is not installed, or is older or newer.
    """
    install = f"pip install 'latent-ingest[{extra}]' installs"
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(f"{package} is missing; {install} it") from None
    if not numbers(oldest) <= numbers(version) < numbers(below):
        raise ImportError(
            f"{package} {version} is not supported; {install} version {oldest} or later, "
            f"below {below}"
        )


def numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, to compare it: "1.2.0rc1" → (1, 2, 0)."""
    parts = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in parts[0].split(".")) if parts else ()
