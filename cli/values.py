"""Types of the values of options."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

FOLDER = click.Path(file_okay=False, path_type=Path)
OUTPUT_FILE = click.Path(dir_okay=False, path_type=Path)
PEM_FILE = click.Path(exists=True, dir_okay=False)


@dataclass(eq=False)
class Scaled(click.ParamType):  # type: ignore[type-arg]
    """A number, at least `least`, that may end with the letter of a unit: 3M, 10m."""

    name: str
    examples: str
    units: dict[str, int]
    kind: type = float
    least: int = 0

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        text = str(value).lower()
        unit = text[-1:] if text[-1:] in self.units else ""
        try:
            number = self.kind(float(text.removesuffix(unit)) * self.units.get(unit, 1))
        except (ValueError, OverflowError):  # not a number, or infinite
            number = -1
        if not self.least <= number < math.inf:
            self.fail(f"{value!r}: write a {self.name} like {self.examples}", param, ctx)
        return number


# K, M and G are thousands, millions and billions.
TOKEN_COUNT = Scaled(
    "number", "500000, 500K or 3M", {"k": 10**3, "m": 10**6, "g": 10**9}, int, least=1
)
BYTES = Scaled("size", "500000, 100M or 1G", {"k": 10**3, "m": 10**6, "g": 10**9}, int, least=1)
SECONDS = Scaled("duration", "90s, 10m or 2h", {"s": 1, "m": 60, "h": 3600})


class NameList(click.ParamType):  # type: ignore[type-arg]
    """Names separated by commas, such as `a,b , c`; at least one."""

    name = "text"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        names = [name.strip() for name in str(value).split(",") if name.strip()]
        if not names:
            self.fail(f"{value!r}: write at least one name", param, ctx)
        return names


class Renaming(click.ParamType):  # type: ignore[type-arg]
    """Pairs `field=path` separated by commas."""

    name = "field=path"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, str]:
        pairs = [pair.partition("=") for pair in str(value).split(",") if pair.strip()]
        renamed = {field.strip(): path.strip() for field, _, path in pairs}
        if not renamed or not all(field and path for field, path in renamed.items()):
            self.fail(f"{value!r}: write FIELD=PATH, such as title=headline", param, ctx)
        return renamed


class Value(click.ParamType):  # type: ignore[type-arg]
    """A pair `field=value`; the value is read as JSON if it is, else as a string."""

    name = "field=value"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        field, equals, text = str(value).partition("=")
        if not (field.strip() and equals):
            self.fail(f"{value!r}: write FIELD=VALUE, such as lang=en", param, ctx)
        try:
            return {field.strip(): json.loads(text)}
        except ValueError:
            return {field.strip(): text}


class Delimiter(click.ParamType):  # type: ignore[type-arg]
    """One character; \\t and tab are a tab."""

    name = "text"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        text = "\t" if value in ("\\t", "tab") else str(value)
        if len(text) != 1:
            self.fail(f"{value!r}: give one character, or tab", param, ctx)
        return text


class JsonObject(click.ParamType):  # type: ignore[type-arg]
    """A JSON object, such as a query clause."""

    name = "json"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        try:
            content = json.loads(str(value))
        except ValueError as error:
            self.fail(f"not JSON: {error}: {value}", param, ctx)
        if not isinstance(content, dict):
            self.fail(f'{value}: write an object like {{"term": {{"year": 2024}}}}', param, ctx)
        return content
