"""Learning from pairs, on a toy model: words of questions that stand for other words."""

from __future__ import annotations

import dataclasses
import errno
import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    Qwen3Config,
    Qwen3ForSequenceClassification,
)

from latent_ingest.cli.main import cli
from latent_ingest.connector.bm25 import MemoryBM25
from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError, ModelError
from latent_ingest.connector.training.pairs import cache
from latent_ingest.connector.training.pairs.cache import TextCache
from latent_ingest.connector.training.pairs.change import EncoderChange
from latent_ingest.connector.training.pairs.config import PairConfig
from latent_ingest.connector.training.pairs.making import pairs_of
from latent_ingest.connector.training.pairs.measures import PairProgress
from latent_ingest.connector.training.pairs.objective import PairObjective
from latent_ingest.connector.training.pairs.reading import MOST_ANSWERS, Pair, Pairs
from latent_ingest.connector.training.pairs.score import CollectionStatistics, counts, scores
from latent_ingest.connector.training.pairs.teacher import READ_AT_ONCE, CrossEncoder
from latent_ingest.connector.training.pairs.trainer import PairTrainer
from tests.architectures import bytes_of
from tests.toys import toy_backbone, toy_model, toy_tokenizer

# Words of questions and, in the same order, the words of the documents that answer them.
ASKED = ["a", "find", "files", "that", "match", "the", "trees", "query"]
FOUND = ["words", "in", "wait", "until", "it", "ends", "of", "passage"]

SMALL = PairConfig(batch=16, rounds=6, learning_rate=0.05, anchor=0.01, rank=8, cost=0.0)

