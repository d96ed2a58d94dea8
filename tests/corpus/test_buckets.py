"""Files in buckets, by pyarrow and a real server of S3."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from s3_server import KEY, S3, SECRET

from latent_ingest.connector.corpus import remote
from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.corpus.finding import find_files, identity, short_name
from latent_ingest.connector.corpus.reading import Reading
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.training.texts import find_sources

from .hub_server import printed

ROWS = [{"_id": str(n), "text": f"bees {n}"} for n in range(500)]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


def written(write: Callable[[pyarrow.Table, pyarrow.BufferOutputStream], None]) -> bytes:
    output = pyarrow.BufferOutputStream()
    write(pyarrow.Table.from_pylist(ROWS), output)
    return bytes(output.getvalue())


FORMATS = {
    "a.jsonl": LINES,
    "a.jsonl.gz": gzip.compress(LINES),
    "a.jsonl.bz2": bz2.compress(LINES),
    "a.json": json.dumps(ROWS, indent=1).encode(),
    "a.csv": b"_id,text\n" + b"".join(f"{r['_id']},{r['text']}\n".encode() for r in ROWS),
    "a.parquet": written(pyarrow.parquet.write_table),
    "a.parquet.gz": gzip.compress(written(pyarrow.parquet.write_table)),
    "a.arrow": written(pyarrow.feather.write_feather),
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_read_as_from_a_disk(s3: S3, bucket: str, name: str) -> None:
    s3.fill(bucket, {f"data/{name}": FORMATS[name]})
    Path(name).write_bytes(FORMATS[name])
    with Corpus(f"s3://{bucket}/data/{name}") as corpus, Corpus(name) as here:
        assert corpus.size == here.size == len(FORMATS[name])
        assert [json.loads(line.content) for line in corpus] == ROWS
        assert len(list(here)) == len(ROWS)
        assert corpus.position == here.position > 0.9 * len(FORMATS[name])
        assert str(corpus.place(3)).startswith(f"s3://{bucket}/data/{name}: ")
        assert corpus.full_paths == [f"s3://{bucket}/data/{name}"]


def test_a_file_a_folder_and_a_pattern(s3: S3, bucket: str) -> None:
    names = [
        "a.jsonl",
        "data/b.jsonl",
        "data/b.csv",
        "data/more/c.jsonl",
        "data/README.md",
        "data/",
    ]
    s3.fill(bucket, dict.fromkeys(names, b"{}\n"))
    home = f"s3://{bucket}"
    inside = [f"{home}/data/b.jsonl", f"{home}/data/more/c.jsonl"]
    assert find_files(f"{home}/data/b.jsonl") == inside[:1]
    folder = [f"{home}/data/b.csv", *inside]
    assert find_files(f"{home}/data") == find_files(f"{home}/data/") == folder
    assert find_files(home) == [f"{home}/a.jsonl", *folder]
    assert find_files(f"{home}/data/*.jsonl") == inside[:1]
    assert find_files(f"{home}/data/**/*.jsonl") == inside
    assert find_files(f"{home}/**/[bc].jsonl") == inside
    assert find_files(f"{home}/*/b.???") == folder[:1]
    assert find_files([inside[1], inside[0]]) == inside[::-1]
    assert identity(f"{home}/data/b.jsonl") == inside[0]
    assert identity(inside).startswith(f"{inside[0]} and 1 more (")
    assert [short_name(name) for name in (inside[0], f"{home}/data", f"{home}/*")] == [
        "b",
        "data",
        None,
    ]


def test_any_letters_may_be_in_a_key(s3: S3, bucket: str) -> None:
    names = ["a b+c%20.jsonl", "d=1/ä&.jsonl", "e#f?.jsonl", "[g].jsonl"]
    s3.fill(bucket, {name: name.encode() for name in names})
    with Corpus(f"s3://{bucket}") as corpus:
        assert sorted(line.content.decode() for line in corpus) == sorted(names)
    with Corpus(f"s3://{bucket}/{names[0]}") as corpus:
        assert [line.content.decode() for line in corpus] == names[:1]


def test_the_layout_of_beir_is_known(s3: S3, bucket: str) -> None:
    names = ["corpus.jsonl.gz", "queries.jsonl", "qrels/test.tsv"]
    s3.fill(bucket, dict.fromkeys((f"scifact/{name}" for name in names), b"{}\n"))
    assert find_files(f"s3://{bucket}/scifact") == [f"s3://{bucket}/scifact/corpus.jsonl.gz"]


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each request for a part of a file."""
    found: list[int] = []
    real = remote.Stream.readinto

    def readinto(stream: remote.Stream, buffer: bytearray) -> int:
        found.append(real(stream, buffer))
        return found[-1]

    monkeypatch.setattr(remote.Stream, "readinto", readinto)
    return found


