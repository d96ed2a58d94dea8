"""Print what the image without PyTorch installs: the requirements of `serve` by the table alone."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import tomllib

# Needed by the model alone, which the image does not have.
OF_THE_MODEL = {"huggingface-hub", "torch", "transformers"}


def requirements(file: Path) -> list[str]:
    """The requirements of the package and of its extra `serve`, without those of the model."""
    project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    every = [*project["dependencies"], *project["optional-dependencies"]["serve"]]
    return [line for line in every if name_of(line) not in OF_THE_MODEL]


def name_of(requirement: str) -> str:
    """Name of the package of a requirement: "torch>=2.6,<3" → "torch"."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()


if __name__ == "__main__":
    print("\n".join(requirements(Path(sys.argv[1]))))
