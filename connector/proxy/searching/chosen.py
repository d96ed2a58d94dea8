"""How a search is rewritten, by the headers of its request."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from latent_ingest.connector.proxy.messages import Exchange, Refused
from latent_ingest.connector.proxy.searching.left_alone import LeftAlone
from latent_ingest.connector.querying.scoring import AUTO, MATCHINGS, Form


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the headers of a request choose."""

    form: str = AUTO
    matching: str | None = None

    @classmethod
    def of(cls, exchange: Exchange) -> Chosen:
        """Read the headers; raises LeftAlone if they turn rewriting off, and Refused."""
        word = exchange.word(b"x-latent") or "on"
        form = exchange.word(b"x-latent-form") or AUTO
        matching = exchange.word(b"x-latent-matching")
        forms = (AUTO, *(one.value for one in Form))
        for name, value, known in (
            ("X-Latent", word, ("on", "off")),
            ("X-Latent-Form", form, forms),
            ("X-Latent-Matching", matching or MATCHINGS[0], MATCHINGS),
        ):
            if value not in known:
                raise Refused(
                    400,
                    "illegal_argument_exception",
                    f"header {name}: {value[:50]!r}; use one of {', '.join(known)}",
                )
        if word == "off":
            raise LeftAlone("X-Latent: off")
        return cls(form, matching or None)

    def in_one_phase(self) -> Chosen:
        """Return the choice for a request whose hits engines do not rescore."""
        form = Form.HYBRID if self.form == AUTO else Form(self.form).one_phase
        return replace(self, form=form.value)

    def options(self) -> dict[str, Any]:
        """Return options of the rewriter."""
        return {"form": self.form, "matching": self.matching}
