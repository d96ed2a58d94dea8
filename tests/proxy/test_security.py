"""What must not get through the proxy, and what must."""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3
from opensearchpy import OpenSearch
from proxy.conftest import Running, Serve
from proxy.gate import Gate, Guarded

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.engine.local import free_port
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.proxy.app import create_app
from latent_ingest.connector.proxy.serving.server import listening
from latent_ingest.connector.proxy.settings import Settings

MATCH = {"query": {"match": {"text": "names of files"}}}


@pytest.fixture
def papers(client: OpenSearch, index: str, encoder: LatentEncoder) -> str:
    """An index of latent terms with one document."""
    open_index(client, index, encoder, {})
    client.index(index=index, id="1", body={"text": "names of files"}, refresh=True)
    return index


@pytest.fixture
def gate(opensearch_url: str) -> Iterator[Gate]:
    one = Gate(opensearch_url)
    with one.listening(Guarded) as url:
        one.url = url  # type: ignore[attr-defined]
        yield one


def raw(proxy: Running, request: bytes, *, half_closed: bool = False) -> bytes:
    """What the proxy answers to these bytes."""
    host = urlsplit(proxy.url)
    with socket.create_connection((host.hostname, host.port), timeout=10) as connection:
        connection.sendall(request)
        if half_closed:
            connection.shutdown(socket.SHUT_WR)
        connection.settimeout(3)
        parts = []
        try:
            while part := connection.recv(65536):
                parts.append(part)
        except TimeoutError:
            pass
        return b"".join(parts)


@pytest.mark.parametrize(
    "path",
    [
        "/papers/../secret/_search",
        "/papers/%2e%2e/secret/_search",
        "/papers/%2E./secret",
        "/papers/..%2fsecret/_search",
        "/papers/%252e%252e/secret",
        "/papers%252f_search",
        "/papers%255c_search",
        "/papers\\secret",
        "/papers%5csecret",
        "//secret/_search",
        "/papers//_search",
        "/./papers",
        "/papers%00/_search",
        "/papers%0d%0aX:1",
        "/papers/%zz",
        "/papers/%ff",
    ],
)
def test_paths_that_could_be_read_in_two_ways_are_refused(proxy: Running, path: str) -> None:
    answer = raw(proxy, f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"illegal_argument_exception" in answer


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"content-length: 4\r\ntransfer-encoding: chunked", b"0\r\n\r\n"),
        (b"content-length: 4\r\ncontent-length: 5", b"abcde"),
        (b"content-length: +4", b"abcd"),
        (b"content-length: 4, 4", b"abcd"),
        (b"transfer-encoding: xchunked", b"0\r\n\r\n"),
        (b"transfer-encoding : chunked", b"0\r\n\r\n"),
        (b"transfer-encoding: chunked", b"zz\r\n\r\n"),
        (b"x: a\nb: c", b""),
        (b"x\x00: a", b""),
        (b" folded: a", b""),
    ],
)
def test_requests_whose_length_is_in_doubt_are_refused(
    gate: Gate, serve: Serve, head: bytes, body: bytes
) -> None:
    hidden = b"GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n"
    with serve(urls=(gate.url,), documents=False, questions="table") as proxy:  # type: ignore[attr-defined]
        start = b"POST /papers/_refresh HTTP/1.1\r\nhost: x\r\n" + head + b"\r\n\r\n"
        answer = raw(proxy, start + body + hidden)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert not [path for _, path, _ in gate.seen if "hidden" in path]


