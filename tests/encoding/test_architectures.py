"""Every architecture of `ARCHITECTURES`: embeddings, spans, prompts, windows, training, loading."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from architectures import ARCHITECTURES, SAMPLE, SMALL, WINDOW, wordpiece, write_backbone
from click.testing import CliRunner
from sentence_transformers.base.modules import Dense
from tokenizers.decoders import ByteLevel

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding import windows
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import ModelError

# Short enough for one window of any tokenizer, with a prompt.
SHORT = ["a fall", "", "x", " does it", "知道", "น้ำ", "سقوط", "ﬁve", "e\u0301"]
LONG = {name: text * 4 for name, text in SAMPLE.items()}


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("m") / request.param, request.param)


@pytest.fixture(scope="module")
def retriever(folder: Path) -> Backbone:
    return Backbone.load(str(folder), device="cpu", dtype="float32")


def windows_in(
    retriever: Backbone, texts: list[str], kind: str, long: str = "pool"
) -> dict[int, list[tuple[torch.Tensor, list[list[int]]]]]:
    """Position of a text → its windows, in order: token embeddings and spans of counted tokens."""
    found: dict[int, list[tuple[torch.Tensor, list[list[int]]]]] = {}
    starts: dict[int, list[int]] = {}
    for batch in retriever.embed(texts, kind=kind, long=long):
        for place, position in enumerate(batch.positions):
            start, end = batch.cu_seq_lens[place : place + 2].tolist()
            row = batch.hidden[start:end], batch.spans[start:end].tolist()
            found.setdefault(position, []).append(row)
            starts.setdefault(position, []).append(int(batch.characters[place, 0]))
    return {
        position: [rows[place] for place in np.argsort(starts[position], kind="stable")]
        for position, rows in found.items()
    }


def plainly(retriever: Backbone, window: windows.Window) -> torch.Tensor:
    """Embeddings of a window's counted tokens by transformers called directly, without padding."""
    tokens = window.tokens
    ids = [*tokens.before, *tokens.ids[window.start : window.end], *tokens.after]
    with torch.inference_mode():
        states = retriever._model(input_ids=torch.tensor([ids])).last_hidden_state
        hidden: torch.Tensor = retriever._projection(states)[0]
    shift = len(tokens.before) - window.start
    return hidden[window.first + shift : window.last + shift]


@pytest.mark.parametrize("kind", ["query", "document"])
def test_embeddings_in_a_batch_are_those_of_each_window_alone(
    retriever: Backbone, kind: str
) -> None:
    """To 1e-4: whatever stands beside a text, and however long the padding is."""
    texts = [*SHORT, *LONG.values()]
    found = windows_in(retriever, texts, kind)
    cut = windows.windows_of(
        retriever._tokenizer,
        texts,
        prompt=retriever.prompts.get(kind, ""),
        max_tokens=retriever.max_tokens,
        long="pool",
    )
    assert len(cut) > 3 * len(texts)
    for position in range(len(texts)):
        expected = [plainly(retriever, window) for window in cut if window.position == position]
        assert len(expected) == len(found[position])
        for plain, (hidden, _) in zip(expected, found[position], strict=True):
            assert torch.allclose(hidden, plain, atol=1e-4), texts[position]


