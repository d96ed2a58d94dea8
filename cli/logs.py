"""The library's log on the terminal."""

from __future__ import annotations

import logging

from latent_ingest.cli.output import warn


class TerminalHandler(logging.Handler):
    """Prints the library's log records on stderr, without breaking a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        warn(prefix + self.format(record))


def log_to_terminal() -> None:
    """Print what the library logs in this process."""
    log = logging.getLogger("latent_ingest")
    log.setLevel(logging.INFO)
    if not any(isinstance(handler, TerminalHandler) for handler in log.handlers):
        log.addHandler(TerminalHandler())
