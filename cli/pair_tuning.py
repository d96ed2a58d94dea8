"""`latent-ingest train --from`: learning from pairs of texts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from latent_ingest.cli import output
from latent_ingest.connector.errors import InputError

# Options of `train` that concern the training of a new autoencoder alone, by parameter.
OF_NEW_MODELS = {
    "backbone": "--backbone",
    "n_latents": "--latents",
    "k": "--k",
    "tokens": "--tokens",
    "activation": "--activation",
    "multi_k": "--multi-k",
    "text_fields": "--text-fields",
    "input_format": "--input-format",
    "renamed": "--map",
    "values": "--set",
    "drop": "--drop",
    "sample": "--sample",
    "delimiter": "--delimiter",
    "no_quotes": "--no-quotes",
    "encoding": "--encoding",
    "header": "--header",
    "json_fields": "--json-fields",
    "probe_folder": "--probe",
    "split": "--split",
    "keep_decoder": "--keep-decoder",
    "int8": "--int8",
}

# Those that concern pairs alone.
OF_PAIRS = {
    "pairs": "--pairs",
    "words": "--words",
    "negatives": "--negatives",
    "rounds": "--rounds",
    "rank": "--rank",
    "anchor": "--anchor",
    "cost": "--cost",
    "distil": "--distil",
    "teacher": "--teacher",
}


def check_options(ctx: click.Context, *, from_model: bool) -> None:
    """Raise InputError for options of the other way to train."""
    given = [
        name
        for name in (OF_NEW_MODELS if from_model else OF_PAIRS)
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given and from_model:
        raise InputError(
            f"{OF_NEW_MODELS[given[0]]}: the model of --from has its own, and pairs are not "
            f"trained on as texts are; omit it"
        )
    if given:
        raise InputError(f"{OF_PAIRS[given[0]]} needs a model to start from: --from minilm-32k")


def tune_on_pairs(
    ctx: click.Context,
    files: Sequence[str],
    out: Path,
    model: str,
    *,
    cache: Path | None,
    resume: bool,
    licence: str,
    device: str,
    dtype: str,
    as_json: bool,
    **settings: Any,
) -> None:
    """Tune a model on pairs, as `train --from` does."""
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.training.pairs.config import PairConfig
    from latent_ingest.connector.training.pairs.measures import PairProgress, better
    from latent_ingest.connector.training.pairs.reading import Pairs
    from latent_ingest.connector.training.pairs.trainer import PairTrainer
    from latent_ingest.connector.training.trainer import check_place

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("--from: pairs are tuned on in one process; omit torchrun")
    if not files:
        raise InputError("--from needs pairs: --pairs FILE")
    config = PairConfig(**settings)
    check_place(out, resume=resume)
    pairs = Pairs.read(files, batch=config.batch, seed=config.seed)
    with output.announced("loading the model"):
        encoder = LatentEncoder.load(model, device=device, dtype=dtype)
    total = config.steps(pairs.n_training)
    with output.progress_bar(total=2 * len(pairs.every), unit=" texts", desc="embedding") as bar:
        trainer = PairTrainer(encoder, pairs, out, config, cache=cache, resume=resume)

        def show_embedded(texts: int) -> None:
            bar.update(texts)

        def show(progress: PairProgress) -> None:
            if bar.desc != "tuning":
                bar.reset(total=total)
                bar.unit, bar.initial = " steps", progress.step - 1
                bar.n = progress.step - 1
                bar.set_description_str("tuning", refresh=False)
            taught = f", teacher {progress.taught:.3f}" if config.distil else ""
            bar.set_postfix_str(
                f"contrast {progress.contrast:.3f}, cost {progress.cost:.2f}{taught}", refresh=False
            )
            bar.update(progress.step - bar.n)

        trainer.on_embedded, trainer.on_step = show_embedded, show
        with output.stopping(trainer.stop):
            report = trainer.run()
    command = " ".join(["latent-ingest", *map(shorten, ctx.meta["arguments"])])
    report = trainer.write(report, command=command, licence=licence)
    if as_json:
        output.print_json({"out": str(out), **asdict(report)})
    else:
        before, after = report.before, report.after
        click.echo(
            f"{out}: {report.pairs:,} pairs in {report.seconds:,.0f} s; of {report.held_out:,} "
            f"held-out questions the mean reciprocal rank went from {before.mrr:.3f} to "
            f"{after.mrr:.3f}, their postings per document from {before.postings:.1f} to "
            f"{after.postings:.1f}"
        )
    if report.left_out:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in report.left_out.items())
        output.warn(f"left out: pairs {reasons}")
    if not better(report):
        output.warn(
            "held-out questions find their documents less well than before; keep the old model"
        )
    output.warn("the model has a new fingerprint: encode documents again with it")


def shorten(argument: str) -> str:
    """A path as its last part, so that a model card shows no folder of this machine."""
    path = Path(argument)
    return path.name if "/" in argument and path.parent.is_dir() else argument
