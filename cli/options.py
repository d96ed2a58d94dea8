"""Options that several commands share."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from latent_ingest.cli import values
from latent_ingest.cli.output import announced
from latent_ingest.connector.corpus.reading import FORMATS, Reading
from latent_ingest.connector.engine.client import MAX_CONNECTIONS, Connection
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.meta import have_own_words
from latent_ingest.connector.indexing.on_ray.settings import OnRay
from latent_ingest.connector.indexing.sender import CONCURRENCY
from latent_ingest.connector.querying.scoring import AUTO, Form
from latent_ingest.connector.questions.stored_table import INDEX_WORDS

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.querying.query_encoder import QueryEncoder

Command = TypeVar("Command", bound=Callable[..., Any])


def on_ray(
    connection: Connection, on: str | None, encoders: int | None, gpus_per_encoder: float | None
) -> OnRay | None:
    """How to run on Ray, by the options; None without Ray. Raises InputError."""
    if on is not None:
        return OnRay(connection, encoders, gpus_per_encoder)
    if encoders or gpus_per_encoder is not None:
        raise InputError("--encoders and --gpus-per-encoder are for --on ray")
    return None


def resuming_command() -> str:
    """The command that resumes the current run: in this folder, without --restart."""
    arguments = click.get_current_context().meta["arguments"]
    again = [argument for argument in arguments if argument != "--restart"]
    return f"cd {shlex.quote(str(Path.cwd()))} && {shlex.join(['latent-ingest', *again])}"


index = click.option("--index", default="latent", help="Name of the index.")

journal = click.option(
    "--journal",
    type=values.OUTPUT_FILE,
    envvar="LATENT_INGEST_JOURNAL",
    show_envvar=True,
    help="File that records the progress of runs.  [default: in the user's state folder]",
)

give_up_after = click.option(
    "--give-up-after",
    type=values.SECONDS,
    default="10m",
    help="Stop if the engine refuses requests or is unreachable for this long (90s, 10m, 2h).",
)

concurrency = click.option(
    "--concurrency",
    type=click.IntRange(min=1, max=MAX_CONNECTIONS),
    default=CONCURRENCY,
    help="Maximum number of concurrent requests; fewer while the engine is busy.",
)

on = click.option(
    "--on",
    type=click.Choice(["ray"]),
    help="Run on the cluster of RAY_ADDRESS, on that of this machine, or on Ray started here.",
)

encoders = click.option(
    "--encoders",
    type=click.IntRange(min=1),
    help="On Ray: processes that encode.  [default: as many as the GPUs hold, or the CPU cores]",
)

gpus_per_encoder = click.option(
    "--gpus-per-encoder",
    type=click.FloatRange(min=0),
    help="On Ray: GPUs of each, or a share of one.  [default: 1 if the cluster has GPUs, else 0]",
)

form = click.option(
    "--form",
    type=click.Choice([AUTO, *(form.value for form in Form)]),
    default=AUTO,
    help="What scores: words and latents, or latents only; in one phase or two. auto is hybrid, in "
    "one phase or two, whichever costs the engine less.",
)

questions = click.option(
    "--questions",
    type=click.Choice(["auto", "model", "table"]),
    default="auto",
    help="What encodes the question: the model, or a table of words, which takes no model and is "
    "somewhat worse. auto is the table of the index if that has one of its documents' words, else "
    "the model.",
)

question_words = click.option(
    "--question-words",
    type=click.IntRange(min=1),
    default=INDEX_WORDS,
    help="Most words of the question table: those of the documents first, then others of the "
    "model's table.",
)

no_questions = click.option(
    "--no-questions",
    "questions",
    flag_value=False,
    is_flag=True,
    default=True,
    show_default=False,
    help="Give a new index no question table, the analyzer by which a plain match of the latent "
    "field finds by meaning.",
)

cache = click.option(
    "--cache",
    type=values.FOLDER,
    envvar="LATENT_INGEST_CACHE",
    show_envvar=True,
    help="Folder for dense vectors and ir_datasets collections.  "
    "[default: in the user's cache folder]",
)

filter_clause = click.option(
    "--filter", "filter_clause", type=values.JsonObject(), help="Query clause that hits must match."
)

id_fields = click.option(
    "--id-field",
    "id_fields",
    type=values.NameList(),
    default="_id,id",
    help="Id fields, separated by commas; the first that a document has is its id.",
)

text_fields = click.option(
    "--text-fields",
    type=values.NameList(),
    default="title,text",
    help="Fields whose text is read, separated by commas.",
)

spelling = click.option(
    "--spelling",
    type=click.Choice(["repeat", "delimited"]),
    help="Spelling of counts; delimited needs OpenSearch 2.10.  [default: repeat]",
)

latent_field = click.option("--latent-field", help="Field of latent terms.  [default: latent]")

as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as one JSON object."
)

COMPUTE_OPTIONS = (
    click.option("--device", default="auto", help="auto, cuda, mps or cpu."),
    click.option(
        "--dtype",
        default="auto",
        help="float32, bfloat16, or auto: bfloat16 if the device computes in it.",
    ),
)


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """The model that the options of a command choose; it is not loaded yet."""

    folder: Path | None = None
    """Model folder, or the name of a model in this package; minilm-32k if None."""
    device: str = "auto"
    dtype: str = "auto"

    def load(self) -> LatentEncoder:
        """The encoder; a terminal shows that it is loading, which takes seconds."""
        with announced("loading the model"):
            from latent_ingest.connector.encoding.encoder import LatentEncoder

            return LatentEncoder.shared(self.folder, device=self.device, dtype=self.dtype)

    def absolute(self) -> ChosenModel:
        """The same model, also for a process in another folder."""
        return replace(self, folder=self.folder.resolve()) if self.folder else self

    def queries(self, questions: str, client: OpenSearch, index: str) -> QueryEncoder:
        """What encodes questions to an index: the loaded model, or a table, without the model."""
        from latent_ingest.connector.querying.query_encoder import QueryEncoder

        if questions == "model" or (questions == "auto" and not have_own_words(client, index)):
            return QueryEncoder(self.load())
        return QueryEncoder(self.folder, device=self.device, dtype=self.dtype, questions="engine")

    def labels(self, encoder: LatentEncoder) -> Mapping[int, str]:
        """The labels in the folder of the loaded model, by latent; empty if it has none."""
        from latent_ingest.connector.encoding.model_folder import model_path
        from latent_ingest.connector.inspection.labels import read_labels

        return read_labels(model_path(self.folder), encoder.fingerprint.autoencoder)


def model_of(explained: str) -> Callable[[Command], Command]:
    """Add --model with this help, --device and --dtype.

    The command receives a `ChosenModel` as `model`.
    """
    named = click.option("--model", type=values.FOLDER, help=explained)

    def add(command: Command) -> Command:
        @functools.wraps(command)
        def with_model(
            *args: Any, model: Path | None, device: str, dtype: str, **others: Any
        ) -> Any:
            return command(*args, model=ChosenModel(model, device, dtype), **others)

        return cast(Command, with_options(with_model, (named, *COMPUTE_OPTIONS)))

    return add


model = model_of(
    "Model folder, or the name of one that ships: minilm-32k, mpnet-32k.  [default: minilm-32k]"
)

READING_OPTIONS = (
    click.option(
        "--input-format",
        type=click.Choice(FORMATS),
        help="Format of the files.  [default: by their first bytes and names]",
    ),
    click.option(
        "--map",
        "renamed",
        type=values.Renaming(),
        multiple=True,
        help="Fields to rename, separated by commas: title=headline,text=body.content.",
    ),
    click.option(
        "--set",
        "values",
        type=values.Value(),
        multiple=True,
        help="A field that each document gets: lang=en. A value that is JSON is read as such.",
    ),
    click.option(
        "--drop",
        type=values.NameList(),
        default=None,
        help="Fields to leave out, separated by commas.",
    ),
    click.option(
        "--sample", type=click.IntRange(min=1), help="Read only the first documents, this many."
    ),
    click.option("--delimiter", type=values.Delimiter(), help="CSV: delimiter.  [default: found]"),
    click.option(
        "--no-quotes",
        is_flag=True,
        help="CSV: quotation marks are letters, and enclose no cells.  [default: found]",
        show_default=False,
    ),
    click.option("--encoding", help="CSV: encoding, such as latin-1.  [default: UTF-8]"),
    click.option(
        "--header",
        type=values.NameList(),
        help="CSV without a header line: names of the columns, separated by commas.",
    ),
    click.option(
        "--json-fields",
        type=values.NameList(),
        help="CSV: columns whose cells are JSON (numbers, true, arrays), separated by commas.",
    ),
)


def reading(command: Command) -> Command:
    """Add the options on how files are read; the command receives a `Reading` as `reading`."""

    @functools.wraps(command)
    def with_reading(
        *args: Any,
        input_format: str | None,
        renamed: tuple[dict[str, str], ...],
        values: tuple[dict[str, Any], ...],
        drop: list[str] | None,
        sample: int | None,
        delimiter: str | None,
        no_quotes: bool,
        encoding: str | None,
        header: list[str] | None,
        json_fields: list[str] | None,
        **others: Any,
    ) -> Any:
        reading = Reading(
            format=input_format,
            delimiter=delimiter,
            quotes=False if no_quotes else None,
            encoding=encoding,
            header=header,
            json_fields=json_fields or (),
            map={field: path for pairs in renamed for field, path in pairs.items()},
            set={field: value for pairs in values for field, value in pairs.items()},
            drop=drop or (),
            sample=sample,
        )
        return command(*args, reading=reading, **others)

    return cast(Command, with_options(with_reading, READING_OPTIONS))


def compute(command: Command) -> Command:
    """Add --device and --dtype to a command."""
    return cast(Command, with_options(command, COMPUTE_OPTIONS))


def with_options(command: Any, options: Any) -> Any:
    """The command with all the options, in this order in its help."""
    for option in reversed(options):
        command = option(command)
    return command
