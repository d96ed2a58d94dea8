"""Jobs and commands that watch an index, while an application writes to it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

from application import Application
from preloaded import started

from latent_ingest.connector.indexing.outcomes import WatchReport
from latent_ingest.connector.indexing.watching.job import WatchJob

WITHIN = 30.0


class Watching:
    """A job in a thread."""

    def __init__(self, job: WatchJob, on_progress: Callable[[WatchReport], None]) -> None:
        self.job = job
        self.error: BaseException | None = None
        self._on_progress = on_progress
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        try:
            self.job.run(self._on_progress)
        except BaseException as error:
            self.error = error

    @property
    def report(self) -> WatchReport:
        return self.job.report

    def caught_up(self, within: float = WITHIN) -> WatchReport:
        """Wait until all is read, also what it has written itself."""
        report, before = self.report, None
        while before != (report.read, report.conflicts):
            before, began = (report.read, report.conflicts), time.time()
            self.until(
                lambda since=began: report.answered > since and not report.writes_behind, within
            )
        return report

    def until(self, holds: Callable[[], bool], within: float = WITHIN) -> None:
        deadline = time.monotonic() + within
        while not holds():
            assert self._thread.is_alive(), (self.error, self.report)
            assert time.monotonic() < deadline, self.report
            time.sleep(0.02)

    def ended(self, within: float = WITHIN) -> WatchReport:
        """Wait until it has ended by itself."""
        self._thread.join(within)
        assert not self._thread.is_alive()
        return self.report

    def stop(self) -> WatchReport:
        self.job.stop()
        return self.ended()


def run_at_random(
    url: str,
    index: str,
    application: Application,
    seed: int,
    *,
    seconds: float,
    kill_every: float,
    pause: float,
    each_second: Callable[[], bool] = lambda: True,
) -> int:
    """Let the application write, and kill the follower again and again; returns the kills.

    `each_second` says whether documents must be up to date within ten seconds.
    """
    chance = random.Random(seed)
    arguments = ["enrich", "--index", index, "--text-fields", "title,body", "--yes", "--watch"]
    arguments += ["--url", url, "--poll", "0.5s"]
    follower = started(arguments, "out.txt", 10)
    kills = 0
    with application.writing(pause):
        began = time.monotonic()
        due = began + kill_every
        while time.monotonic() < began + seconds:
            time.sleep(1)
            assert follower.is_alive(), Path("out.txt").read_text()
            if each_second() and time.monotonic() - began > 15:
                assert application.late(10) == []
            if time.monotonic() > due:
                follower.kill()
                follower.join()
                kills += 1
                follower = started(arguments, "out.txt", 10)
                due = time.monotonic() + kill_every * (0.5 + chance.random())
    deadline = time.monotonic() + 10
    while application.late(0):
        assert time.monotonic() < deadline, Path("out.txt").read_text()
        time.sleep(0.2)
    follower.terminate()
    follower.join(30)
    assert follower.exitcode == 0, Path("out.txt").read_text()
    return kills