Start = Callable[..., PairTrainer]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """210 pairs of two to five words, none of which is on both sides."""
    path = tmp_path / "pairs.jsonl"
    rows = [
        {
            "question": " ".join(ASKED[i] for i in chosen),
            "document": " ".join(FOUND[i] for i in chosen),
        }
        for size in (2, 3, 4, 5)
        for chosen in combinations(range(8), size)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    return toy_model(folder / "model", toy_backbone(folder / "backbone"))


@pytest.fixture
def start(model: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setattr(cache, "TEXTS_AT_ONCE", 50)

    def make(name: str, config: PairConfig = SMALL, **options: Any) -> PairTrainer:
        encoder = LatentEncoder.load(model, device="cpu", dtype="float32")
        pairs = Pairs.read([str(file)], batch=config.batch, seed=config.seed)
        return PairTrainer(encoder, pairs, tmp_path / name, config, **options)

    return make


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(TokenAutoencoder.load(folder).state_dict())


def test_the_score_is_that_of_the_engine(generator: torch.Generator) -> None:
    """On whole counts, for every question and document, to 1e-5."""
    tf = torch.randint(0, 6, (9, 40), generator=generator) * (
        torch.rand(9, 40, generator=generator) < 0.4
    )
    asked = torch.rand(5, 40, generator=generator) * 3
    row, latents = np.nonzero(tf.numpy())
    bm25 = MemoryBM25(
        latents.astype(np.int32),
        tf.numpy()[row, latents],
        np.concatenate([[0], np.cumsum(np.bincount(row, minlength=9))]),
        40,
    )
    statistics = CollectionStatistics(
        torch.from_numpy(bm25.idf), float(tf.sum(dim=1).float().mean())
    )
    ours = scores(asked, tf.float(), statistics)
    every = np.arange(40, dtype=np.int32)
    theirs = np.stack([bm25.scores(every, question.numpy()) for question in asked])
    assert theirs.min() > 0.1
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5)


def test_counts_are_whole_and_have_the_gradient_of_their_roots() -> None:
    roots = torch.tensor([[0.0, 0.4, 0.6, 2.3]], requires_grad=True)
    tf = counts(roots)
    assert tf.tolist() == [[0.0, 0.0, 1.0, 2.0]]
    tf.sum().backward()
    assert roots.grad is not None
    assert roots.grad.tolist() == [[1.0] * 4]


def test_a_folded_change_encodes_as_it_was_learned(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all latents as candidates; and no change at the start."""
    monkeypatch.setattr(cache, "TIMES_K", 8)
    trainer = start("m")
    encoder, frozen = trainer.model, trainer._frozen
    texts = ["find files that match", "trees of words"]
    kept = TextCache(tmp_path / "c", encoder, frozen, kind="document", identity=("a", "b"))
    kept.fill(texts)
    tokens = kept.open().take([0, 1], torch.device("cpu"))
    nothing = CollectionStatistics(torch.ones(32), 1.0)
    objective = PairObjective(frozen, nothing, 1.0, 1.0, SMALL)
    for std in (0.0, 0.3):
        with torch.no_grad():
            objective.change.up.normal_(std=std)
            objective.change.bias.normal_(std=std)
        roots, moved = objective.roots(tokens)
        assert bool(moved > 0.001) == (std > 0)
        tuned = LatentEncoder(encoder.backbone, objective.change.folded(frozen))
        for row, (latents, values) in zip(roots, tuned.encode(texts), strict=True):
            active = row.nonzero()[:, 0]
            assert active.tolist() == latents.tolist()
            np.testing.assert_allclose(row[active].detach() ** 2, values, rtol=2e-2, atol=2e-3)


def test_a_run_learns_and_its_folder_is_another_model(
    start: Start, model: Path, tmp_path: Path
) -> None:
    steps: list[PairProgress] = []
    trainer = start("tuned", on_step=steps.append)
    report = trainer.write(trainer.run(), command="the command", licence="CC0")
    assert (report.pairs, report.held_out, report.steps) == (189, 21, 66)
    assert [step.step for step in steps] == list(range(1, 67))
    first, last = (np.mean([s.contrast for s in some]) for some in (steps[:6], steps[-6:]))
    assert last < 0.6 * first
    assert report.contrast < 0.6 * first
    assert report.after.mrr > 1.3 * report.before.mrr
    out = tmp_path / "tuned"
    assert not (tmp_path / "tuned.run").exists()
    before = LatentEncoder.load(model, device="cpu", dtype="float32")
    after = LatentEncoder.load(out, device="cpu", dtype="float32")
    assert after.fingerprint.digest == report.fingerprint != before.fingerprint.digest
    assert after.fingerprint.backbone == before.fingerprint.backbone
    card = (out / "README.md").read_text()
    for fact in ("189 of pairs.jsonl", before.fingerprint.digest, report.fingerprint,
                 "`the command`", "CC0", "words True",
                 f"| after | {report.after.mrr:.4f} |"):  # fmt: skip
        assert fact in card
    assert str(tmp_path) not in card
    assert weights(out)["document_frequency"].max() <= 210


def test_a_weight_on_cost_touches_fewer_postings(start: Start) -> None:
    plain, cheap = (
        start(name, dataclasses.replace(SMALL, cost=cost)).run().after
        for name, cost in (("plain", 0.0), ("cheap", 5.0))
    )
    assert cheap.postings < 0.95 * plain.postings


@pytest.mark.parametrize("cross", [False, True], ids=["cosine", "cross-encoder"])
def test_a_run_that_was_cut_ends_as_one_that_was_not(
    start: Start, tmp_path: Path, cross: bool
) -> None:
    teacher = str(cross_encoder(tmp_path / "teacher")) if cross else None
    config = dataclasses.replace(SMALL, rounds=2, distil=0.5, teacher=teacher, cost=0.1)
    whole = start("whole", config)
    whole.write(whole.run())
    cut = start("cut", config)
    embedded: list[int] = []
    cut.on_embedded = lambda texts: embedded.append(texts) or (cut.stop() if texts else None)
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    assert embedded == [0, 50]
    cut = start("cut", config, resume=True, checkpoint_seconds=0.0)
    cut.on_embedded = embedded.append
    cut.on_step = lambda progress: cut.stop() if progress.step == 5 else None
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    assert sum(embedded[2:]) == 2 * 210
    with pytest.raises(InputError, match="a run was interrupted here; continue it with --resume"):
        start("cut", config)
    with pytest.raises(InputError, match=r"was started with anchor 0.01, not 2.0; resume with"):
        start("cut", dataclasses.replace(config, anchor=2.0), resume=True).run()
    steps: list[int] = []
    again = start("cut", config, resume=True)
    again.on_step = lambda progress: steps.append(progress.step)
    again.write(again.run())
    assert steps[0] == 6
    ours, theirs = weights(tmp_path / "cut"), weights(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def cross_encoder(folder: Path, outputs: int = 1) -> Path:
    """Write a random cross-encoder for the toy backbone's words."""
    torch.manual_seed(3)
    tokenizer = toy_tokenizer("words")
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, num_labels=outputs,
        initializer_range=2.0,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def causal_cross_encoder(folder: Path) -> Path:
    """The same of a causal model, whose config has no padding."""
    torch.manual_seed(3)
    tokenizer = bytes_of("qwen")
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, intermediate_size=32, num_labels=1, pad_token_id=None,
        initializer_range=0.5,
    )  # fmt: skip
    Qwen3ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("made", [cross_encoder, causal_cross_encoder])
def test_a_cross_encoder_reads_a_question_with_its_document(
    made: Callable[[Path], Path], tmp_path: Path
) -> None:
    """As transformers scores each alone: more than are read at once, of different lengths."""
    folder = made(tmp_path / "teacher")
    pairs = [
        Pair(" ".join(ASKED[: 1 + i % 7]), " ".join(FOUND[i % 5 :]))
        for i in range(READ_AT_ONCE + 3)
    ]
    ours = CrossEncoder.load(str(folder), torch.device("cpu")).scores(pairs)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    model.config.pad_token_id = tokenizer.pad_token_id
    with torch.no_grad():
        theirs = [
            model(**tokenizer(pair.question, pair.document, return_tensors="pt")).logits.item()
            for pair in pairs
        ]
    assert np.std(theirs) > 0.01
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4)
    swapped = [Pair(pair.document, pair.question) for pair in pairs]
    again = CrossEncoder.load(str(folder), torch.device("cpu")).scores(swapped)
    assert not torch.allclose(ours, again, atol=1e-3)
    long = Pair("a " * 100, "words " * 100)
    assert CrossEncoder.load(str(folder), torch.device("cpu")).scores([long]).isfinite().all()


