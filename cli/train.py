"""latent-ingest train: an autoencoder for a backbone."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latent_ingest.cli.options import (
    TokenCount,
    comma_list,
    compute_options,
    progress_bar,
    stopping,
    warn,
)

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.backbone import Backbone
    from latent_ingest.connector.training.probe import Probe


@click.command(
    epilog="""\b
Examples:
  latent-ingest train texts.jsonl.gz --out my-model/
  latent-ingest train wiki/ support.jsonl=3 --tokens 20M --probe nfcorpus/ --out my-model/
  latent-ingest train wiki/ --cache cache/ --latents 32768 --out larger/
  latent-ingest train wiki/ --out my-model/ --resume
  torchrun --nproc-per-node 4 --no-python latent-ingest train wiki/ --batch 32K --out my-model/
"""
)
@click.argument("sources", nargs=-1, required=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option(
    "--backbone",
    default=None,
    help="Hub name or folder of the retriever.  [default: all-MiniLM-L6-v2]",
)
@click.option("--latents", default=16384, show_default=True, help="Size of the vocabulary.")
@click.option("--k", default=16, show_default=True, help="Latents kept for each token.")
@click.option(
    "--tokens",
    type=TokenCount(),
    default="3M",
    show_default=True,
    help="Tokens to train on; K and M are understood.",
)
@click.option(
    "--activation",
    type=click.Choice(["topk", "batchtopk", "jumprelu"]),
    default="topk",
    show_default=True,
    help="What fires: k a token, k a token on average, or what passes a learned threshold.",
)
@click.option("--multi-k", is_flag=True, help="Reconstruct from 4k latents too.")
@click.option("--batch", default=4096, show_default=True, type=TokenCount(), help="Tokens a step.")
@click.option("--learning-rate", default=1e-3, show_default=True, help="Peak learning rate.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--text-fields", default="title,text", show_default=True, help="Fields that are read, by comma."
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the token embeddings in this folder (2 bytes a dimension and token), for several "
    "rounds or several runs.",
)
@click.option(
    "--probe",
    "probe_folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Ask a small BEIR-format collection for nDCG@10 eight times in the run.",
)
@click.option("--split", default="test", show_default=True, help="Which of the probe's qrels.")
@click.option("--resume", is_flag=True, help="Go on with the interrupted run of --out.")
@click.option("--keep-decoder", is_flag=True, help="Write the decoder too (twice the size).")
@click.option("--licence", default="", help="Of the texts, for the card.")
@compute_options
@click.option("--json", "as_json", is_flag=True, help="Print the report as one object.")
@click.pass_context
def train(
    ctx: click.Context,
    sources: tuple[str, ...],
    out: Path,
    backbone: str | None,
    latents: int,
    k: int,
    tokens: int,
    activation: str,
    multi_k: bool,
    batch: int,
    learning_rate: float,
    seed: int,
    text_fields: str,
    cache: Path | None,
    probe_folder: Path | None,
    split: str,
    resume: bool,
    keep_decoder: bool,
    licence: str,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Train a sparse autoencoder on the texts of SOURCES.

    A source is a file (JSONL, a text a line in .txt, Parquet; .gz and .zst are read), a folder of
    such files, or - for standard input. Texts are shuffled, each is used once a round, and long
    ones are read in all their windows; FILE=3 draws from a file three times as often as its size
    would have it, which matters where --tokens end before the texts do. The backbone stays frozen.
    OUT then works as --model of every command.

    Ctrl-C writes a checkpoint, as the run does every three minutes; --resume goes on from there
    with the same settings, of which only --learning-rate and --dtype may be others.
    Under torchrun each process takes a device and its share of every batch.
    """
    from latent_ingest.connector.encoding.backbone import (
        DEFAULT_BACKBONE,
        Backbone,
        pick_device,
    )
    from latent_ingest.connector.training.config import TrainingConfig
    from latent_ingest.connector.training.metrics import TrainingProgress
    from latent_ingest.connector.training.processes import Processes
    from latent_ingest.connector.training.texts import TrainingTexts, find_sources
    from latent_ingest.connector.training.trainer import Trainer, check_place

    config = TrainingConfig(
        n_latents=latents,
        k=k,
        tokens=tokens,
        activation=activation,
        multi_k=multi_k,
        batch_tokens=batch,
        learning_rate=learning_rate,
        seed=seed,
    )
    check_place(out, resume=resume)
    spool = ctx.with_resource(tempfile.TemporaryDirectory(prefix="latent-ingest-train-"))
    processes = Processes.join(pick_device(device))
    ctx.call_on_close(processes.leave)
    texts = TrainingTexts(
        find_sources(sources, Path(spool)),
        text_fields=comma_list(text_fields),
        seed=seed,
        warn=warn if processes.first else lambda line: None,
    )
    retriever = Backbone.load(backbone or DEFAULT_BACKBONE, device=device, dtype=dtype)
    with progress_bar(
        total=tokens,
        unit="tok",
        unit_scale=True,
        disable=not processes.first,
    ) as bar:

        def show(progress: TrainingProgress) -> None:
            probed = f", nDCG@10 {progress.probe:.4f}" if progress.probe is not None else ""
            if bar.desc != "training":
                # Time left is reckoned from here on, of what this part of the run does.
                bar.reset()
                bar.initial = bar.n = max(0, progress.tokens - batch)
            bar.set_description_str("training", refresh=False)
            bar.set_postfix_str(
                f"step {progress.step}, nmse {progress.normalized_mse:.3f}, "
                f"dead {progress.dead}{probed}",
                refresh=False,
            )
            bar.update(progress.tokens - bar.n)
            if probed:
                warn(f"{progress.tokens:,} tokens{probed}")

        def show_cache(held: int) -> None:
            bar.set_description_str("embedding", refresh=False)
            bar.update(min(held, tokens) - bar.n)

        trainer = Trainer(
            retriever,
            texts,
            out,
            config,
            cache=cache,
            resume=resume,
            processes=processes,
            on_step=show,
            on_cache=show_cache,
            warn=warn,
        )
        if probe_folder and processes.first:
            trainer.probe = load_probe(probe_folder, split, retriever)
        with stopping(trainer.stop):
            report = trainer.run()
    if not processes.first:
        return
    command = " ".join(["latent-ingest", *map(shorten, ctx.meta["arguments"])])
    trainer.write(report, command=command, licence=licence, keep_decoder=keep_decoder)
    if as_json:
        click.echo(json.dumps({"out": str(out), **asdict(report)}))
        return
    click.echo(
        f"{out}: {report.tokens:,} tokens in {report.seconds:,.0f} s, normalised MSE "
        f"{report.normalized_mse:.3f} on held-out tokens, "
        f"{report.dead:,} of {latents:,} latents dead"
    )
    if report.skipped_lines or report.duplicate_texts:
        click.echo(
            f"left out: {report.skipped_lines:,} lines without text, "
            f"{report.duplicate_texts:,} texts that were there before",
            err=True,
        )


def load_probe(folder: Path, split: str, backbone: Backbone) -> Probe:
    """The probe, with progress while its documents are embedded."""
    from latent_ingest.connector.collections.collection import Collection
    from latent_ingest.connector.training.probe import Probe

    collection = Collection.load(folder, split)
    total = len(collection.queries) + sum(1 for _ in collection.documents())
    with progress_bar(total=total, unit="text", desc=f"embedding {collection.name}") as bar:

        def show(done: int) -> None:
            bar.update(done)

        return Probe(collection, backbone, show)


def shorten(argument: str) -> str:
    """A path as its name alone, so that a card shows no folder of the machine."""
    path = Path(argument)
    return path.name if "/" in argument and path.parent.is_dir() else argument
