"""Start a server of Elasticsearch 8 or 9, for tests: real server jars, without the modules that are
not published beside them.

Its REST layer, mapping, indexing, search, BM25 and term vectors are Elasticsearch's own. Not there:
security, licences, Painless, the module of analyzers (`analysis.py` stands for what we use of it).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latent_ingest.connector.engine.local import answer, free_port

VERSIONS = ("8.19.21", "9.5.3")

# Seconds until the server answers; it takes 15 on two free cores.
START_SECONDS = 180

# Modules that the server names and that the tests' Java lacks → modules that it has. They are for
# what is never used here: the agent that limits what plugins may do.
LACKING = {b"jdk.jdi": b"jdk.jfr", b"jdk.jlink": b"jdk.zipfs"}

DESCRIPTOR = """\
name=transport-netty4
description=HTTP and transport
version={version}
elasticsearch.version={version}
java.version=17
classname=org.elasticsearch.transport.netty4.Netty4Plugin
modulename=org.elasticsearch.transport.netty4
has.native.controller=false
extended.plugins=
licensed=false
"""

LOGGING = """\
status=error
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=[%d{ISO8601}][%-5p][%c{1.}] %m%n
"""


@contextmanager
def elasticsearch_server(version: str, home: Path) -> Iterator[str]:
    """Run a server in the context; gives its URL."""
    class_path = laid_out(version, home)
    port = free_port()
    log = home / "server.log"
    program = [sys.executable, str(Path(__file__).with_name("node.py"))]

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                [*program, version, str(home), str(port), *class_path],
                stdin=subprocess.PIPE,  # its end tells the node that the tests have ended
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    process, url, restarts = start(), f"http://127.0.0.1:{port}", 1
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answer(url):
            if process.poll() is not None and restarts:  # seen once: its log4j found no plugins
                process, restarts = start(), restarts - 1
            assert process.poll() is None, log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
            time.sleep(0.25)
        yield url
        assert process.poll() is None, "the server ended before the tests did"
    finally:
        process.kill()
        process.wait()


def laid_out(version: str, home: Path) -> list[str]:
    """Write the folders of an installation; gives the jars of the server."""
    import jgo

    parts = ("org.elasticsearch:elasticsearch", "org.elasticsearch.plugin:transport-netty4")
    environment = Path(jgo.build("+".join(f"{part}:{version}" for part in parts)).path)
    module = home / "modules" / "transport-netty4"
    native = home / "lib" / "platform" / "linux-x64"
    for folder in (module, native, home / "plugins", home / "config", home / "logs"):
        folder.mkdir(parents=True)
    (module / "plugin-descriptor.properties").write_text(DESCRIPTOR.format(version=version))
    (home / "config" / "log4j2.properties").write_text(LOGGING)
    # `best_compression` is Zstandard, whose library an installation has beside the jars.
    if found := sorted(Path("/usr/lib").glob("*/libzstd.so.1")):
        shutil.copy(found[0], native / "libzstd.so")
    class_path = []
    for jar in sorted([*environment.glob("jars/*.jar"), *environment.glob("modules/*.jar")]):
        if jar.name.startswith(("netty-", "transport-netty4")):
            shutil.copy(jar, module)
        elif jar.name.startswith("elasticsearch-entitlement"):
            class_path.append(with_other_modules(jar, home / "lib" / jar.name))
        else:
            class_path.append(str(jar))
    return class_path


def with_other_modules(jar: Path, copy: Path) -> str:
    """Copy a jar whose description names modules that are `LACKING`; gives the path of the copy."""
    with zipfile.ZipFile(jar) as old, zipfile.ZipFile(copy, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename == "module-info.class":
                for lacking, there in LACKING.items():
                    # A string of a class file has its length before it, in two bytes.
                    before = len(lacking).to_bytes(2, "big") + lacking
                    content = content.replace(before, len(there).to_bytes(2, "big") + there)
            new.writestr(entry, content)
    return str(copy)
