"""A survey as one HTML page that needs no network: search, passages, neighbours, a rank plot."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Template
from markupsafe import Markup

from latent_ingest.connector.inspection.contexts import CONTEXTS
from latent_ingest.connector.inspection.labelling import Labelling
from latent_ingest.connector.inspection.survey import Survey
from latent_ingest.connector.inspection.vocabulary import Frequencies

# Heaviest words of a latent on the page, besides those of its label.
WORDS = 5

# Most characters of the data; beyond it passages are left out, second ones before first ones, and
# those of rare latents before those of frequent ones. Browsers open a page of this size at once.
MOST_CHARACTERS = 9_000_000

# Points of a curve.
POINTS = 120

# Shares are written per mille.
PER_MILLE = 1000


def page(
    survey: Survey,
    labelling: Labelling,
    *,
    title: str,
    figures: list[list[str]],
    near: dict[int, list[int]],
    near_by: str,
) -> str:
    """Return the page of a survey and its labels.

    `title` names the model and the sample; `figures` are the rows of the table of statistics, the
    column names first; `near` has the neighbours of latents and `near_by` says how they were found.
    """
    vocabulary: dict[str, int] = {}
    alive = survey.alive.tolist()
    rows = [row(survey, labelling, latent, near.get(latent, []), vocabulary) for latent in alive]
    content = {
        "title": title,
        "figures": figures,
        "texts": survey.n_texts,
        "near_by": near_by,
        "curves": curves(survey),
        "words": list(vocabulary),
        "latents": rows,
    }
    add_passages(rows, survey, MOST_CHARACTERS - len(written(content)))
    source = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    html: str = Template(source, autoescape=True).render(title=title, data=Markup(written(content)))
    return html


def row(
    survey: Survey, labelling: Labelling, latent: int, near: list[int], vocabulary: dict[str, int]
) -> list[Any]:
    """A latent as [number, texts, label, [word, share] pairs, passages, neighbours]."""
    heaviest = labelling.words(latent, WORDS)
    shown = heaviest + [word for word in labelling.label_words(latent) if word not in heaviest]
    words = [
        [vocabulary.setdefault(heavy.word, len(vocabulary)), round(PER_MILLE * heavy.share)]
        for heavy in shown
    ]
    frequency = int(survey.document_frequency[latent])
    return [latent, frequency, labelling.label(latent), words, [], near]


def add_passages(rows: list[list[Any]], survey: Survey, room: int) -> None:
    """Add passages to latents until `room` characters are used.

    The first passages of all latents come before the second of any.
    """
    for place in range(CONTEXTS):
        for latent, _, _, _, passages, _ in rows:
            for context in survey.contexts.of(latent)[place : place + 1]:
                passage = [context.text, *(at for mark in context.marks for at in mark)]
                room -= len(written(passage)) + bool(passages)
                if room < 0:
                    return
                passages.append(passage)


def written(content: Any) -> str:
    """JSON for a script in HTML, which must not contain "</script"."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def curves(survey: Survey) -> dict[str, list[list[int]]]:
    """Ranks evenly spaced in the logarithm, and their document frequencies."""
    counts: dict[str, Iterable[int]] = {
        "latents": survey.document_frequency,
        "words": survey.text_frequency.values(),
    }
    found = {}
    for name, some in counts.items():
        ordered = Frequencies.of(some).counts
        ranks = np.unique(np.geomspace(1, max(len(ordered), 1), POINTS).round().astype(int))
        found[name] = [[int(rank), int(ordered[rank - 1])] for rank in ranks[: len(ordered)]]
    return found
