"""latent-ingest train: train an autoencoder for a backbone."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latent_ingest.cli import options, output, values
from latent_ingest.cli.pair_tuning import check_options, shorten, tune_on_pairs

if TYPE_CHECKING:
    from tqdm import tqdm

    from latent_ingest.connector.corpus.reading import Reading
    from latent_ingest.connector.encoding.backbone import Backbone
    from latent_ingest.connector.evaluation.probe import Probe
    from latent_ingest.connector.training.config import TrainingConfig
    from latent_ingest.connector.training.metrics import TrainingProgress


@click.command(
    context_settings={"show_default": True},
    epilog="""\b
Examples:
  latent-ingest train texts.jsonl.gz --out my-model/
  latent-ingest train wiki/ support.jsonl=3 --tokens 20M --probe nfcorpus/ --out my-model/
  latent-ingest train notes.csv --delimiter ';' --header id,text --out my-model/
  latent-ingest train 'hf://datasets/OWNER/NAME/*.parquet' --text-fields body --out my-model/
  latent-ingest train wiki/ --cache cache/ --latents 32768 --out larger/
  latent-ingest train wiki/ --out my-model/ --resume
  latent-ingest train --from minilm-32k --pairs titles.jsonl.gz --out my-model/
  torchrun --nproc-per-node 4 --no-python latent-ingest train wiki/ --batch 32K --out my-model/
""",
)
@click.argument("sources", nargs=-1)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to create.")
@click.option(
    "--backbone", help="Hub name or folder of the dense retriever.  [default: all-MiniLM-L6-v2]"
)
@click.option("--latents", "n_latents", default=16384, help="Number of latents.")
@click.option("--k", default=16, help="Active latents per token.")
@click.option(
    "--tokens",
    type=values.TOKEN_COUNT,
    default="3M",
    help="Number of tokens to train on (K, M, G).",
)
@click.option(
    "--activation",
    type=click.Choice(["topk", "batchtopk", "jumprelu"]),
    default="topk",
    help="Which latents are active: k per token, k per token on average, or those above a learned "
    "threshold.",
)
@click.option("--multi-k", is_flag=True, help="Also reconstruct from 4k latents per token.")
@click.option(
    "--batch",
    type=values.TOKEN_COUNT,
    show_default="4096",
    help="Tokens per step; with --from, pairs.  [--from: 48]",
)
@click.option(
    "--learning-rate",
    type=float,
    show_default="0.001",
    help="Peak learning rate.  [--from: 0.005]",
)
@click.option("--seed", default=0, help="Seed of all random numbers.")
@options.text_fields
@options.reading
@click.option(
    "--cache",
    type=values.FOLDER,
    help="Folder that keeps the token embeddings (2 bytes per dimension and token) for further "
    "rounds and runs.",
)
@click.option(
    "--probe",
    "probe_folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Small collection in BEIR's layout; its nDCG@10 is measured eight times during the run.",
)
@click.option("--split", default="test", help="Split of the probe's qrels.")
@click.option("--resume", is_flag=True, help="Resume the interrupted run of --out.")
@click.option("--keep-decoder", is_flag=True, help="Also write the decoder (twice the size).")
@click.option(
    "--int8", is_flag=True, help="Write the weights in int8 with a scale a latent (half the size)."
)
@click.option(
    "--licence", default="", show_default=False, help="Licence of the texts, for the model card."
)
@click.option(
    "--from",
    "from_model",
    help="Tune this model (a folder, or the name of one that ships) on pairs.",
)
@click.option(
    "--pairs",
    multiple=True,
    help="File of pairs, with --from: JSONL with question and document (also query, title; "
    "answer, text), CSV or Parquet. SOURCES are files of pairs, too.",
)
@click.option(
    "--words/--no-words", default=True, help="--from: score with words, as hybrid queries do."
)
@click.option("--negatives", default=2, help="--from: mined documents for each question.")
@click.option("--rounds", default=1, help="--from: rounds over all pairs.")
@click.option("--rank", default=16, help="--from: rank of the change of the encoder.")
@click.option("--anchor", default=1.0, help="--from: weight that keeps latents what they were.")
@click.option("--cost", default=1.0, help="--from: weight of a question's expected postings.")
@click.option(
    "--distil",
    default=0.0,
    help="--from: weight of a teacher's ranking: of the backbone's cosine, or of --teacher.",
)
@click.option(
    "--teacher",
    metavar="MODEL",
    help="--from: a cross-encoder, as a folder or by its name on the Hugging Face hub.",
)
@options.compute
@options.as_json
@click.pass_context
def train(
    ctx: click.Context,
    /,
    sources: tuple[str, ...],
    out: Path,
    backbone: str | None,
    text_fields: list[str],
    reading: Reading,
    cache: Path | None,
    probe_folder: Path | None,
    split: str,
    resume: bool,
    keep_decoder: bool,
    int8: bool,
    licence: str,
    from_model: str | None,
    pairs: tuple[str, ...],
    batch: int | None,
    learning_rate: float | None,
    seed: int,
    words: bool,
    negatives: int,
    rounds: int,
    rank: int,
    anchor: float,
    cost: float,
    distil: float,
    teacher: str | None,
    device: str,
    dtype: str,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train a sparse autoencoder on the texts of SOURCES, or tune one on pairs.

    A source is a file (.txt with one text per line, or any format that ingest reads: JSONL, CSV,
    Parquet ...; compressed or not), a folder of such files, a pattern, a path of the hub (hf://) or
    of a bucket (s3://), or - for standard input. Options on CSV are for the sources that are CSV.
    Texts are shuffled and each is used once per round; long texts are read in all their windows.
    FILE=3 draws from a file three times as often as its size would give, which matters if --tokens
    end before the texts do. The backbone stays frozen. OUT then works as --model of every command.

    Ctrl-C writes a checkpoint, and so does the run every three minutes; --resume continues from it
    with the same settings, except --learning-rate and --dtype, which may change. A run that has no
    checkpoint yet begins again, with what is in --cache.
    Under torchrun each process takes one device and its share of every batch.

    With --from, a model is tuned on pairs of a question and the document that answers it, so that
    questions find their documents by the engine's own BM25. The result has a new fingerprint.
    """
    from latent_ingest.connector.encoding.backbone import Backbone, pick_device
    from latent_ingest.connector.encoding.hub import DEFAULT_BACKBONE
    from latent_ingest.connector.training.config import TrainingConfig
    from latent_ingest.connector.training.distributed import ProcessGroup
    from latent_ingest.connector.training.texts import TrainingTexts, find_sources
    from latent_ingest.connector.training.trainer import Trainer, check_place

    check_options(ctx, from_model=from_model is not None)
    both = {"seed": seed, "learning_rate": learning_rate}
    if from_model is not None:
        of_pairs = {
            "batch": batch, "words": words, "negatives": negatives, "rounds": rounds, "rank": rank,
            "anchor": anchor, "cost": cost, "distil": distil, "teacher": teacher,
        }  # fmt: skip
        tune_on_pairs(
            ctx, (*pairs, *sources), out, from_model, cache=cache, resume=resume, licence=licence,
            device=device, dtype=dtype, as_json=as_json, **given(both | of_pairs),
        )  # fmt: skip
        return
    if not sources:
        raise click.UsageError("Missing argument 'SOURCES...'.")
    config = TrainingConfig(**settings, **given({**both, "batch_tokens": batch}))
    check_place(out, resume=resume)
    spool = ctx.with_resource(tempfile.TemporaryDirectory(prefix="latent-ingest-train-"))
    processes = ProcessGroup.join(pick_device(device))
    ctx.call_on_close(processes.leave)
    if not processes.first:
        # All processes read the same files, so one of them reports invalid lines.
        logging.getLogger(TrainingTexts.__module__).setLevel(logging.ERROR)
    found = find_sources(sources, Path(spool), reading)
    texts = TrainingTexts(found, text_fields=text_fields, reading=reading, seed=config.seed)
    with output.announced("loading the backbone"):
        retriever = Backbone.load(backbone or DEFAULT_BACKBONE, device=device, dtype=dtype)
    shape = {"total": config.tokens, "unit": "tok", "unit_scale": True}
    with output.progress_bar(**shape, disable=not processes.first) as bar:
        shown = TrainingBar(bar, config)
        trainer = Trainer(
            retriever,
            texts,
            out,
            config,
            cache=cache,
            resume=resume,
            processes=processes,
            on_step=shown.training,
            on_cache=shown.embedding,
        )
        if probe_folder and processes.first:
            trainer.probe = load_probe(probe_folder, split, retriever)
        with output.stopping(trainer.stop):
            report = trainer.run()
    if not processes.first:
        return
    command = " ".join(["latent-ingest", *map(shorten, ctx.meta["arguments"])])
    trainer.write(report, command=command, licence=licence, keep_decoder=keep_decoder, int8=int8)
    if as_json:
        output.print_json({"out": str(out), **asdict(report)})
        return
    click.echo(
        f"{out}: {report.tokens:,} tokens in {report.seconds:,.0f} s, normalised MSE "
        f"{report.normalized_mse:.3f} on held-out tokens, "
        f"{report.dead:,} of {config.n_latents:,} latents dead"
    )
    if report.skipped_lines or report.duplicate_texts:
        output.warn(
            f"left out: {report.skipped_lines:,} lines without text, "
            f"{report.duplicate_texts:,} duplicate texts"
        )


