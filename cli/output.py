"""Output of the commands: text made safe for a terminal, tables, progress, questions.

Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import click
import wcwidth
from tqdm import tqdm

from latent_ingest.connector.errors import InputError

# Exit status after Ctrl-C, as in shells.
INTERRUPTED = 130

# Cells of a line of a hit if the output is not a terminal.
TEXT_WIDTH = 72

# Cells that a table leaves to a column that it shortens.
LEAST_WIDTH = 20


def terminal_width() -> int | None:
    """Cells of a line of standard output; None if it is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def printable(text: str) -> str:
    """The text with spaces for line ends and control characters, which could steer a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def printable_lines(text: str) -> str:
    """The text with its line ends; each of its lines is printable."""
    return "\n".join(map(printable, text.splitlines()))


def one_line(text: str) -> str:
    """The printable text with single spaces."""
    return " ".join(printable(text).split())


def shorten(text: str, width: int) -> str:
    """At most `width` cells of the text, with dots at the end if some is left out.

    Wide letters take two cells.
    """
    if wcwidth.width(text) <= width:
        return text
    return wcwidth.clip(text, 0, max(width - 3, 0)).rstrip() + "..."[:width]


def side_by_side(columns: Sequence[Sequence[str]], width: int, gap: int = 3) -> list[str]:
    """Lines that show columns of equal width beside each other; long cells are shortened."""
    each = (width - gap * (len(columns) - 1)) // len(columns)
    return [
        (" " * gap).join(wcwidth.ljust(shorten(cell, each), each) for cell in cells).rstrip()
        for cells in zip_longest(*columns, fillvalue="")
    ]


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[int] = (),
    shrink: Sequence[int] = (),
) -> list[str]:
    """Lines of a table: the heads in bold, then the rows.

    Args:
        heads: One per column.
        rows: One cell per column; what is not printable becomes a space.
        right: Numbers of the columns that are flush right.
        shrink: Numbers of the columns whose cells are shortened to fit the terminal, if any.
    """
    lines = [[printable(cell) for cell in cells] for cells in (heads, *rows)]
    widths = [max(map(wcwidth.width, cells)) for cells in zip(*lines, strict=True)]
    room = terminal_width() or sys.maxsize
    for i in shrink:
        excess = sum(widths) + 2 * (len(widths) - 1) - room
        widths[i] = min(widths[i], max(widths[i] - excess, LEAST_WIDTH))
    first, *others = [
        "  ".join(
            (wcwidth.rjust if i in right else wcwidth.ljust)(shorten(cell, widths[i]), widths[i])
            for i, cell in enumerate(cells)
        ).rstrip()
        for cells in lines
    ]
    return [click.style(first, bold=True), *others]


def print_lines(lines: Iterable[str]) -> None:
    """Print lines on standard output; bold text is plain if it is not a terminal."""
    for line in lines:
        click.echo(line)


def print_json(content: object, default: Callable[[Any], Any] | None = None) -> None:
    """Print one object on one line of standard output."""
    click.echo(json.dumps(content, default=default))


def counted(number: int, noun: str) -> str:
    """The number with its noun: "1 line", "2 lines"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def sum_of(parts: Mapping[str, int]) -> str:
    """The parts that are not zero as a sum: "3 indexed + 1 failed"."""
    return " + ".join(f"{number:,} {name}" for name, number in parts.items() if number) or "none"


def size(n_bytes: float) -> str:
    """Bytes in kB, MB or GB, powers of 1,000."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:,.1f} {unit}"
    return f"{n_bytes / 1e3:,.1f} kB"


class PlainLines:
    """A file for tqdm that writes each state of a progress bar to stderr as a line of its own."""

    def write(self, text: str) -> None:
        if line := text.strip():
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress_bar(**settings: Any) -> tqdm[Any]:
    """A progress bar on stderr; plain lines, one per ten seconds, if that is not a terminal."""
    if sys.stderr.isatty():
        return tqdm(file=sys.stderr, dynamic_ncols=True, **settings)
    return tqdm(file=PlainLines(), mininterval=10.0, ncols=0, **settings)


def warn(line: str) -> None:
    """Print a line on stderr without breaking a progress bar, control characters left out."""
    tqdm.write(printable_lines(line), file=sys.stderr)


@contextmanager
def announced(line: str) -> Iterator[None]:
    """Show a line on a terminal while the block runs, for work of a few seconds."""
    terminal = sys.stderr.isatty()
    if terminal:
        click.echo(f"{line}\r", nl=False, err=True)
    try:
        yield
    finally:
        if terminal:
            click.echo("\033[K", nl=False, err=True)


def confirm(warning: str, *, yes: bool, hint: str = "agree with --yes") -> None:
    """Ask the user to agree to what the warning says; with `yes`, only print it.

    Raises:
        InputError: Standard input is not a terminal; the message ends with the hint.
        click.Abort: The user does not agree.
    """
    if yes:
        warn(warning)
    elif not sys.stdin.isatty():
        raise InputError(f"{warning}; {hint}")
    else:
        click.confirm(f"{warning}. Continue?", abort=True, err=True)


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C or SIGTERM within the block calls `stop`; a second one ends the process at once.

    The second waits for neither threads nor responses: as after a kill, the journal is true.
    """

    def interrupt(_number: int, _frame: object) -> None:
        warn("finishing work in progress; Ctrl-C again exits at once")
        stop()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, leave)

    def leave(_number: int, _frame: object) -> None:
        try:
            warn("Interrupted.")
        finally:
            os._exit(INTERRUPTED)

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, so that the index is restored as after Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
