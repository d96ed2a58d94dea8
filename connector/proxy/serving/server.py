"""Runs the proxy: an address, one process or several, and their common end.

Several are uvicorn's: each makes its own proxy, with its own model, and takes connections from the
one socket. Their parent replaces one that dies.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from latent_ingest.connector.errors import InputError, LatentIngestError
from latent_ingest.connector.proxy.app import Proxy
from latent_ingest.connector.proxy.metrics import FOLDER
from latent_ingest.connector.proxy.serving.protocol import StrictProtocol

log = logging.getLogger(__name__)

# Seconds for which an idle connection of a client is kept.
KEEP_ALIVE_SECONDS = 75

# Seconds in which a worker has to answer its parent, or it is replaced: it cannot answer while it
# imports PyTorch on a busy machine.
WORKER_SECONDS = 60

MakeProxy = Callable[[], Proxy]


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raises InputError if the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.socket(family, socket.SOCK_STREAM)
        if sys.platform != "win32":
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(2048)
    except OSError as error:
        raise InputError(
            f"cannot listen at {host}:{port}: {error.strerror}; choose another with --host and "
            f"--port"
        ) from error
    found.set_inheritable(True)
    return found


def configured(
    make: MakeProxy,
    certificate: str | None = None,
    key: str | None = None,
    workers: int = 1,
) -> uvicorn.Config:
    """Return the configuration of a server, which calls `make` in each of its processes."""
    tls: dict[str, Any] = {"ssl_certfile": certificate, "ssl_keyfile": key} if certificate else {}
    return uvicorn.Config(
        partial(made, make),
        factory=True,
        workers=workers,
        http=StrictProtocol,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="error",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=5,
        timeout_worker_healthcheck=WORKER_SECONDS,
        **tls,
    )


class Workers(Multiprocess):
    """Supervises the workers; one that ends is noticed at once."""

    def keep_subprocess_alive(self) -> None:
        """Replace workers that have ended, or end all if one could not start.

        With its own copy of a worker's end of their pipe, this process would not notice there that
        the worker has ended, and wait `WORKER_SECONDS` for its answer.
        """
        for worker in self.processes:
            worker.child_conn.close()
        super().keep_subprocess_alive()


def made(make: MakeProxy) -> Proxy:
    """Return a proxy; one that cannot be made ends all workers, instead of being tried for ever."""
    try:
        return make()
    except LatentIngestError as error:
        log.error("%s", error)
        if multiprocessing.parent_process():
            # At once, so that the parent, which kills what no longer answers, sees this status.
            os._exit(STARTUP_FAILURE)
        raise SystemExit(STARTUP_FAILURE) from error


def serve(
    make: MakeProxy,
    at: socket.socket,
    *,
    certificate: str | None = None,
    key: str | None = None,
    workers: int = 1,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        make: makes a proxy. With several workers it is called in each of them, so it can be
            pickled.
        at: a socket that listens.
        certificate: PEM file of the proxy's own certificate; None for HTTP.
        key: PEM file of its key, if that is another one.
        workers: number of processes.
    """
    config = configured(make, certificate, key, workers)
    if workers == 1:
        uvicorn.Server(config).run(sockets=[at])
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # those of a model, in each worker
    with TemporaryDirectory(prefix="latent-ingest-metrics-") as folder:
        os.environ[FOLDER] = folder
        supervisor = Workers(config, [at])
        supervisor.run()
    if any(one.exitcode == STARTUP_FAILURE for one in supervisor.processes):
        raise LatentIngestError("a worker did not start")