def given(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that are given; the others keep their defaults."""
    return {name: value for name, value in settings.items() if value is not None}


class TrainingBar:
    """Shows the two parts of a run, embedding into the cache and training, on one progress bar."""

    def __init__(self, bar: tqdm[Any], config: TrainingConfig) -> None:
        self._bar = bar
        self._config = config

    def embedding(self, held: int) -> None:
        self._bar.set_description_str("embedding", refresh=False)
        self._bar.update(min(held, self._config.tokens) - self._bar.n)

    def training(self, progress: TrainingProgress) -> None:
        bar = self._bar
        probed = f", nDCG@10 {progress.probe:.4f}" if progress.probe is not None else ""
        if bar.desc != "training":
            # The time left is estimated from the steps alone, not from the embedding before.
            bar.reset()
            bar.initial = bar.n = max(0, progress.tokens - self._config.batch_tokens)
        bar.set_description_str("training", refresh=False)
        bar.set_postfix_str(
            f"step {progress.step}, nmse {progress.normalized_mse:.3f}, "
            f"dead {progress.dead}{probed}",
            refresh=False,
        )
        bar.update(progress.tokens - bar.n)
        if probed:
            output.warn(f"{progress.tokens:,} tokens{probed}")


def load_probe(folder: Path, split: str, backbone: Backbone) -> Probe:
    """The probe; a progress bar shows how its documents are embedded."""
    from latent_ingest.connector.collections.collection import Collection
    from latent_ingest.connector.evaluation.probe import Probe

    collection = Collection.load(folder, split)
    total = len(collection.queries) + sum(1 for _ in collection.documents())
    with output.progress_bar(total=total, unit="text", desc=f"embedding {collection.name}") as bar:
        return Probe(collection, backbone, bar.update)
