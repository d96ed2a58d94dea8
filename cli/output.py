"""What commands print: text made safe for a terminal, tables, progress; and how they end.

Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import click
import wcwidth
from tqdm import tqdm

from latent_ingest.connector.errors import InputError

if TYPE_CHECKING:
    from latent_ingest.connector.indexing.job import IngestJob, JobResult
    from latent_ingest.connector.indexing.outcomes import IngestReport, Report

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
    longest = max((len(column) for column in columns), default=0)
    return [
        (" " * gap)
        .join(
            wcwidth.ljust(shorten(column[row] if row < len(column) else "", each), each)
            for column in columns
        )
        .rstrip()
        for row in range(longest)
    ]


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[int] = (),
    shrink: Sequence[int] = (),
    width: int | None = None,
) -> list[str]:
    """Lines of a table: the heads in bold, then the rows.

    Args:
        heads: One per column.
        rows: One cell per column; what is not printable becomes a space.
        right: Numbers of the columns that are flush right.
        shrink: Numbers of the columns whose cells are shortened to fit into `width`.
        width: Cells of a line; no cell is shortened without it.
    """
    lines = [[printable(cell) for cell in cells] for cells in (heads, *rows)]
    widths = [max(map(wcwidth.width, cells)) for cells in zip(*lines, strict=True)]
    for i in shrink if width else ():
        excess = sum(widths) + 2 * (len(widths) - 1) - (width or 0)
        widths[i] = min(widths[i], max(widths[i] - excess, LEAST_WIDTH))
    first, *others = [
        "  ".join(
            (wcwidth.rjust if i in right else wcwidth.ljust)(shorten(cell, widths[i]), widths[i])
            for i, cell in enumerate(cells)
        ).rstrip()
        for cells in lines
    ]
    return [click.style(first, bold=True), *others]


def print_lines(lines: Sequence[str]) -> None:
    """Print lines on standard output; bold text is plain if it is not a terminal."""
    for line in lines:
        click.echo(line)


def print_json(content: object, default: Callable[[Any], Any] | None = None) -> None:
    """Print one object on one line of standard output."""
    click.echo(json.dumps(content, default=default))


def number_of(number: int, noun: str) -> str:
    """The number with its noun: "1 line", "2 lines"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def documents(number: int) -> str:
    return number_of(number, "document")


def size(n_bytes: float) -> str:
    """Bytes in kB, MB or GB, powers of 1,000."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:,.1f} {unit}"
    return f"{n_bytes / 1e3:,.1f} kB"


def long_and_empty(report: Report) -> list[str]:
    """Lines about texts that are longer than the backbone window, or have no latents."""
    lines = []
    if report.pooled:
        texts = number_of(report.pooled, "text")
        lines.append(f"{texts} longer than the backbone window, pooled over several windows")
    if report.truncated:
        texts = number_of(report.truncated, "text")
        lines.append(f"{texts} longer than the backbone window, truncated")
    if report.empty:
        lines.append(f"{documents(report.empty)} without text, so without latents")
    return lines


def alias_moved(alias: str, before: str | None, index: str) -> str:
    """The line that says where an alias points now, and where it pointed before."""
    return f"alias {alias}: {before} → {index}" if before else f"alias {alias} → {index}"


def alias_lines(result: JobResult[Any]) -> list[str]:
    """The line about the alias of a job, if it was moved."""
    if result.alias is None or result.refusal:
        return []
    return [alias_moved(result.alias, result.before, result.index)]


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


def run_with_bar(job: IngestJob) -> JobResult[IngestReport]:
    """Run with a progress bar; Ctrl-C ends the run in good order, a second one exits at once."""
    bar_format = "{desc} [{elapsed}]"
    if job.file_bytes:
        bar_format = "{percentage:3.0f}% |{bar}| {desc} [{elapsed}, {remaining} left]"
    with ExitStack() as stack:

        @cache
        def bar() -> tqdm[Any]:
            """Shown from when the model is loaded and the run starts."""
            stack.enter_context(stopping(job.stop))
            shown = progress_bar(
                total=job.file_bytes, unit="B", unit_scale=True, bar_format=bar_format
            )
            return stack.enter_context(shown)

        def show(report: IngestReport, position: int) -> None:
            rate = report.tokens / max(report.seconds, 1e-9)
            bar().set_description_str(
                f"{report.indexed + report.replaced:,} documents, {rate:,.0f} tokens/s, "
                f"{report.failed:,} failed",
                refresh=False,
            )
            bar().update(position - bar().n)

        return job.run(show)


class Ended(Protocol):
    """The report of a run, as far as the exit status depends on it."""

    stopped: str | None
    """Why the run ended early, "interrupted" after Ctrl-C; None if it did not."""

    @property
    def ok(self) -> bool: ...


def exit_after(report: Ended, refusal: str | None = None) -> None:
    """End the command as its run ended: print errors and exit with 1 or 130, or return.

    Args:
        report: The report of the run.
        refusal: Why the alias was not moved, if it should have been.
    """
    if refusal:
        click.echo(f"Error: {refusal}", err=True)
    if report.stopped == "interrupted":
        raise click.exceptions.Exit(INTERRUPTED)
    if report.stopped:
        click.echo(f"Error: {report.stopped}", err=True)
    if not report.ok or refusal:
        raise click.exceptions.Exit(1)
