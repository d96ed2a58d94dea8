"""What became of the lines of a corpus file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(slots=True)
class IngestReport:
    """Counts of a run. `lines == indexed + replaced + failed + not_sent + blank`, always."""

    lines: int = 0
    """Lines that were handled; where a run stops early, those before that place."""
    indexed: int = 0
    """Documents in the index from this run."""
    replaced: int = 0
    """Documents whose id came again later in the file; the last one is in the index."""
    repeated: int = 0
    """Indexed documents whose id came before in the file, where the engine makes ids: all of one id
    are in the index."""
    failed: int = 0
    """Lines that are no document, and documents that the engine rejected."""
    not_sent: int = 0
    """Documents in the hands of the run when it was stopped by the engine."""
    blank: int = 0
    """Lines with nothing on them."""
    empty: int = 0
    """Indexed documents whose text gives no latents."""
    truncated: int = 0
    """Indexed documents longer than the backbone's window, cut there."""
    pooled: int = 0
    """Indexed documents longer than the backbone's window, pooled over several."""
    chunks: int = 0
    """Chunks that were indexed, in an index of chunks; all other counts are of documents."""
    removed_chunks: int = 0
    """Chunks of before that their documents no longer have."""
    generated_ids: int = 0
    """Documents whose line had no id."""
    tokens: int = 0
    seconds: float = 0.0
    documents_in_index: int | None = None
    bytes_a_document: float | None = None
    """Size of the whole index, primaries, over its documents, which may be chunks."""
    failures_file: str | None = None
    resumed_after: int = 0
    """Lines that an earlier, interrupted run had done; all counts include them."""
    stopped: str | None = None
    """Why the run ended before the file did; none when it did not."""

    @property
    def ok(self) -> bool:
        """Whether every document of the file is in the index."""
        return not (self.failed or self.not_sent or self.stopped)

    def to_json(self) -> dict[str, Any]:
        """All counts, and the rates."""
        seconds = max(self.seconds, 1e-9)
        return {
            **asdict(self),
            "documents_per_second": (self.indexed + self.replaced) / seconds,
            "tokens_per_second": self.tokens / seconds,
        }