def test_large_files_are_read_by_few_requests(s3: S3, bucket: str, parts: list[int]) -> None:
    lines = LINES * 300
    s3.fill(bucket, {"a.jsonl": lines})
    with Corpus(f"s3://{bucket}/a.jsonl") as corpus:
        assert len(list(corpus)) == 300 * len(ROWS)
    assert len(lines) > 4 * remote.PART
    assert sum(parts) <= len(lines) + remote.PART  # the start is looked at before
    assert len(parts) <= len(lines) / remote.PART + 4


def test_only_what_is_needed_of_parquet_is_read(s3: S3, bucket: str, parts: list[int]) -> None:
    """One row group after the other, and no columns that are dropped."""
    rows = [{"text": "bees", "more": os.urandom(2000).hex()} for _ in range(2500)]
    output = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), output, row_group_size=250)
    s3.fill(bucket, {"a.parquet": bytes(output.getvalue())})
    whole = len(output.getvalue())
    with Corpus(f"s3://{bucket}/a.parquet") as corpus:
        lines = iter(corpus)
        assert json.loads(next(lines).content) == rows[0]
        assert sum(parts) < 0.9 * whole
        assert len(list(lines)) == 2499
    assert whole <= sum(parts) < 2 * whole
    parts.clear()
    with Corpus(f"s3://{bucket}/a.parquet", Reading(drop=["more"], sample=1000)) as corpus:
        assert len(list(corpus)) == 1000
    assert sum(parts) < 0.9 * whole


def refused(path: str, read: bool = False) -> str:
    """The one line that says why a path cannot be read."""
    with pytest.raises(InputError) as raised, Corpus(path) as corpus:
        assert not read or list(corpus)
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


def test_what_cannot_be_had_is_one_line_that_says_what_to_do(s3: S3, bucket: str) -> None:
    s3.fill(bucket, {"data/a.jsonl": b"{}\n"})
    home = f"s3://{bucket}"
    for path in (f"{home}0/a.jsonl", f"{home}0", f"{home}0/*.jsonl"):
        wanted = f"{path}: could not be downloaded: no bucket {bucket}0; check its name and AWS"
        assert refused(path).startswith(wanted)
    for path in (f"{home}/b.jsonl", f"{home}/dat"):
        assert refused(path) == f"{path}: no such file or folder; check the name"
    for path in (f"{home}/*.jsonl", f"{home}/none/**/*.jsonl"):
        assert refused(path) == f"{path}: no file matches; check the pattern and the folder"
    for path in ("s3://", "s3:///a.jsonl", "s3://*/a.jsonl"):
        assert refused(path) == f"{path}: names no bucket; write s3://BUCKET/PATH"