def test_a_teacher_is_asked_for_each_documents_own_and_drawn_ones(
    start: Start, tmp_path: Path
) -> None:
    teacher = str(cross_encoder(tmp_path / "teacher"))
    trainer = start("m", dataclasses.replace(SMALL, distil=1.0, teacher=teacher))
    trainer._prepare()
    batch = trainer._batch(1)
    assert batch.teacher is not None
    asked = ~batch.teacher.isnan()
    assert asked.diagonal().all()
    assert asked.sum(dim=1).tolist() == [1 + SMALL.negatives] * SMALL.batch
    assert not (asked & batch.left_out).any()
    # As numbers of pairs: the chosen ones, in the order of the batch, then those drawn further.
    order = np.random.default_rng([SMALL.seed, 0]).permutation(trainer.pairs.n_training)
    chosen = order[: SMALL.batch]
    row = 5
    mined = trainer._mined.negatives[chosen[row]]
    assert (mined >= 0).all()
    every = trainer.pairs.every
    own = Pair(every[chosen[row]].question, every[chosen[row]].document)
    assert trainer._teacher is not None
    assert torch.allclose(trainer._teacher.scores([own])[0], batch.teacher[row, row])
    wrong = [Pair(own.question, every[number].document) for number in mined]
    known = trainer._teacher.scores(wrong)
    others = batch.teacher[row][asked[row]].tolist()
    others.remove(batch.teacher[row, row].item())
    assert all(torch.isclose(known, torch.tensor(other)).any() for other in others)


def test_a_teacher_is_followed(start: Start, tmp_path: Path) -> None:
    """Its ranking of the same documents is nearer afterwards, and only with its weight."""
    teacher = str(cross_encoder(tmp_path / "teacher"))
    ends = {}
    for distil in (1e-6, 3.0):
        steps: list[PairProgress] = []
        config = dataclasses.replace(SMALL, distil=distil, teacher=teacher)
        start(f"m{distil}", config, on_step=steps.append).run()
        first, last = (np.mean([s.taught for s in some]) for some in (steps[:6], steps[-6:]))
        assert first > 0
        ends[distil] = last / first
    assert ends[3.0] < 0.8
    assert ends[3.0] < 0.7 * ends[1e-6]


