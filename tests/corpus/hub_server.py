"""A server that stands in for the Hugging Face hub: one dataset, by the requests of its library."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0" * 40


class Hub(ThreadingHTTPServer):
    """Has the files of one dataset, `OWNER/NAME`; others are not found, or `gated`."""

    daemon_threads = True

    def __init__(self, dataset: str, files: Mapping[str, bytes], gated: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.dataset, self.files, self.gated = dataset, files, gated
        self.ranges: list[str] = []
        """Parts of files that were asked for."""

    @contextmanager
    def listening(self) -> Iterator[str]:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{self.server_port}"
        finally:
            self.shutdown()
            self.server_close()


class Request(BaseHTTPRequestHandler):
    """One request of the library."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        api = parts[0] == "api"
        owner_and_name = "/".join(parts[2:4] if api else parts[1:3])
        if owner_and_name == self.server.gated:
            self.give(401, b"{}", {"x-error-code": "GatedRepo"})
        elif owner_and_name != self.server.dataset:
            self.give(404, b"{}", {"x-error-code": "RepoNotFound"})
        elif not api:
            self.file("/".join(parts[5:] if parts[3] == "resolve" else parts[4:]))
        elif len(parts) > 4 and parts[4] == "tree":
            found = list(self.below("/".join(parts[6:])))
            if found or not parts[6:]:
                self.json(found)
            else:
                self.give(404, b"{}", {"x-error-code": "EntryNotFound"})
        elif len(parts) > 4 and parts[4] == "paths-info":
            wanted = json.loads(body)["paths"]
            self.json([self.entry(path) for path in wanted if path in self.server.files])
        else:
            self.json({"id": self.server.dataset, "sha": COMMIT, "siblings": []})

    do_HEAD = do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        """Nothing is logged."""

    def below(self, folder: str) -> Iterator[dict[str, Any]]:
        """Entries of a folder: all files, or what is directly inside."""
        start = f"{folder}/" if folder else ""
        everything = "recursive=true" in self.path.lower()
        folders = set()
        for path in self.server.files:
            inside = path.removeprefix(start) if path.startswith(start) else ""
            first, *more = inside.split("/")
            if inside and more:
                folders.add(start + first)
            if inside and (everything or not more):
                yield self.entry(path)
        for name in sorted(folders):
            yield {"type": "directory", "oid": COMMIT, "size": 0, "path": name}

    def entry(self, path: str) -> dict[str, Any]:
        content = self.server.files[path]
        oid = hashlib.sha1(content).hexdigest()
        return {"type": "file", "oid": oid, "size": len(content), "path": path}

    def file(self, path: str) -> None:
        content = self.server.files.get(path)
        if content is None:
            self.give(404, b"{}", {"x-error-code": "EntryNotFound"})
            return
        headers = {
            "etag": f'"{hashlib.sha1(content).hexdigest()}"',
            "x-repo-commit": COMMIT,
            "accept-ranges": "bytes",
        }
        asked = self.headers.get("range")
        if asked and self.command == "GET":
            self.server.ranges.append(asked)
            first, last = asked.removeprefix("bytes=").split("-")
            end = min(int(last) + 1 if last else len(content), len(content))
            headers["content-range"] = f"bytes {first}-{end - 1}/{len(content)}"
            self.give(206, content[int(first) : end], headers)
        else:
            self.give(200, content, headers)

    def json(self, value: Any) -> None:
        self.give(200, json.dumps(value).encode(), {"content-type": "application/json"})

    def give(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def printed(program: str, endpoint: str, *arguments: str, **variables: str) -> list[str]:
    """The lines that a process prints: its environment names the hub at its start."""
    left_out = ("HF_HUB_OFFLINE", "HF_TOKEN")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    home = {"HF_ENDPOINT": endpoint, "HF_HOME": str(Path("home").resolve()), "NO_PROXY": "*"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**kept, **home, **variables},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
