"""Disk and memory of an install that asks by table, beside the whole: megabytes and ratios.

`image` is the same for what the two variants of the Dockerfile install, with the extra `serve`, and
the weights of the default backbone in `model`.

Disk is the size of the installed files of latent-ingest's dependencies and of all theirs. Memory is
the largest resident set of a process that encodes one question. `latent-ingest` itself, with the
shipped model, is in neither size.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import click
from command import Benchmark

from latent_ingest.cli.main import MODEL_PACKAGES

ENCODE = (
    "from latent_ingest.connector import QueryEncoder; "
    "QueryEncoder(questions={!r}).encode(['does vitamin D prevent falls'])"
)


def closure(names: set[str]) -> set[str]:
    """The distributions of these names that are installed, and those that they require."""
    found: set[str] = set()
    while names:
        name = names.pop()
        try:
            required = distribution(name).requires or []
        except PackageNotFoundError:  # Of another platform or Python.
            continue
        found.add(name)
        names |= {first_name(line) for line in required if "extra ==" not in line} - found
    return found


def first_name(requirement: str) -> str:
    """`huggingface_hub>=0.34,<3` → `huggingface-hub`."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0].lower())  # type: ignore[index]


def requirements(extra: str | None = None) -> set[str]:
    """What latent-ingest needs in any case, or what one of its extras needs."""
    lines = [line.partition(";")[::2] for line in distribution("latent-ingest").requires or []]
    wanted = f'extra == "{extra}"'
    return {
        first_name(name)
        for name, marker in lines
        if (wanted in marker if extra else "extra ==" not in marker)
    }


def megabytes(names: set[str]) -> float:
    files = (path for name in names for path in distribution(name).files or [])
    paths = {Path(str(path.locate())) for path in files}
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def peak_megabytes(questions: str) -> float:
    process = subprocess.Popen([sys.executable, "-c", ENCODE.format(questions)])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"encoding by {questions} ended with status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


@click.command(cls=Benchmark)
def main() -> None:
    """Print disk and memory of an install that asks by table, and of the whole."""
    needed, serve, backbone = requirements(), requirements("serve"), requirements("backbone")
    model = {first_name(name) for name in MODEL_PACKAGES}
    whole, table = megabytes(closure(set(needed))), megabytes(closure(needed - model))
    print(f"disk: by table {table:,.0f} MB, whole {whole:,.0f} MB, {table / whole:.3f} times")
    image = megabytes(closure((needed | serve) - model))
    whole_image = megabytes(closure(needed | serve | backbone))
    print(f"image: table {image:,.0f} MB, model {whole_image:,.0f} MB")
    by_table, by_model = peak_megabytes("table"), peak_megabytes("model")
    print(
        f"memory: by table {by_table:,.0f} MB, by model {by_model:,.0f} MB, "
        f"{by_table / by_model:.2f} times"
    )


if __name__ == "__main__":
    main()
