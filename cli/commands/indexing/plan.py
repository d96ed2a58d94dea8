"""latent-ingest plan: what an index of a corpus will take, from a sample."""

from __future__ import annotations

from typing import Any

import click

from latent_ingest.cli import options, values
from latent_ingest.cli.output import print_json, print_lines, size
from latent_ingest.connector.corpus.reading import Reading
from latent_ingest.connector.document import DEFAULT_TEXT_FIELDS
from latent_ingest.connector.indexing.planning.plan import (
    COPY_PER_TERM,
    LATENT_PER_TERM,
    SHARD_BYTES,
    SHARDS_PER_HEAP_GB,
    SOURCE_PER_BYTE,
    WORDS_PER_BYTE,
    IndexPlan,
    plan_index,
)
from latent_ingest.connector.indexing.planning.sample import CorpusSample, sample_corpus

# Part → what it is, and how its bytes are computed.
PARTS = {
    "source": ("documents (_source)", f"{SOURCE_PER_BYTE:.2f} a byte of JSON"),
    "copy": ("latent terms in _source", f"{COPY_PER_TERM:.2f} a latent term; none with --lean"),
    "words": ("postings of words", f"{WORDS_PER_BYTE:.2f} a byte of text"),
    "latents": ("postings of latent terms", f"{LATENT_PER_TERM:.2f} a latent term"),
    "rest": ("norms and the rest", "8 a document"),
}


@click.command(
    epilog="""\b
Examples:
  latent-ingest plan corpus.jsonl
  latent-ingest plan 'corpus/*.jsonl.gz' --for 100M --price-per-hour 1.2
  latent-ingest plan corpus.jsonl --gpu-tokens-per-second 500K --gpus 8 --json
"""
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@options.model
@options.reading
@options.id_fields
@options.text_fields
@click.option(
    "--documents",
    type=click.IntRange(min=1),
    default=500,
    help="Most documents of the sample that is encoded.",
)
@click.option(
    "--for",
    "number",
    type=values.TOKEN_COUNT,
    help="Number of documents to plan for (100M).  [default: those of the corpus]",
)
@click.option(
    "--machines",
    "--gpus",
    "machines",
    type=click.IntRange(min=1),
    default=1,
    help="Machines, or GPUs, that encode at the same time.",
)
@click.option(
    "--price-per-hour", type=click.FloatRange(min=0), help="Price of an hour of each of them."
)
@click.option(
    "--gpu-tokens-per-second",
    type=values.TOKEN_COUNT,
    help="Tokens per second that a GPU encodes, as you measured it.",
)
@options.as_json
def plan(
    files: tuple[str, ...],
    model: options.ChosenModel,
    reading: Reading,
    id_fields: list[str],
    text_fields: list[str],
    documents: int,
    number: int | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Estimate what an index of a corpus takes: time, bytes, shards, heap, money.

    Some documents are read and encoded on this machine, for a minute at most. No engine is asked.
    Bytes are computed from what was measured for one collection, so expect them to be off by a
    third.
    """
    sample = sample_corpus(
        files,
        documents,
        reading=reading,
        id_fields=id_fields,
        text_fields=text_fields or list(DEFAULT_TEXT_FIELDS),
    )
    found = plan_index(sample, model.load(), documents=number, **given)
    if as_json:
        print_json(found.to_json())
    else:
        print_lines(lines_of(found, sample))


def lines_of(plan: IndexPlan, sample: CorpusSample) -> list[str]:
    """The figures in lines for a person, each with how it was computed."""
    if plan.documents != sample.total:
        source = f"as given; the files have {'' if sample.whole else 'about '}{sample.total:,}"
    else:
        source = "all were read" if sample.whole else "estimated from the beginnings of files"
    a_document = plan.tokens / plan.documents
    speed = plan.tokens_per_second
    clock = f"; {{:,.1f}} by the clock on {plan.machines}" if plan.machines > 1 else ""
    found = [
        f"documents   {plan.documents:,} ({source})",
        f"tokens      {plan.tokens:,.0f} ({a_document:,.0f} a document, {plan.sampled:,} encoded)",
        f"encoding    {plan.hours:,.1f} hours = tokens / {speed:,.0f} tokens/s, measured here on "
        f"{plan.device}{clock.format(plan.hours / plan.machines)}",
    ]
    if plan.gpu_hours is None:
        found.append("GPU         tokens / --gpu-tokens-per-second, as you measure it")
    else:
        found.append(
            f"GPU         {plan.gpu_hours:,.1f} hours = tokens / {plan.gpu_tokens_per_second:,} "
            f"tokens/s, as given{clock.format(plan.gpu_hours / plan.machines)}"
        )
    found.append(
        f"index       {size(plan.primary_bytes)}, "
        f"{plan.primary_bytes / plan.documents:,.0f} bytes a document, without replicas"
    )
    for part, (name, how) in PARTS.items():
        found.append(f"            {size(plan.bytes[part]):>9} {name} ({how})")
    searched = sum(plan.bytes[part] for part in ("words", "latents", "rest"))
    lean = plan.primary_bytes - plan.bytes["copy"]
    found += [
        f"            {size(lean):>9} in all with --lean",
        f"shards      {plan.shards} of at most {size(SHARD_BYTES)}",
        f"heap        {plan.heap_gb:,.1f} GB of all nodes together ({SHARDS_PER_HEAP_GB} shards a "
        f"GB, with one replica each; 1 GB at least; .035 GB for the question table)",
        f"memory      {size(searched)} of postings and norms are read in searches; what the nodes "
        f"keep of them in memory beside their heap is read without a disk",
    ]
    hours = "GPU hours" if plan.gpu_hours is not None else "hours of encoding"
    if plan.price is None:
        found.append(f"money       {hours} x --price-per-hour")
    else:
        found.append(f"money       {plan.price:,.2f} = {hours} x {plan.price_per_hour:,}")
    return found
