"""Training texts: sources, weights, shuffling, each text once."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from corpus.hub_server import Hub, printed
from s3_server import S3

from latent_ingest.connector.corpus.reading import Reading
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.seen_keys import SeenKeys
from latent_ingest.connector.training import texts as texts_module
from latent_ingest.connector.training.texts import Source, TrainingTexts, find_sources, is_plain


def write(path: Path, *texts: str) -> Source:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return Source(str(path))


def once(texts: TrainingTexts) -> list[str]:
    return list(texts.round())


def test_every_text_comes_once_a_round_in_another_order(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", *map(str, range(50)))
    texts = TrainingTexts([source])
    rounds = [list(texts.round(number)) for number in range(3)]
    for texts_of_round in rounds:
        assert Counter(texts_of_round) == Counter(map(str, range(50)))
    assert rounds[0] != rounds[1] != rounds[2]
    assert list(TrainingTexts([source]).round(1)) == rounds[1]
    assert list(TrainingTexts([source], seed=1).round(1)) != rounds[1]


def test_sources_are_drawn_from_by_weight_while_they_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts_module, "SHUFFLED_TEXTS", 1)
    a = write(tmp_path / "a.jsonl", *(f"a{n}" for n in range(300)))
    b = write(tmp_path / "b.jsonl", *(f"b{n}" for n in range(300)))
    every = once(TrainingTexts([Source(a.path, 3.0), b]))
    assert len(every) == len(set(every)) == 600
    start = Counter(text[0] for text in every[:200])
    assert start["a"] == pytest.approx(150, abs=2)


def test_sources_of_like_weight_end_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever their sizes, and whether they are compressed or not."""
    monkeypatch.setattr(texts_module, "SHUFFLED_TEXTS", 1)
    large = write(tmp_path / "l.jsonl", *(f"l {n:03} and so on" for n in range(300)))
    small = write(tmp_path / "s.jsonl", *(f"s {n:03} and so on" for n in range(100)))
    every = once(TrainingTexts([small, large]))
    for start in range(0, 400, 40):
        assert Counter(text[0] for text in every[start : start + 40])["s"] in (9, 10, 11)


def test_a_text_that_was_there_before_is_left_out_and_counted(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", "one", "two", "one")
    b = write(tmp_path / "b.jsonl", "two", "three")
    texts = TrainingTexts([a, b])
    assert sorted(once(texts)) == ["one", "three", "two"]
    assert texts.duplicates == 2


def test_an_abandoned_round_deletes_its_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    class Recorder(SeenKeys):
        def close(self) -> None:
            super().close()
            closed.append(self)

    monkeypatch.setattr(texts_module, "SeenKeys", Recorder)
    monkeypatch.setattr(texts_module, "SHUFFLED_TEXTS", 1)
    assert next(TrainingTexts([write(tmp_path / "a.jsonl", "one", "two", "three")]).round())
    assert len(closed) == 1


def test_lines_that_cannot_be_read_are_counted_and_the_first_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "good"}\nbroken\n{"text": ""}\n[1]\n')
    texts = TrainingTexts([Source(str(path))])
    assert once(texts) == ["good"]
    assert texts.skipped == 3
    (line,) = caplog.messages
    assert line.startswith(f"{path}: line 2: not JSON")
    assert once(texts) == ["good"]
    assert (texts.skipped, len(caplog.messages)) == (3, 1)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".JSONL.ZST", ".txt", ".txt.GZ"])
def test_formats(tmp_path: Path, ending: str) -> None:
    from backports import zstd

    rows = "one\n\ntwo\n" if ".txt" in ending else '{"text": "one"}\n\n{"text": "two"}\n'
    path = tmp_path / f"a{ending}"
    pack = {"gz": gzip.compress, "zst": zstd.compress}.get(ending.lower().rsplit(".")[-1], bytes)
    path.write_bytes(pack(rows.encode()))
    (source,) = find_sources([str(path)], tmp_path)
    assert sorted(once(TrainingTexts([source]))) == ["one", "two"]


def test_a_line_of_plain_text_that_is_not_utf_8_is_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("one\ncaf\xe9\ntwo\n".encode("latin-1"))
    texts = TrainingTexts([Source(str(path))])
    assert once(texts) == ["one", "two"]
    assert texts.skipped == 1
    assert caplog.messages == [
        f"{path}: line 2: not UTF-8: byte 0xe9 at position 3; convert the file to UTF-8"
    ]


