"""Options and outputs that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
from tqdm import tqdm

Command = TypeVar("Command", bound=Callable[..., Any])


class TokenCount(click.ParamType):
    """A whole number, with K, M or G for thousands, millions and milliards."""

    name = "number"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        text = str(value).upper()
        factor = {"K": 10**3, "M": 10**6, "G": 10**9}.get(text[-1:], 1)
        try:
            number = float(text[:-1] if factor > 1 else text) * factor
        except ValueError:
            self.fail(f"{value!r}: write a number like 500000, 500K or 3M", param, ctx)
        if number < 1:
            self.fail(f"{value!r}: must be above 0", param, ctx)
        return int(number)


def compute_options(command: Command) -> Command:
    """--device and --dtype."""
    for option in (
        click.option("--dtype", default="auto", show_default=True, help="auto (bfloat16 where the device computes in it), float32, bfloat16."),
        click.option("--device", default="auto", show_default=True, help="auto, cuda, mps or cpu."),
    ):
        command = option(command)
    return command


def progress_bar(**settings: Any) -> tqdm[Any]:
    """A progress bar on stderr: ten times a second on a terminal, every ten seconds in a log."""
    terminal = sys.stderr.isatty()
    return tqdm(
        file=sys.stderr,
        mininterval=0.1 if terminal else 10.0,
        dynamic_ncols=terminal,
        **settings,
    )
