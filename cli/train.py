"""latent-ingest train: an autoencoder for a backbone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from latent_ingest.cli.options import TokenCount, comma_list, compute_options, progress_bar
from latent_ingest.connector.corpus import CorpusFile


@click.command(
    epilog="""\b
Examples:
  latent-ingest train texts.jsonl.gz --out my-model/
  latent-ingest train a.jsonl b.jsonl --tokens 8M --latents 16384 --out my-model/
"""
)
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
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
@click.option("--learning-rate", default=1e-3, show_default=True, help="Peak learning rate.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--text-fields", default="title,text", show_default=True, help="Fields that are read, by comma."
)
@click.option("--keep-decoder", is_flag=True, help="Write the decoder too (twice the size).")
@compute_options
@click.option("--json", "as_json", is_flag=True, help="Print the report as one object.")
@click.pass_context
def train(
    ctx: click.Context,
    files: tuple[Path, ...],
    out: Path,
    backbone: str | None,
    latents: int,
    k: int,
    tokens: int,
    learning_rate: float,
    seed: int,
    text_fields: str,
    keep_decoder: bool,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Train a sparse autoencoder on the texts of FILES (JSONL, plain or .gz).

    Texts are drawn from the files in turn; the backbone stays frozen. OUT then works as --model
    of every command.
    """
    from latent_ingest.connector.encoding.backbone import DEFAULT_BACKBONE, Backbone
    from latent_ingest.connector.training.texts import TrainingTexts
    from latent_ingest.connector.training.trainer import TrainingConfig, TrainingProgress
    from latent_ingest.connector.training.trainer import train as run

    for file in files:
        with CorpusFile(file):
            pass
    config = TrainingConfig(
        n_latents=latents, k=k, tokens=tokens, learning_rate=learning_rate, seed=seed
    )
    retriever = Backbone.load(backbone or DEFAULT_BACKBONE, device=device, dtype=dtype)
    with progress_bar(total=tokens, unit="tok", unit_scale=True, desc="training") as bar:

        def show(progress: TrainingProgress) -> None:
            bar.set_postfix_str(
                f"step {progress.step}, nmse {progress.normalized_mse:.3f}, dead {progress.dead}",
                refresh=False,
            )
            bar.update(progress.tokens - bar.n)

        report = run(
            retriever,
            TrainingTexts(files, text_fields=comma_list(text_fields)),
            out,
            config,
            command=" ".join(["latent-ingest", *map(shorten, ctx.meta["arguments"])]),
            keep_decoder=keep_decoder,
            on_step=show,
        )
    if as_json:
        click.echo(json.dumps({"out": str(out), **asdict(report)}))
        return
    click.echo(
        f"{out}: {report.tokens:,} tokens in {report.seconds:,.0f} s, normalised MSE "
        f"{report.normalized_mse:.3f} on held-out tokens, "
        f"{report.dead:,} of {latents:,} latents dead"
    )
    if report.skipped_lines:
        click.echo(f"{report.skipped_lines:,} lines had no text and were skipped", err=True)


def shorten(argument: str) -> str:
    """A path as its name alone, so that a card shows no folder of the machine."""
    path = Path(argument)
    return path.name if "/" in argument and path.parent.is_dir() else argument