def bare(text: str) -> str:
    """Letters as all tokenizers leave them: compatible forms, lower case, no marks, no spaces."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    left_out = ("Mn", "Mc", "Me", "Cf")
    return "".join(c for c in plain if unicodedata.category(c) not in left_out and not c.isspace())


def letters_of(retriever: Backbone, id_: int) -> str:
    """The letters of a token; none for an unknown one or one that is a part of a letter."""
    tokenizer = retriever._tokenizer
    token = tokenizer.convert_ids_to_tokens(id_)
    if token in tokenizer.all_special_tokens or re.fullmatch("<0x..>", token):
        return ""
    if "Ġ" in tokenizer.get_vocab():
        token = ByteLevel().decode([token])
    return "" if "\ufffd" in token else bare(token.removeprefix("##").replace("▁", ""))


def test_spans_are_the_characters_of_each_token(retriever: Backbone) -> None:
    """In order, within the text, with the token's letters, and no letter without a token."""
    checked = 0
    for text in [*SHORT, *LONG.values()]:
        (tokens,) = windows.tokenize(retriever._tokenizer, [text], "")
        spans = [
            span for _, of_one in windows_in(retriever, [text], "document")[0] for span in of_one
        ]
        assert spans == tokens.spans.tolist()  # each token once, in order
        assert all(0 <= start <= end <= len(text) for start, end in spans)
        assert [start for start, _ in spans] == sorted(start for start, _ in spans)
        covered = {at for start, end in spans for at in range(start, end)}
        assert not [at for at, letter in enumerate(text) if bare(letter) and at not in covered]
        for id_, (start, end) in zip(tokens.ids.tolist(), spans, strict=True):
            letters = letters_of(retriever, id_)
            assert letters in bare(text[start:end]), (text, letters)
            checked += bool(letters)
    assert checked > 200


def test_a_prompt_is_attended_to_and_not_counted(folder: Path) -> None:
    """The same tokens with and without a prompt, with other embeddings."""
    settings = folder / "config_sentence_transformers.json"
    before = settings.read_text()
    found = {}
    try:
        for prompt in ("", "a find: "):
            settings.write_text(json.dumps({"prompts": {"query": prompt}}))
            retriever = Backbone.load(str(folder), device="cpu", dtype="float32")
            ((found[prompt],),) = windows_in(retriever, ["does it fall"], "query").values()
    finally:
        settings.write_text(before)
    (plain, spans), (prompted, same) = found.values()
    assert spans[-1] == same[-1]
    covered = {at for start, end in same for at in range(start, end)}
    assert bare("".join("does it fall"[at] for at in sorted(covered))) == "doesitfall"
    assert not torch.allclose(prompted[-1], plain[-1], atol=1e-3)


def test_a_long_text_fills_the_window_and_goes_no_further(retriever: Backbone) -> None:
    """RoBERTa, XLM-R and MPNet have two rows of positions more than tokens."""
    assert retriever.max_tokens == WINDOW
    text = LONG["english"]
    ((row,),) = windows_in(retriever, [text], "document", "truncate").values()
    (tokens,) = windows.tokenize(
        retriever._tokenizer, [text], retriever.prompts.get("document", "")
    )
    assert len(row[0]) + len(tokens.before) + len(tokens.after) == WINDOW
    rows = windows_in(retriever, [text], "document")[0]
    assert len(rows) > 2
    assert sum(len(hidden) for hidden, _ in rows) == len(tokens.ids)