def test_absolute_urls_and_long_headers_are_refused(proxy: Running) -> None:
    answer = raw(proxy, b"GET http://elsewhere/papers HTTP/1.1\r\nhost: elsewhere\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    long = b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x-long: " + b"a" * 10_000_000
    host = urlsplit(proxy.url)
    with socket.create_connection((host.hostname, host.port), timeout=10) as connection:
        try:
            connection.sendall(long)
            answer = connection.recv(1000)
        except OSError:  # closed while we were sending
            answer = b"HTTP/1.1 400 "
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert proxy.ask("GET", "/").status == 200


def test_trailers_are_no_headers(gate: Gate, serve: Serve) -> None:
    with serve(urls=(gate.url,), documents=False, questions="table") as proxy:  # type: ignore[attr-defined]
        request = (
            b"POST /papers/_refresh HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
            b"connection: close\r\n\r\n2\r\n{}\r\n0\r\nauthorization: forged\r\n\r\n"
        )
        assert raw(proxy, request).startswith(b"HTTP/1.1 404 ")
        length = request.replace(b"authorization: forged", b"content-length: 1")
        assert raw(proxy, length).startswith(b"HTTP/1.1 400 ")
    ((_, _, headers),) = [one for one in gate.seen if "_refresh" in one[1]]
    assert "authorization" not in headers
    assert gate.bodies[-1] == b"{}"


def test_headers_of_the_caller(gate: Gate, serve: Serve) -> None:
    settings = {"documents": False, "questions": "table", "drop_headers": ("X-Mine",)}
    with serve(urls=(gate.url,), **settings) as proxy:  # type: ignore[attr-defined]
        proxy.ask(
            "GET",
            "/nothing/_doc/a%2Fb?q=%2F&x=a+b",
            authorization="Basic YTpi",
            x_proxy_user="admin",
            x_proxy_roles="all",
            x_forwarded_for="10.0.0.1",
            x_mine="1",
            connection="x-hop",
            x_hop="1",
            x_opaque_id="me",
        )
    ((_, path, headers),) = gate.seen
    assert path == "/nothing/_doc/a%2Fb?q=%2F&x=a+b"
    assert headers["authorization"] == "Basic YTpi"
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-opaque-id"] == "me"
    assert not headers.keys() & {"x-proxy-user", "x-proxy-roles", "x-mine", "x-hop", "x-latent"}


def test_the_address_of_the_client_may_be_left_out(gate: Gate, serve: Serve) -> None:
    settings = {"documents": False, "questions": "table", "drop_headers": ("X-Forwarded-For",)}
    with serve(urls=(gate.url,), **settings) as proxy:  # type: ignore[attr-defined]
        proxy.ask("GET", "/nothing", x_forwarded_for="10.0.0.1")
    ((_, _, headers),) = gate.seen
    assert "x-forwarded-for" not in headers


def test_nobody_sees_through_the_proxy_what_the_engine_refuses(
    gate: Gate, serve: Serve, papers: str
) -> None:
    gate.closed_to = {"Basic Ynk=": {papers}, "": {papers}}
    with serve(urls=(gate.url,)) as proxy:  # type: ignore[attr-defined]
        allowed = proxy.ask("POST", f"/{papers}/_search", MATCH, authorization="Basic b2s=")
        assert str(allowed.latent).startswith("rewritten")
        asked = len(gate.seen)
        for login in ({"authorization": "Basic Ynk="}, {}):
            refused = proxy.ask("POST", f"/{papers}/_search", MATCH, **login)
            assert refused.status == 403
            assert refused.latent is None
            assert b"latent" not in refused.data
        # Statistics of the index are read in the background, for those who may.
        paths = (f"/{papers}/_search", f"/{papers}/_mapping")
        own = [one.get("authorization") for _, path, one in gate.seen[asked:] if path in paths]
        assert own.count("Basic Ynk=") == own.count(None) == 2
        assert len(own) == 4
        again = len(gate.seen)
        proxy.ask("POST", f"/{papers}/_search", MATCH, authorization="Basic b2s=")
        assert [path for _, path, _ in gate.seen[again:] if path in paths] == [paths[0]]


def lookups(proxy: Running) -> float:
    """How often an index was looked up, and was not cached."""
    text = proxy.ask("GET", "/_latent/metrics").data.decode()
    name = 'latent_proxy_index_lookups_total{cached="no"}'
    return float(text.split(name)[1].split()[0]) if name in text else 0


def test_what_is_known_of_an_index_is_kept_by_login_headers_alone(
    gate: Gate, serve: Serve, papers: str
) -> None:
    """A client can choose other headers freely; it neither empties the cache by them nor fills it.

    The engine gets them with the search itself.
    """
    url, path = gate.url, f"/{papers}/_search"  # type: ignore[attr-defined]
    settings = {"documents": False, "questions": "table", "login_headers": ("X-Token",)}
    with serve(urls=(url,), **settings) as proxy:
        for number in range(5):
            free = {"x_forwarded_for": f"10.0.0.{number}", "x_anything": str(number)}
            reply = proxy.ask("POST", path, MATCH, cookie=f"a={number}", **free)
            assert str(reply.latent).startswith("rewritten")
        assert lookups(proxy) == 1
        assert [one["x-anything"] for _, _, one in gate.seen if "x-anything" in one] == [
            str(number) for number in range(5)
        ]
        for token in ("a", "b", "a"):
            proxy.ask("POST", path, MATCH, x_token=token)
        assert lookups(proxy) == 3
        read = [one for _, path, one in gate.seen if path.endswith("/_mapping")]
        assert [one.get("x-token") for one in read] == [None, "a", "b"]


class Broken(Guarded):
    """An engine that breaks off its answers, or does not answer."""

    def do_POST(self) -> None:
        self.body()
        if "half" in self.path:
            self.give(200, b"{", "application/json", promised=100)
        elif "late" in self.path:
            time.sleep(1.5)
        else:
            self.reset()

    do_GET = do_PUT = do_POST


@pytest.mark.parametrize("how", ["away", "broken"])
def test_errors_name_no_node(
    serve: Serve, opensearch_url: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Addresses of nodes are for the log."""
    away = f"http://127.0.0.1:{free_port()}"
    with Gate(opensearch_url).listening(Broken) as broken:
        url = away if how == "away" else broken
        with serve(urls=(url,), documents=False, questions="table", timeout=1.0) as proxy:
            place = url.removeprefix("http://").encode()
            port = place.split(b":")[1]
            paths = ("/", "/papers/_search", "/papers/_msearch", "/papers/_bulk", "/late", "/half")
            for path in (*paths, "/papers/_doc", "/papers/_search/template"):
                body = "{}\n{}\n" if path[-4:] in ("arch", "bulk") else "{}"
                try:
                    reply = proxy.ask("POST", path, MATCH if path == paths[1] else body)
                except urllib3.exceptions.HTTPError:
                    assert (path, how) == ("/half", "broken")  # the client sees a half answer, too
                    continue
                assert reply.status in (502, 503, 504)
                assert reply.json["status"] == reply.status
                told = reply.data + str(reply.headers).encode()
                assert port not in told
                assert b"127.0.0.1" not in told
            page = proxy.ask("POST", "/_latent/api/search", {"index": "papers", "question": "a"})
            assert page.status in (502, 503)
            assert port not in page.data
    assert place.decode() in caplog.text


def test_reasons_of_the_proxy_name_no_node(gate: Gate, serve: Serve, papers: str) -> None:
    """The caller may search, but not read the mapping: the engine's refusal is the reason."""
    gate.closed_to = {"": {"_mapping"}}
    url = gate.url  # type: ignore[attr-defined]
    with serve(urls=(url,), documents=False, questions="table") as proxy:
        reply = proxy.ask("POST", f"/{papers}/_search", MATCH)
        assert reply.status == 200
        assert str(reply.latent).startswith("passed through; the engine forbids this (")
        assert url.rsplit(":", 1)[1] not in str(reply.latent)


def test_an_own_login_reads_metas_and_nothing_else(gate: Gate, serve: Serve, papers: str) -> None:
    connection = Connection(gate.url, user="metas", password="secret")  # type: ignore[attr-defined]
    gate.closed_to = {"Basic Ynk=": {papers}}
    with serve(urls=(gate.url,), connection=connection) as proxy:  # type: ignore[attr-defined]
        reply = proxy.ask("POST", f"/{papers}/_search", MATCH, authorization="Basic Ynk=")
        assert reply.status == 403
        assert reply.latent is None
        fine = proxy.ask("POST", f"/{papers}/_search", MATCH, authorization="Basic b2s=")
        assert str(fine.latent).startswith("rewritten")
    logins = {path.split("?")[0]: headers.get("authorization") for _, path, headers in gate.seen}
    assert logins[f"/{papers}/_search"] == "Basic b2s="
    assert logins[f"/{papers}/_mapping"] == connection.login().header


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/{secret}/_search", None),
        ("GET", "/_search", None),
        ("GET", "/_all/_search", None),
        ("GET", "/*/_search", None),
        ("GET", "/{index},{secret}/_search", None),
        ("GET", "/_search?index={secret}", None),
        ("GET", "/{index}/_search?source=%7B%7D", None),
        ("GET", "/_cat/indices", None),
        ("POST", "/_reindex", {"source": {"index": "{secret}"}, "dest": {"index": "{index}"}}),
        ("POST", "/_bulk", '{"index":{"_index":"{secret}"}}\n{}\n'),
        ("POST", "/{index}/_bulk", '{"index":{"_index":"{secret}"}}\n{}\n'),
        ("POST", "/_bulk", '{"index":{}}\n{}\n'),
        ("POST", "/_msearch", '{"index":"{secret}"}\n{}\n'),
        ("POST", "/{index}/_msearch", '{"index":"{secret}"}\n{}\n'),
        ("POST", "/_msearch", "{}\n{}\n"),
        ("POST", "/_mget", {"docs": [{"_index": "{secret}", "_id": "1"}]}),
        (
            "POST",
            "/{index}/_search",
            {"query": {"terms": {"a": {"index": "{secret}", "id": "1", "path": "a"}}}},
        ),
        (
            "POST",
            "/{index}/_search/template",
            {"source": '{"query":{"terms":{"a":{"index":"{secret}","id":"1","path":"a"}}}}'},
        ),
        ("POST", "/{index}/_clone/{secret}", None),
        ("POST", "/{index}/_search", {"query": {"wrapper": {"query": "e30="}}}),
        ("POST", "/{index}/_search", '{"a": {"index": "{secret}", "index": "{index}"}}'),
        ("POST", "/{index}/_doc/_search", {"a": {"index": "{secret}"}}),
        ("POST", "/{index}/_rank_eval", {}),
        ("POST", "/{index}/a/_search/template", {}),
        ("GET", "/{index}-" + "a" * 5000 + "/_search", None),
        ("POST", "/_aliases", {"actions": [{"add": {"index": "{secret}", "alias": "{index}"}}]}),
    ],
)
def test_only_allowed_indices_are_served(
    serve: Serve, papers: str, method: str, path: str, body: Any
) -> None:
    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: named(part) for name, part in value.items()}
        if isinstance(value, list):
            return [named(part) for part in value]
        return value.replace("{index}", papers).replace("{secret}", "secret-1")

    settings = {"documents": False, "questions": "table"}
    with serve(allow=(f"{papers}*",), **settings) as proxy:
        reply = proxy.ask(method, named(path), named(body) if body else None)
        assert (reply.status, reply.json["error"]["type"]) == (403, "security_exception")
        assert proxy.ask("POST", f"/{papers}/_search", MATCH).status == 200
        fine = f'{{"index":"{papers}"}}\n{{}}\n'
        assert proxy.ask("POST", "/_msearch", fine).status == 200
        template = {"source": {"query": {"match_all": {}}}}
        assert proxy.ask("POST", f"/{papers}/_search/template", template).status == 200
        document = f'{{"index":{{"_index":"{papers}"}}}}\n{{"index": "secret-1"}}\n'
        assert proxy.ask("POST", "/_bulk", document).status == 200