@pytest.mark.parametrize(
    ("key", "secret", "reason"),
    [
        ("other", SECRET, "INVALID_ACCESS_KEY_ID"),
        (KEY, "other", "SIGNATURE_DOES_NOT_MATCH"),
        (None, None, "ACCESS_DENIED"),
    ],
)
def test_who_may_not_read_is_told_where_credentials_are_looked_for(
    s3: S3,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    key: str | None,
    secret: str | None,
    reason: str,
) -> None:
    s3.fill(bucket, {"data/a.jsonl": b"{}\n"})
    for name, value in (("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret)):
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    for name in ("data/a.jsonl", "data", "**/*.jsonl"):
        said = refused(f"s3://{bucket}/{name}")
        assert said.startswith(f"s3://{bucket}/{name}: could not be downloaded: access denied")
        assert reason in said
        assert "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or the role" in said


def test_credentials_of_a_file_are_found(
    s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.fill(bucket, {"a.jsonl": LINES})
    Path("login").write_text(
        f"[reader]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    program = """
import sys
from latent_ingest.connector.corpus.corpus import Corpus
with Corpus(sys.argv[1]) as corpus:
    print(len(list(corpus)))
"""
    login = {"AWS_SHARED_CREDENTIALS_FILE": str(Path("login").absolute()), "AWS_PROFILE": "reader"}
    assert printed(program, "", f"s3://{bucket}", **login) == ["500"]


def test_a_public_bucket_needs_no_credentials(
    s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.fill(bucket, {"data/a.jsonl": LINES}, public=True)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for name in ("data/a.jsonl", "*/*.jsonl"):
        with Corpus(f"s3://{bucket}/{name}") as corpus:
            assert len(list(corpus)) == len(ROWS)


@pytest.mark.parametrize("name", ["a.jsonl", "data/*.jsonl"])
def test_a_server_that_does_not_answer_is_given_up(
    bucket: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    before = time.monotonic()
    said = refused(f"s3://{bucket}/{name}")
    assert time.monotonic() - before < 60
    assert "could not be downloaded: http://127.0.0.1:9 cannot be reached (NETWORK_CONN" in said
    assert said.endswith("; check the network, or name the server by AWS_ENDPOINT_URL")


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_file_that_is_replaced_while_it_is_read_is_noticed(
    s3: S3, bucket: str, ending: str
) -> None:
    many = LINES * 300
    contents = [gzip.compress(text, 0) if ending else text for text in (many, many + LINES)]
    s3.fill(bucket, {f"a.jsonl{ending}": contents[0]})
    path = f"s3://{bucket}/a.jsonl{ending}"
    with Corpus(path) as corpus:
        lines = iter(corpus)
        next(lines)
        s3.put(bucket, f"a.jsonl{ending}", contents[1])
        with pytest.raises(InputError) as raised:
            list(lines)
    wanted = f"{path}: replaced while it was read; start again, an ingest with --restart"
    assert str(raised.value) == wanted


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_file_that_is_deleted_while_it_is_read_is_named(s3: S3, bucket: str, name: str) -> None:
    table = pyarrow.table({"text": [os.urandom(2000).hex() for _ in range(2000)]})
    output = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, output, row_group_size=500)
    content = LINES * 300 if name == "a.jsonl" else bytes(output.getvalue())
    s3.fill(bucket, {name: content})
    with Corpus(f"s3://{bucket}/{name}") as corpus:
        lines = iter(corpus)
        next(lines)
        s3.delete(bucket, name)
        with pytest.raises(InputError) as raised:
            list(lines)
    wanted = f"s3://{bucket}/{name}: could not be downloaded: no such file; check the name"
    assert str(raised.value) == wanted


@pytest.mark.parametrize("path", ["gs://bucket/a.jsonl", "https://host/*.jsonl", "file:///a"])
def test_other_schemes_are_named(path: str) -> None:
    wanted = f"{path}: {path.partition('//')[0]}// is not read; use hf://, s3:// or a path of this"
    assert refused(path).startswith(wanted)
    with pytest.raises(InputError, match="is not read"):
        find_sources([path], Path())


def test_a_missing_pyarrow_is_named_with_its_extra(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.fs", None)
    assert refused(f"s3://{bucket}/a.jsonl").endswith("pip install 'latent-ingest[files]'")
