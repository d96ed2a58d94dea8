"""Passes over what Ray has not done: whether another one is due, and what the user is told."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

NOT_INSTALLED = "a worker of Ray lacks latent-ingest; install it there, too"

# Passes in a row without progress after which a run ends.
PASSES = 3


def reason_of(error: BaseException) -> str:
    """An error of Ray's, which may have many lines, in one."""
    return " ".join(str(error).split())[:300]


def failure(reason: str) -> str:
    """What the user is told when Ray could not do all, by its reason."""
    if "No module named 'latent_ingest" in reason:
        return NOT_INSTALLED
    return f"Ray could not do all: {reason}"


class Passes:
    """The passes of one run."""

    def __init__(self, done: int = 0) -> None:
        """`done` counts what was done before, in the unit of `why_end`."""
        self._done = done
        self._left = PASSES

    def why_end(self, error: BaseException | None, done: int) -> str | None:
        """Why the run ends after a pass that left work; None if there is to be another.

        Args:
            error: the error with which the pass ended, if any.
            done: what all passes have done.
        """
        self._left = PASSES if done > self._done else self._left - 1
        self._done = done
        reason = reason_of(error) if error else "results were lost"
        told = failure(reason)
        if told == NOT_INSTALLED:
            return told
        if self._left <= 0:
            return f"{told}; the same command resumes"
        log.warning("Ray lost a part of the work, which is done again: %s", reason)
        return None