def test_a_trained_model_is_loaded_and_encodes(folder: Path, tmp_path: Path) -> None:
    """By the command; documents and questions alike, alone and together."""
    texts = tmp_path / "texts.jsonl"
    texts.write_text(
        "".join(json.dumps({"text": f"{n} {t}"}) + "\n" for n in range(12) for t in SAMPLE.values())
    )
    done = CliRunner().invoke(cli, [
        "train", str(texts), "--backbone", str(folder), "--out", "model", "--latents", "64",
        "--k", "4", "--tokens", "2000", "--batch", "500", "--dtype", "float32", "--device", "cpu",
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    encoder = LatentEncoder.load("model", device="cpu", dtype="float32")
    assert encoder.backbone.d_in == (8 if ARCHITECTURES[folder.name].projected else 32)
    for kind in ("document", "query"):
        together = encoder.encode(list(LONG.values()), kind=kind)
        assert together.finite.all()
        for position, text in enumerate(LONG.values()):
            alone = encoder.encode([text], kind=kind)[0]
            indices, values = together[position]
            assert np.array_equal(indices, alone[0])
            assert np.allclose(values, alone[1], atol=1e-3)


OTHERS = {
    "ALBERT": (transformers.AlbertConfig, {"embedding_size": 16}),
    "CamemBERT": (transformers.CamembertConfig, {"max_position_embeddings": WINDOW + 2}),
    "EuroBERT": (transformers.EuroBertConfig, {"num_key_value_heads": 1}),
    "Longformer": (
        transformers.LongformerConfig,
        {"max_position_embeddings": WINDOW + 2, "attention_window": 8},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(OTHERS))
def test_other_encoders_load_in_the_same_way(name: str, tmp_path: Path, root: Path) -> None:
    kind, settings = OTHERS[name]
    config = kind(**{**SMALL, "vocab_size": 400, "pad_token_id": 1, **settings})
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "m")
    wordpiece(mpnet=True).save_pretrained(tmp_path / "m")
    retriever = Backbone.load(str(tmp_path / "m"), device="cpu", dtype="float32")
    assert retriever.max_tokens == WINDOW
    rows = windows_in(retriever, list(LONG.values()), "document")
    assert all(len(of_one) > 1 for of_one in rows.values())
    assert name in (root / "docs" / "backbones.md").read_text()


@pytest.mark.parametrize("name", ["RoBERTa", "Qwen3-Embedding"])
def test_a_tokenizer_may_have_no_token_for_padding(name: str, tmp_path: Path) -> None:
    folder = write_backbone(tmp_path / "m", name)
    whole = Backbone.load(str(folder), device="cpu", dtype="float32")
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    del settings["pad_token"]
    file.write_text(json.dumps({**settings, "tokenizer_class": "PreTrainedTokenizerFast"}))
    config = json.loads((folder / "config.json").read_text())
    config["pad_token_id"] = 1 if name == "RoBERTa" else None
    (folder / "config.json").write_text(json.dumps(config))
    without = Backbone.load(str(folder), device="cpu", dtype="float32")
    assert without._tokenizer.pad_token is None
    texts = [*SHORT, *LONG.values()]
    ours, theirs = (windows_in(each, texts, "document") for each in (without, whole))
    for position, rows in theirs.items():
        for (hidden, _), (other, _) in zip(rows, ours[position], strict=True):
            assert torch.allclose(hidden, other, atol=1e-4)


REFUSED = {
    "encoder-decoders": "not an encoder but t5",
    "language models": "not an encoder but qwen3",
    "code of its own": "it needs code of its own, which is never run",
    "FNet": "fnet gives other embeddings beside padding",
    "CANINE": "has no fast tokenizer",
    "weights missing": "weights of nomic_bert are not in its files, such as layers.0.mlp",
    "other shapes": "the shapes of its weights do not fit its config.json",
    "other modules": "its Dense module takes 16 dimensions, but token embeddings have 32",
}  # fmt: skip


def refused(folder: Path, name: str) -> Path:
    """Write a backbone of a kind that `REFUSED` names."""
    small = {**SMALL, "vocab_size": 400}
    if name == "encoder-decoders":
        folder.mkdir()
        (folder / "config.json").write_text('{"model_type": "t5"}')
        return folder
    if name in ("FNet", "CANINE"):
        kind = {"FNet": transformers.FNetConfig, "CANINE": transformers.CanineConfig}[name]
        transformers.AutoModel.from_config(kind(**small)).save_pretrained(folder)
        tokenizer = wordpiece() if name == "FNet" else transformers.CanineTokenizer()
        tokenizer.save_pretrained(folder)
        return folder
    write_backbone(folder, "Qwen3-Embedding" if name == "language models" else "BERT")
    config = json.loads((folder / "config.json").read_text())
    if name == "language models":
        (folder / "modules.json").unlink()
    elif name == "code of its own":
        config |= {"model_type": "new", "auto_map": {"AutoConfig": "x.C", "AutoModel": "x.M"}}
        (folder / "x.py").write_text("raise SystemExit('run')")
    elif name == "weights missing":
        config["model_type"] = "nomic_bert"
    elif name == "other shapes":
        config["hidden_size"] = 64
    else:
        (folder / "1_Dense").mkdir()
        Dense(16, 8, module_input_name="token_embeddings").save(str(folder / "1_Dense"))
        modules = json.loads((folder / "modules.json").read_text())
        modules.insert(
            1, {"idx": 1, "path": "1_Dense", "type": "sentence_transformers.models.Dense"}
        )
        (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_gives_no_token_embeddings_is_refused_in_one_line(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = refused(tmp_path / "m", name)
    capfd.readouterr()
    with pytest.raises(ModelError, match=re.escape(REFUSED[name])) as raised:
        Backbone.load(str(folder), device="cpu", dtype="float32")
    assert str(raised.value).startswith(f"{folder}: ")
    assert "\n" not in str(raised.value)
    assert "; use" in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_a_causal_model_sees_what_is_before(tmp_path: Path) -> None:
    """As its folder says that it is an embedding model, it is taken."""
    folder = write_backbone(tmp_path / "m", "Qwen3-Embedding")
    retriever = Backbone.load(str(folder), device="cpu", dtype="float32")
    one, other = (
        windows_in(retriever, [text], "document")[0][0][0] for text in ("a fall", "a fall does")
    )
    assert torch.allclose(one, other[: len(one)], atol=1e-5)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling_qwen.Qwen2Model"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="its qwen3 needs code of its own"):
        Backbone.load(str(folder))
    config["is_causal"] = False  # transformers has that form, too
    (folder / "config.json").write_text(json.dumps(config))
    retriever = Backbone.load(str(folder), device="cpu", dtype="float32")
    both = windows_in(retriever, ["a fall does"], "document")[0][0][0]
    assert not torch.allclose(both[: len(one)], one, atol=1e-3)


@pytest.mark.parametrize("name", ["ModernBERT", "Qwen3-Embedding", "NomicBERT"])
def test_text_vectors_are_those_of_sentence_transformers(name: str, tmp_path: Path) -> None:
    """With pooling by the first token, the last one and the mean, and with prompts."""
    from sentence_transformers import SentenceTransformer

    folder = write_backbone(tmp_path / "m", name)
    theirs = SentenceTransformer(str(folder), device="cpu")
    retriever = Backbone.load(str(folder), device="cpu", dtype="float32")
    texts = ["a fall", "does it prevent", "x"]
    for kind in ("query", "document"):
        prompt = ARCHITECTURES[name].prompts.get(kind, "")
        vectors = theirs.encode(
            texts, prompt=prompt, convert_to_tensor=True, normalize_embeddings=True
        )
        assert torch.allclose(retriever.text_vectors(texts, kind=kind), vectors, atol=1e-4)


def test_the_mark_of_a_late_interaction_model_is_one_token(tmp_path: Path) -> None:
    """As in training, where the token's id was put in; its text would be taken apart."""
    folder = write_backbone(tmp_path / "m", "BERT")
    vocabulary = json.loads((folder / "tokenizer.json").read_text())
    ids = vocabulary["model"]["vocab"]
    ids["[unused0]"] = ids.pop(max(ids, key=ids.get))
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary))
    settings = {"prompts": {}, "query_prefix": "[unused0]", "document_prefix": "[D] "}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    retriever = Backbone.load(str(folder), device="cpu", dtype="float32")
    assert retriever.prompts == {"query": "[unused0]", "document": "[D] "}
    (tokens,) = windows.tokenize(retriever._tokenizer, ["fall"], "[unused0]")
    assert tokens.before.tolist()[1:] == [ids["[unused0]"]]
    assert len(tokens.before) == 2


def test_the_docs_name_what_works_and_what_is_refused(root: Path) -> None:
    """The tables of docs/backbones.md are those of these tests, in order."""
    page = (root / "docs" / "backbones.md").read_text()
    works, fails = (
        [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")][1:]
        for part in (
            page.split("## What works")[1].split("## What is refused")[0],
            page.split("## What is refused")[1].split("## Languages")[0],
        )
    )
    assert [row[0] for row in works] == list(ARCHITECTURES)
    assert {row[0]: row[1] for row in fails} == REFUSED
