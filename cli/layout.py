"""Text on a terminal: of any letters, in columns, never wider than it is."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

import wcwidth

# Cells of a hit's line where nobody says how wide the terminal is.
TEXT_WIDTH = 72


def terminal_width() -> int | None:
    """Cells of a line of standard output; none where it is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def printable(text: str) -> str:
    """Control characters, which could steer the terminal, and line ends become spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def one_line(text: str) -> str:
    """Printable, with single spaces."""
    return " ".join(printable(text).split())


def shorten(text: str, width: int) -> str:
    """At most `width` cells, of which wide letters take two; ends with dots if it goes on."""
    if wcwidth.width(text) <= width:
        return text
    return wcwidth.clip(text, 0, max(width - 3, 0)).rstrip() + "..."[:width]


def side_by_side(columns: Sequence[Sequence[str]], width: int, gap: int = 3) -> list[str]:
    """Lines of columns of equal width, each line shortened to its column."""
    each = (width - gap * (len(columns) - 1)) // len(columns)
    longest = max((len(column) for column in columns), default=0)
    return [
        (" " * gap)
        .join(
            wcwidth.ljust(shorten(column[row] if row < len(column) else "", each), each)
            for column in columns
        )
        .rstrip()
        for row in range(longest)
    ]


def table(rows: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    """Lines of rows, the columns numbered in `right` flush right."""
    widths = [max(wcwidth.width(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            (wcwidth.rjust if i in right else wcwidth.ljust)(cell, widths[i])
            for i, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]