def test_what_is_no_teacher_is_one_line(start: Start, model: Path, tmp_path: Path) -> None:
    two = cross_encoder(tmp_path / "two", outputs=2)
    broken = cross_encoder(tmp_path / "nan")
    weights_file = broken / "model.safetensors"
    tensors = load_file(weights_file)
    tensors["classifier.bias"].fill_(float("nan"))
    save_file(tensors, weights_file, {"format": "pt"})
    backbone = toy_backbone(tmp_path / "backbone")
    with pytest.raises(InputError, match="teacher t: its weight, distil, is 0; set it to 1 or so"):
        PairConfig(teacher="t")
    for name, line in (
        (str(two), "two: gives 2 values for a question and a document; name a cross-encoder"),
        (str(backbone), r"backbone: classifier\.\w+ is not in its files, so it gives no score"),
        (str(model), "model: cannot be loaded as a cross-encoder: "),
        ("./nowhere", "nowhere: no such folder, and not the name of a hub model"),
    ):
        with pytest.raises(ModelError, match=line):
            start("m", dataclasses.replace(SMALL, distil=1.0, teacher=name))
    spoilt = start("m", dataclasses.replace(SMALL, distil=1.0, teacher=str(broken)))
    with pytest.raises(ModelError, match="nan: gives NaN or infinity as a score; check"):
        spoilt.run()


def test_a_full_disk_is_one_line_and_resumes(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    config = dataclasses.replace(SMALL, rounds=1)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="the disk is full; make room and resume with --resume"):
        start("m", config).run()
    monkeypatch.undo()
    trainer = start("m", config, resume=True)
    trainer.on_step = lambda _progress: monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="the disk is full; the previous checkpoint is complete"):
        trainer.run()
    monkeypatch.undo()
    last = start("m", config, resume=True)
    last.write(last.run())
    assert (tmp_path / "m" / "model.safetensors").is_file()


def test_nan_is_one_line(start: Start) -> None:
    broken = start("a")
    broken.model.backbone._model.embeddings.word_embeddings.weight.data.fill_(float("nan"))
    with pytest.raises(
        ModelError, match=r"gives NaN or infinity for '.*' in float32; check its weights"
    ):
        broken.run()
    trainer = start("b")

    def spoil(progress: PairProgress) -> None:
        if progress.step == 2:
            trainer._save()
            trainer._objective.change.up.data.fill_(float("nan"))

    trainer.on_step = spoil
    with pytest.raises(ModelError, match=r"step 3: the loss is nan; try --dtype float32"):
        trainer.run()


def read(tmp_path: Path, rows: list[Any], batch: int = 2) -> Pairs:
    path = tmp_path / "some.jsonl"
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return Pairs.read([str(path)], batch=batch)


def good(n: int) -> list[dict[str, str]]:
    return [{"title": f"question {i}", "text": f"answer {i}"} for i in range(n)]


