"""Progress bar, summary lines and exit status of the commands that run a job."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout
from functools import cache
from typing import Any

import click
from tqdm import tqdm

from latent_ingest.cli.output import (
    INTERRUPTED,
    counted,
    print_json,
    print_lines,
    progress_bar,
    stopping,
)
from latent_ingest.connector.indexing.jobs.ingest_job import IngestJob
from latent_ingest.connector.indexing.jobs.job import Job, JobResult
from latent_ingest.connector.indexing.outcomes import IngestReport, Report
from latent_ingest.connector.indexing.questions.own_table import OnWords, TableReport


@contextmanager
def job_bar(job: Job, **settings: Any) -> Iterator[Callable[..., None]]:
    """Give a function that moves the job's progress bar: text, position, and the total if known.

    Its first call shows the bar; from then on Ctrl-C ends the job in good order, and a second one
    exits at once.
    """
    with ExitStack() as stack:

        @cache
        def bar() -> tqdm[Any]:
            stack.enter_context(stopping(job.stop))
            return stack.enter_context(progress_bar(**settings))

        def move(text: str, position: int, total: int = 0) -> None:
            bar().total = total or bar().total
            bar().set_description_str(text, refresh=False)
            bar().update(position - bar().n)

        yield move


@contextmanager
def quiet(on_ray: bool) -> Iterator[None]:
    """A context in which Ray's notices go to the standard error: the output is for the result."""
    with redirect_stdout(sys.stderr) if on_ray else nullcontext():
        yield


@contextmanager
def words_bar() -> Iterator[OnWords]:
    """Give a function that shows how many words of a question table are encoded."""
    with ExitStack() as stack:

        @cache
        def bar(total: int) -> tqdm[Any]:
            named = {"desc": "question table", "unit": " words"}
            return stack.enter_context(progress_bar(total=total, **named))

        def show(done: int, of: int) -> None:
            if of:
                bar(of).update(done - bar(of).n)

        yield show


def run_with_bar(job: IngestJob) -> JobResult[IngestReport]:
    """Run with a progress bar, which is shown once the model is loaded."""
    bar_format = "{desc} [{elapsed}]"
    if job.file_bytes:
        bar_format = "{percentage:3.0f}% |{bar}| {desc} [{elapsed}, {remaining} left]"
    settings = {"unit": "B", "unit_scale": True, "bar_format": bar_format}
    with job_bar(job, total=job.file_bytes, **settings) as move, words_bar() as show_words:

        def show(report: IngestReport, position: int) -> None:
            move(f"{report.documents:,} documents, {speed(report)}", position)

        return job.run(show, show_words)


def table_line(table: TableReport) -> str:
    """The line of a summary about a question table that was put into an index."""
    return (
        f"question table of {counted(table.words, 'word')}, {table.own:,} of them in the "
        f"documents ({table.encoded:,} encoded, {table.seconds:,.1f} s)"
    )


def speed(report: Report) -> str:
    """Tokens per second and failures so far, for a progress bar."""
    return f"{tokens_per_second(report)}, {report.failed:,} failed"


def tokens_per_second(report: Report) -> str:
    """Tokens per second, with the unit."""
    return f"{report.tokens / max(report.seconds, 1e-9):,.0f} tokens/s"


def first_line(result: JobResult[Any], number: int, done: str) -> str:
    """The line of a summary that says how many documents are `done`, such as "indexed"."""
    report = result.report
    return (
        f"index {result.index}: {counted(number, 'document')} {done} in {report.seconds:,.1f} s "
        f"({report.tokens:,} tokens, {tokens_per_second(report)})"
    )


def notes(*lines: tuple[object, str]) -> list[str]:
    """The lines whose condition holds, such as a number that is not zero."""
    return [line for holds, line in lines if holds]


def long_and_empty(report: Report) -> list[str]:
    """Lines about texts that are longer than the backbone window, or have no latents."""
    pooled, truncated = counted(report.pooled, "text"), counted(report.truncated, "text")
    return notes(
        (report.pooled, f"{pooled} longer than the backbone window, pooled over several windows"),
        (report.truncated, f"{truncated} longer than the backbone window, truncated"),
        (report.empty, f"{counted(report.empty, 'document')} without text, so without latents"),
    )


def alias_moved(alias: str, before: str | None, index: str) -> str:
    """The line that says where an alias points now, and where it pointed before."""
    return f"alias {alias}: {before} → {index}" if before else f"alias {alias} → {index}"


def finish(result: JobResult[Any], summary: Sequence[str], *, as_json: bool) -> None:
    """Print how a job ended, and exit with 1 or 130 unless it did all its work."""
    if as_json:
        print_json(result.to_json())
    else:
        print_lines(summary)
        if result.table:
            click.echo(table_line(result.table))
        if result.waiting:
            click.echo(result.waiting)
        elif result.alias and not result.refusal:
            click.echo(alias_moved(result.alias, result.before, result.index))
    if result.refusal:
        click.echo(f"Error: {result.refusal}", err=True)
    elif result.problem:
        click.echo(f"Error: {result.problem}", err=True)
    stopped = result.report.stopped
    if stopped == "interrupted":
        raise click.exceptions.Exit(INTERRUPTED)
    if stopped:
        click.echo(f"Error: {stopped}", err=True)
    if not result.ok:
        raise click.exceptions.Exit(1)
