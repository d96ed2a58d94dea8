"""How many requests may be under way at once."""

from __future__ import annotations

import threading
import time

from latent_ingest.connector.engine.concurrency import Concurrency


def test_the_limit_halves_once_for_requests_of_one_time_and_climbs_back() -> None:
    concurrency = Concurrency(8)
    with concurrency.slot() as first, concurrency.slot() as second:
        concurrency.too_busy(first)
        concurrency.too_busy(second)
    assert concurrency.limit == 4
    with concurrency.slot() as later:
        concurrency.too_busy(later)
    assert concurrency.limit == 2
    for _ in range(2):
        concurrency.went_well()
    assert 2.8 < concurrency.limit < 3
    for _ in range(100):
        concurrency.went_well()
    assert concurrency.limit == 8


def test_the_limit_stays_at_one_and_no_more_go_than_it() -> None:
    concurrency = Concurrency(4)
    for _ in range(5):
        with concurrency.slot() as begun:
            concurrency.too_busy(begun)
    assert concurrency.limit == 1
    at_once: list[int] = []
    under_way = [0]

    def work() -> None:
        with concurrency.slot():
            under_way[0] += 1
            at_once.append(under_way[0])
            time.sleep(0.01)
            under_way[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert at_once == [1] * 6