def test_pairs_that_teach_nothing_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Empty sides, the same text twice, thousands of answers, lines that are none."""
    many = [{"query": "Why?", "answer": f"since {i}"} for i in range(3000)]
    bad = [{"query": " ", "answer": "b"}, {"query": "a", "answer": ""},
           {"query": "the same", "answer": "The  SAME"}, good(1)[0], "{", {"query": "a"},
           {"query": 3, "answer": "b"}]  # fmt: skip
    pairs = read(tmp_path, [*good(30), *bad, *many])
    assert pairs.counts.left_out == {
        "invalid": 3, "with an empty side": 2, "with the same text on both sides": 1,
        "repeated": 1, f"beyond {MOST_ANSWERS} of a question": 3000 - MOST_ANSWERS,
    }  # fmt: skip
    assert len(pairs.every) == 30 + MOST_ANSWERS
    assert "some.jsonl" in caplog.text
    assert "line 35" in caplog.text
    assert "not JSON" in caplog.text
    trained = {pair.question for pair in pairs.every[: pairs.n_training]}
    assert trained.isdisjoint(pair.question for pair in pairs.every[pairs.n_training :])
    assert 0 < len(pairs.every) - pairs.n_training <= 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (good(40), "36 pairs to train on, fewer than a batch of 48; name more pairs"),
        ([{"query": "a", "answer": ""}], "0 pairs .*; 1 with an empty side; name more pairs"),
        ([], "0 pairs to train on, fewer than a batch of 48"),
    ],
)
def test_fewer_pairs_than_a_batch(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, rows, batch=48)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--from", "MODEL", "--pairs", "PAIRS", "--backbone", "x"], 2, "--backbone: the model"),
        (["--from", "MODEL", "--pairs", "PAIRS", "--latents", "8"], 2, "--latents: the model of"),
        (["--pairs", "PAIRS"], 2, "--pairs needs a model to start from: --from minilm-32k"),
        (["--from", "MODEL"], 2, "--from needs pairs: --pairs FILE"),
        (["--from", "MODEL", "--pairs", "none.jsonl"], 2, "none.jsonl: no such file"),
        (["--from", "nowhere/", "PAIRS"], 1, "no such model folder"),
        (["--from", "OTHER", "--pairs", "PAIRS"], 1, "use the backbone it was trained on"),
        (["--from", "MODEL", "PAIRS", "--rank", "0"], 2, "rank 0: must be at least 1"),
        (["--from", "MODEL", "PAIRS", "--teacher", "t/"], 2, "teacher t/: its weight, distil, is"),
        (
            ["--from", "MODEL", "PAIRS", "--teacher", "./t", "--distil", "1"],
            1,
            "./t: no such folder",
        ),
        (["--teacher", "t/", "PAIRS"], 2, "--teacher needs a model to start from"),
        ([], 2, "Missing argument 'SOURCES...'"),
    ],
)
def test_what_cannot_be_tuned_is_one_line(
    model: Path, file: Path, tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    other = tmp_path / "other"
    toy_model(other, toy_backbone(tmp_path / "backbone", seed=1))
    config = json.loads((other / "config.json").read_text())
    config["backbone_fingerprint"] = "0" * 16
    (other / "config.json").write_text(json.dumps(config))
    names = {"MODEL": str(model), "PAIRS": str(file), "OTHER": str(other)}
    done = CliRunner().invoke(cli, ["train", "--out", "m", *(names.get(a, a) for a in arguments)])
    assert done.exit_code == status
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not Path("m").exists()


def test_the_command_generates_pairs_and_tunes(model: Path, tmp_path: Path) -> None:
    """From a corpus to a model, as the documentation has it."""
    corpus = tmp_path / "corpus.jsonl"
    rows = [
        {"_id": str(i), "title": f"find the {i} trees", "text": f"words of {i} files " * 6}
        for i in range(40)
    ]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"text": "short"}]))
    done = CliRunner().invoke(cli, ["generate", "pairs", str(corpus), "--out", "p.jsonl", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "out": "p.jsonl", "documents": 41, "pairs": 40, "without": 1, "invalid": 0,
    }  # fmt: skip
    first = json.loads(Path("p.jsonl").read_text().splitlines()[0])
    assert first == {"question": "find the 0 trees", "document": ("words of 0 files " * 6).strip()}
    done = CliRunner().invoke(
        cli,
        [*("train", "--from", str(model), "--pairs", "p.jsonl", "--out", "m", "--batch", "12"),
         *("--rounds", "1", "--dtype", "float32", "--json"),
         *("--teacher", str(cross_encoder(tmp_path / "teacher")), "--distil", "1")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["pairs"], report["held_out"], report["steps"]) == (36, 4, 3)
    assert report["before"]["mrr"] > 0
    assert "encode documents again" in done.stderr
    card = Path("m/README.md").read_text()
    assert "`latent-ingest train --from" in card
    assert "teacher teacher, " in card
    assert str(tmp_path) not in card
    assert LatentEncoder.load("m", device="cpu").fingerprint.digest == report["fingerprint"]


LONG = "It says much more about that, in a sentence that is long enough to be worth a pair, and on."


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"title": "A good title", "text": LONG}, [("A good title", LONG)]),
        ({"title": "A good title", "text": f"A good title {LONG}"}, [("A good title", LONG)]),
        ({"text": f"The first one. {LONG}"}, [("The first one.", LONG)]),
        ({"text": f"Mr. A. Smith found 3.5 of them. {LONG}"},
         [("Mr. A. Smith found 3.5 of them.", LONG)]),
        ({"text": f"# First part\n{LONG}\n\nSecond part\n===========\n{LONG}\n"},
         [("First part", LONG), ("Second part", LONG)]),
        ({"title": "A good title", "text": "Too short."}, []),
        ({"text": LONG}, []),
    ],
)  # fmt: skip
def test_pairs_of_a_document(fields: dict[str, str], expected: list[tuple[str, str]]) -> None:
    assert [(pair.question, pair.document) for pair in pairs_of(fields)] == expected


def test_a_change_starts_at_nothing(model: Path) -> None:
    frozen = TokenAutoencoder.load(model)
    change = EncoderChange(frozen, 4, 0)
    for name, tensor in change.folded(frozen).state_dict().items():
        assert torch.equal(tensor, frozen.state_dict()[name])