def test_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    texts_and_more = {"title": ["T", None, ""], "text": ["one", "two", None], "n": [b"\xff"] * 3}
    table = pyarrow.table(texts_and_more)
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(table, path)
    texts = TrainingTexts(find_sources([str(path)], tmp_path))
    assert sorted(once(texts)) == ["T one", "two"]
    assert texts.skipped == 1
    other = TrainingTexts(find_sources([str(path)], tmp_path), text_fields=["body"])
    with pytest.raises(InputError, match="no texts; fields read: body"):
        once(other)
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        once(TrainingTexts([Source(str(path))]))


def test_a_truncated_zst_is_said(tmp_path: Path) -> None:
    from backports import zstd

    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstd.compress(b'{"text": "one"}\n' * 10_000)[:-20])
    with pytest.raises(InputError, match=r"a.jsonl.zst: broken after line"):
        once(TrainingTexts([Source(str(path))]))


def test_folders_and_weights(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("b.jsonl", "a.txt", "c.md", "in/d.jsonl.gz"):
        (tmp_path / name).write_text("")
    sources = find_sources([f"{tmp_path}=3", f"{tmp_path}/b.jsonl=0.5"], tmp_path)
    assert [(Path(s.path).name, s.weight) for s in sources] == [
        ("a.txt", 3.0), ("b.jsonl", 3.0), ("d.jsonl.gz", 3.0), ("b.jsonl", 0.5),
    ]  # fmt: skip
    odd = tmp_path / "odd=2.jsonl"
    odd.write_text("")
    assert find_sources([str(odd)], tmp_path) == [Source(str(odd))]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("none.jsonl", "no such file"),
        ("a.jsonl=lots", "'lots' is not a weight; write FILE=2"),
        ("a.jsonl=0", "the weight must be above 0"),
        ("a.md", "unknown extension; use .txt"),
        ("*.none", "no file matches"),
        ("empty", "has no file that ends in .txt, .jsonl"),
    ],
)
def test_what_is_no_source_is_said(argument: str, message: str) -> None:
    Path("empty").mkdir()
    for name in ("a.jsonl", "a.md"):
        Path(name).write_text("words")
    with pytest.raises(InputError, match=message):
        find_sources([argument], Path())


def test_distributed_do_not_share_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="several processes cannot share standard input"):
        find_sources(["-"], tmp_path)


def test_files_without_text_end_instead_of_turning_for_ever(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no texts; fields read: title, text"):
        once(TrainingTexts([write(tmp_path / "a.jsonl", "", " ")]))


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a.txt", True),
        ("a.b.TXT.GZ", True),
        ("a.txt.zst", True),
        ("a.txt.jsonl", False),
        ("txt", False),
    ],
)
def test_a_text_per_line_by_name(name: str, plain: bool) -> None:
    assert is_plain(name) == plain


def test_every_format_of_a_corpus_is_a_source(tmp_path: Path) -> None:
    """A pattern and a folder name them; places are rows and items."""
    (tmp_path / "a.csv").write_text("title;text\nT;one\n;two\nragged\n")
    (tmp_path / "b.json").write_text('[{"text": "three"}, {"text": "four"}]')
    (tmp_path / "c.ndjson").write_text('{"index": {}}\n{"text": "five"}\n')
    for name in (str(tmp_path), f"{tmp_path}/?.*"):
        texts = TrainingTexts(find_sources([name], tmp_path))
        assert sorted(once(texts)) == ["T one", "five", "four", "three", "two"]
        assert texts.skipped == 1


def test_the_place_of_a_row_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.csv"
    path.write_text('title,text\nT,one\n"two\n')
    texts = TrainingTexts(find_sources([str(path)], tmp_path))
    assert once(texts) == ["T one"]
    (line,) = caplog.messages
    assert line.startswith(f"{path}: line 3: ")


def test_csv_is_read_as_ingest_reads_it_beside_other_files(tmp_path: Path) -> None:
    """What only CSV has is for the CSV files among the sources, what all have for all."""
    (tmp_path / "a.csv").write_bytes("1;caf\xe9;x\n2;th\xe9;y\n".encode("latin-1"))
    (tmp_path / "b.jsonl").write_text('{"body": "bees"}\n')
    (tmp_path / "c.txt").write_text("ants\n")
    reading = Reading(
        delimiter=";", encoding="latin-1", header=["id", "body", "rest"], map={"text": "body"}
    )
    sources = find_sources([str(tmp_path)], tmp_path, reading)
    texts = TrainingTexts(sources, reading=reading)
    assert sorted(once(texts)) == ["ants", "bees", "café", "thé"]
    assert texts.skipped == 0
    usual = TrainingTexts(sources)
    assert texts.fingerprint != usual.fingerprint
    assert usual.fingerprint == TrainingTexts(sources, reading=Reading()).fingerprint
    few = Reading(sample=1, delimiter=";", header=["id", "text", "rest"], encoding="latin-1")
    assert sorted(once(TrainingTexts(sources, reading=few, text_fields=["text", "body"]))) == [
        "ants", "bees", "café",
    ]  # fmt: skip


