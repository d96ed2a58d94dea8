"""One node of a cluster, in a process of its own: `cluster_node.py FOLDER SETTINGS`.

The runner that `LocalEngine` starts makes a single node a cluster of its own, whatever its files
say; only Java code that calls it can give it other settings.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import jpype

from latent_ingest.connector.engine.local import JAVA_OPTIONS, LocalEngine, die_with_parent

RUNNER = "org.codelibs.opensearch.runner.OpenSearchRunner"


def main(folder: str, settings: dict[str, str | list[str]]) -> None:
    if sys.platform == "linux":
        die_with_parent()
    class_path, java = LocalEngine("opensearch").resolve()
    library = java.parent.parent / "lib" / "server" / "libjvm.so"
    options = [*JAVA_OPTIONS, "-Xmx512m"]
    jpype.startJVM(str(library), *options, classpath=class_path.split(os.pathsep))

    @jpype.JImplements(f"{RUNNER}$Builder")
    class Builder:
        @jpype.JOverride
        def build(self, _number: int, builder: Any) -> None:
            for name, value in settings.items():
                if isinstance(value, list):
                    builder.putList(name, value)
                else:
                    builder.put(name, value)

    runner = jpype.JClass(RUNNER)()
    runner.onBuild(Builder())
    runner.build(["-basePath", folder, "-numOfNode", "1", "-useLogger"])
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
