"""The mapping files, and the code that fills them in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latent_ingest.mappings import MappingConfig, index_body


@pytest.mark.parametrize("spelling", ["repeat", "delimited"])
def test_the_defaults_are_what_the_file_says(root: Path, spelling: str) -> None:
    """Whoever PUTs the file by hand gets the same index, except for `_meta`."""
    body = index_body(MappingConfig(spelling), {"model": "m"})
    assert body["mappings"].pop("_meta") == {"latent_ingest": {"model": "m"}}
    assert body == json.loads((root / "mappings" / f"{spelling}.json").read_text())


def test_every_setting_reaches_the_body() -> None:
    config = MappingConfig(
        scale=4.0, latent_field="lt", text_fields=("body",), analyzer="german", lean=True
    )
    body = index_body(config, {})
    properties = body["mappings"]["properties"]
    assert body["settings"]["index"]["similarity"]["latent_bm25"]["k1"] == 8.0
    assert set(properties) == {"lt", "lt_hash", "words", "body"}
    assert properties["lt"]["similarity"] == "latent_bm25"
    assert properties["body"] == {"type": "text", "analyzer": "german", "copy_to": "words"}
    assert properties["words"]["analyzer"] == "german"
    assert body["mappings"]["_source"] == {"excludes": ["lt"]}


@pytest.mark.parametrize(
    "settings",
    [
        {"latent_field": "text"},
        {"latent_field": "words"},
        {"text_fields": ("words",)},
        {"text_fields": ("latent_hash",)},
        {"scale": 0.0},
        {"scale": -1.0},
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"used twice|must be above 0"):
        MappingConfig(**settings)  # type: ignore[arg-type]