def test_standard_input_of_a_named_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"text\tn\nbees\t1\n")))
    reading = Reading(format="tsv")
    texts = TrainingTexts(find_sources(["-"], tmp_path, reading), reading=reading)
    assert once(texts) == ["bees"]


@pytest.mark.parametrize(
    ("argument", "reading", "message"),
    [
        ("a.jsonl", Reading(delimiter=";"), "--delimiter is for CSV, and a.jsonl is not; omit it"),
        (
            "*.*l*",
            Reading(header=["a"]),
            "--header is for CSV, and a.jsonl and the other ",
        ),
        ("a.csv", Reading(encoding="utf-16"), "a.csv: not UTF-16: "),
        ("a.csv", Reading(header=["a", "a"]), "a.csv: "),
        ("a.jsonl", Reading(format="parquet"), "a.jsonl: "),
        ("hf://datasets/me/set/a.jsonl=2", None, "hf://datasets/me/set/a.jsonl: could not be down"),
        ("hf://datasets/me/set/y=3/a.csv", None, "hf://datasets/me/set/y=3/a.csv: could not be"),
    ],
)
def test_what_cannot_be_read_so_is_said(
    argument: str, reading: Reading | None, message: str
) -> None:
    Path("a.jsonl").write_text('{"text": "bees"}\n')
    Path("b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "ants"}\n'))
    Path("a.csv").write_text("text,title\nbees,B\n")
    with pytest.raises(InputError, match=rf"^{re.escape(message)}") as raised:
        find_sources([argument], Path(), reading)
    assert len(str(raised.value).splitlines()) == 1


def test_sources_of_the_hub() -> None:
    """A file, a folder and a pattern, by the hub's library and a server that stands in for it."""
    program = """
import sys
from pathlib import Path
from latent_ingest.connector.corpus.reading import Reading
from latent_ingest.connector.training.texts import TrainingTexts, find_sources
reading = Reading(delimiter=";")
sources = find_sources(sys.argv[1:], Path(), reading)
print(*(f"{source.path}={source.weight}:{source.size}" for source in sources))
print(*sorted(TrainingTexts(sources, reading=reading).round()))
"""
    base = "hf://datasets/me/set"
    files = {
        "data/a.jsonl": b'{"text": "bees"}\n',
        "data/b.txt": b"ants\nwasps\n",
        "data/c.csv": b"title;text\nT;flies\n",
        "data/README.md": b"# A dataset",
    }
    sizes = {name: len(content) for name, content in files.items()}
    wanted = "T flies ants bees wasps"
    with Hub("me/set", files).listening() as endpoint:
        for arguments, weight in (
            ([f"{base}/data=2"], 2.0),
            ([f"{base}/data/?.*"], 1.0),
            ([f"{base}/{name}" for name in sorted(files) if "README" not in name], 1.0),
        ):
            found, texts = printed(program, endpoint, *arguments)
            assert texts == wanted
            assert found.split() == [
                f"{base}/{name}={weight}:{sizes[name]}"
                for name in sorted(files)
                if ".m" not in name
            ]


def test_sources_of_a_bucket(s3: S3, bucket: str) -> None:
    files = {
        "data/a.jsonl": b'{"text": "bees"}\n',
        "data/b.txt": b"ants\nwasps\n",
        "data/c.csv": b"title;text\nT;flies\n",
        "data/README.md": b"# A dataset",
    }
    s3.fill(bucket, files)
    base = f"s3://{bucket}"
    named = [f"{base}/{name}" for name in sorted(files) if "README" not in name]
    reading = Reading(delimiter=";")
    for arguments, weight in (([f"{base}/data=2"], 2.0), ([f"{base}/data/?.*"], 1.0), (named, 1.0)):
        sources = find_sources(arguments, Path(), reading)
        sizes = [len(files[name.removeprefix(f"{base}/")]) for name in named]
        assert [(one.path, one.weight, one.size) for one in sources] == [
            (name, weight, size) for name, size in zip(named, sizes, strict=True)
        ]
        texts = list(TrainingTexts(sources, reading=reading).round())
        assert sorted(texts) == ["T flies", "ants", "bees", "wasps"]