def test_read_only(serve: Serve, papers: str) -> None:
    with serve(read_only=True, documents=False, questions="table") as proxy:
        for method, path in (
            ("PUT", f"/{papers}/_doc/2"),
            ("POST", f"/{papers}/_doc"),
            ("POST", f"/{papers}/_update/1"),
            ("POST", "/_bulk"),
            ("POST", f"/{papers}/_delete_by_query"),
            ("DELETE", f"/{papers}"),
            ("GET", f"/{papers}/_refresh"),
            ("POST", f"/{papers}/_close"),
            ("POST", "/_aliases"),
            ("PUT", "/_cluster/settings"),
            ("POST", "/_plugins/_sql"),
        ):
            assert proxy.ask(method, path, {}).status == 403, path
        assert proxy.ask("POST", f"/{papers}/_search", MATCH).status == 200
        assert proxy.ask("POST", f"/{papers}/_count", MATCH).json["count"] == 1
        assert proxy.ask("GET", f"/{papers}/_doc/1").json["found"]


def test_bodies_are_limited_also_when_they_expand(serve: Serve, papers: str) -> None:
    with serve(max_body=1_000_000) as proxy:
        long = proxy.ask("POST", f"/{papers}/_doc", b'{"text": "' + b"a" * 2_000_000 + b'"}')
        assert (long.status, long.json["status"]) == (413, 413)
        bomb = gzip.compress(b'{"index":{}}\n{"text":"' + b"a" * 50_000_000 + b'"}\n')
        reply = proxy.ask("POST", f"/{papers}/_bulk", bomb, content_encoding="gzip")
        assert reply.status == 413
        bomb = gzip.compress(b'{"query":' + b" " * 50_000_000 + b"{}}")
        reply = proxy.ask("POST", f"/{papers}/_search", bomb, content_encoding="gzip")
        assert reply.status == 413
        for body in (gzip.compress(b"{}")[:-4], b"no gzip", gzip.compress(b"{}") + b"more"):
            reply = proxy.ask("POST", f"/{papers}/_search", body, content_encoding="gzip")
            assert (reply.status, reply.json["error"]["type"]) == (400, "parse_exception")
        fine = proxy.ask(
            "POST", f"/{papers}/_search", zlib.compress(b"{}"), content_encoding="deflate"
        )
        assert fine.status in (200, 400)
        assert proxy.ask("GET", "/").status == 200


def test_a_port_in_use_and_a_login_in_the_url_are_one_line() -> None:
    taken = listening("127.0.0.1", 0)
    with pytest.raises(InputError, match="cannot listen at 127"):
        listening("127.0.0.1", taken.getsockname()[1])
    taken.close()
    with pytest.raises(InputError, match="no credentials"):
        create_app(Settings(urls=("http://a:b@c:1",), connection=Connection("http://c:1")))


def test_the_command_without_the_extra_is_one_line() -> None:
    program = (
        "import importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'starlette' else real(name, *a)\n"
        "from latent_ingest.cli.main import cli; cli(['serve'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install 'latent-ingest[serve]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_engine_that_is_away_is_an_error_of_its_shape(serve: Serve) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with serve(urls=(url,), documents=False, questions="table") as proxy:
        for method, path, body in (
            ("GET", "/", None),
            ("POST", "/papers/_search", MATCH),
            ("POST", "/papers/_bulk", '{"index":{}}\n{}\n'),
        ):
            reply = proxy.ask(method, path, body)
            assert reply.status == reply.json["status"] == 503
            assert reply.json["error"]["type"] == "unavailable_exception"
            assert reply.headers["retry-after"] == "1"
        assert proxy.ask("GET", "/_latent/ready").status == 200
