"""Charts of the evaluation page, as SVG; colours and fonts are CSS classes of the page.

`element` escapes every child and attribute that is not `Markup`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, floor, log10

from markupsafe import Markup, escape

# Width of a drawing in pixels. The page scales it; on a telephone's screen, which is about as wide,
# letters keep their size.
WIDTH = 420

# Height of a line of text and width of a letter, in pixels: of a wide font, so that labels do not
# touch.
LINE = 14
LETTER = 7.2

# Columns of a plot of differences; if there are more questions, neighbours share a column.
MOST_COLUMNS = 360

# Characters of a question in the tooltip of its bar; some questions are whole documents.
TOOLTIP = 200


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a bar chart."""

    label: str
    value: float
    shown: str
    """The value as text."""
    style: str
    """CSS class: "ours", "baseline" or "published"."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a scatter plot."""

    label: str
    x: float
    y: float
    style: str


def element(name: str, *children: object, **attributes: object) -> Markup:
    """Return an SVG element; `class_` is written as class, `text_anchor` as text-anchor."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(tidy(value))}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{written}>{''.join(str(escape(c)) for c in children)}</{name}>")


def tidy(value: object) -> object:
    """Round a coordinate to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value


def drawing(height: float, label: str, *children: object) -> Markup:
    """Return a complete picture; `label` describes it in words."""
    return element(
        "svg",
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {tidy(float(height))}",
        role="img",
        aria_label=label,
    )


def text_width(text: str) -> float:
    """Estimate the width of a text in pixels."""
    return LETTER * len(text)


def shortened(text: str, width: float) -> str:
    """Shorten a text to a width in pixels."""
    return abbreviated(text, max(2, int(width / LETTER)))


def abbreviated(text: str, most: int) -> str:
    """Shorten a text to a number of characters."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def bars(rows: Sequence[Bar], label: str) -> Markup:
    """Draw horizontal bars from 0, each with its label on the left and its value on the right."""
    names = min(190.0, 8 + max(text_width(row.label) for row in rows))
    values = 8 + max(text_width(row.shown) for row in rows)
    most = max(row.value for row in rows) or 1.0
    children = []
    for number, row in enumerate(rows):
        middle = 13.0 + 26 * number
        length = max(0.0, row.value) / most * (WIDTH - names - values)
        children += [
            element(
                "text",
                element("title", row.label),
                shortened(row.label, names - 8),
                x=names - 8,
                y=middle + 4,
                text_anchor="end",
                class_=f"name {row.style}",
            ),
            element(
                "rect", x=names, y=middle - 8, width=length, height=16.0, rx=2.0, class_=row.style
            ),
            element("text", row.shown, x=names + length + 6, y=middle + 4, class_="value"),
        ]
    return drawing(26 * len(rows), label, *children)


def differences(values: Sequence[tuple[float, str]], most: float, label: str) -> Markup:
    """Draw differences of questions, largest gain first: gains above an axis, losses below it.

    Args:
        values: difference and text of each question, in any order.
        most: the largest absolute difference on the axis.
        label: describes the picture in words.
    """
    ordered = sorted(values, key=lambda pair: -pair[0])
    left, right, half = 40.0, float(WIDTH), 62.0
    middle = half + 8
    size = ceil(len(ordered) / MOST_COLUMNS) or 1
    columns = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    step = (right - left) / max(1, len(columns))
    children = [
        element(
            "text", shown, x=left - 6, y=middle - side * half + 4, text_anchor="end", class_="tick"
        )
        for shown, side in ((signed(most, 1), 1), ("0", 0), (signed(-most, 1), -1))
    ]
    for number, column in enumerate(columns):
        mean = sum(value for value, _ in column) / len(column)
        if not mean:
            continue
        height = max(0.8, min(1.0, abs(mean) / most) * half)
        value, text = max(column, key=lambda pair: abs(pair[0]))
        others = f" (and {len(column) - 1} beside it)" if len(column) > 1 else ""
        children.append(
            element(
                "rect",
                element("title", f"{signed(value)}  {abbreviated(text, TOOLTIP)}{others}"),
                x=left + number * step,
                y=middle - height if mean > 0 else middle,
                width=step - 1 if step > 3 else step + 0.6,
                height=height,
                class_="gain" if mean > 0 else "loss",
            )
        )
    children.append(element("line", x1=left, x2=right, y1=middle, y2=middle, class_="axis"))
    return drawing(2 * middle, label, *children)


def scatter(points: Sequence[Point], x_name: str, y_name: str) -> Markup:
    """Draw points with their labels; x starts at 0, y covers the range of the values."""
    height, left, bottom, top = 270.0, 44.0, 40.0, 24.0
    right = WIDTH - 14.0
    x_ticks = ticks(0.0, max(1.0, max(point.x for point in points) * 1.05))
    low, high = min(point.y for point in points), max(point.y for point in points)
    room = max(0.01, 0.15 * (high - low))
    y_ticks = ticks(low - room, min(1.0, high + room) if high <= 1 else high + room)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return left + across * (right - left), height - bottom - up * (height - bottom - top)

    children: list[Markup] = []
    digits = max(0, -floor(log10(y_ticks[1] - y_ticks[0]) + 1e-9))
    for tick in y_ticks:
        _, y = place(0, tick)
        children += [
            element("line", x1=left, x2=right, y1=y, y2=y, class_="grid"),
            element(
                "text", short(tick, digits), x=left - 6, y=y + 4, text_anchor="end", class_="tick"
            ),
        ]
    for tick in x_ticks:
        x, _ = place(tick, y_ticks[0])
        y = height - bottom + 16
        children.append(element("text", f"{tick:g}", x=x, y=y, text_anchor="middle", class_="tick"))
    children += [
        element("text", y_name, x=4.0, y=12.0, class_="tick"),
        element("text", x_name, x=right, y=height - 6, text_anchor="end", class_="tick"),
    ]
    spots = [place(point.x, point.y) for point in points]
    frame = (left, 0.0, float(WIDTH), height - bottom)
    placed = place_labels(spots, [point.label for point in points], frame)
    for point, (x, y), (label_x, label_y, moved) in zip(points, spots, placed, strict=True):
        if moved:
            end = label_x if label_x > x else label_x + text_width(point.label)
            children.append(element("line", x1=x, y1=y, x2=end, y2=label_y - 4, class_="leader"))
        title = element("title", f"{point.label}: {short(point.y, 4)}, {point.x:.3g} ms")
        children += [
            element("circle", title, cx=x, cy=y, r=5.0, class_=point.style),
            element("text", point.label, x=label_x, y=label_y, class_="name"),
        ]
    return drawing(height, f"{y_name} by {x_name}", *children)


Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""


def place_labels(
    spots: Sequence[tuple[float, float]], labels: Sequence[str], frame: Box
) -> list[tuple[float, float, bool]]:
    """Place labels so that none covers another label or a point.

    Returns:
        Left end and base line of each label in pixels, and whether it is so far from its point
        that it needs a leader line.
    """
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in spots]
    placed: list[tuple[float, float, bool]] = [(0.0, 0.0, False)] * len(spots)
    for number in sorted(range(len(spots)), key=lambda n: spots[n][1]):
        width = text_width(labels[number])
        options = list(candidates(*spots[number], width))
        free = [option for option in options if fits(box_of(option, width), taken, frame)]
        placed[number] = free[0] if free else options[0]
        taken.append(box_of(placed[number], width))
    return placed


def candidates(x: float, y: float, width: float) -> Iterator[tuple[float, float, bool]]:
    """Yield places for a label, best first: beside its point, above, below, then farther away."""
    yield x + 9, y + 4, False
    yield x - 9 - width, y + 4, False
    yield x - width / 2, y - 10, False
    yield x - width / 2, y + 19, False
    for away, side in product(range(1, 17), (-1, 1)):
        yield x + 16, y + 4 + side * away * LINE, True
        yield x - 16 - width, y + 4 + side * away * LINE, True


def box_of(label: tuple[float, float, bool], width: float) -> Box:
    """Return the box that a label covers."""
    x, y, _ = label
    return (x, y - 11, x + width, y + 3)


def fits(box: Box, taken: Sequence[Box], frame: Box) -> bool:
    """Whether a box is within the frame and overlaps none of the others."""
    left, top, right, bottom = box
    if left < frame[0] or top < frame[1] or right > frame[2] or bottom > frame[3]:
        return False
    return all(
        right <= other[0] or left >= other[2] or bottom <= other[1] or top >= other[3]
        for other in taken
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return about five round numbers that span `low` to `high`."""
    span = max(high - low, 1e-9)
    size = 10.0 ** floor(log10(span / about))
    step = next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= about)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def strip(parts: Sequence[tuple[float, str]], label: str) -> Markup:
    """Draw one bar of 120 by 12 pixels, divided in proportion to parts of a size and a class."""
    total = sum(size for size, _ in parts) or 1.0
    children, start = [element("title", label)], 0.0
    for size, style in parts:
        width = 120 * size / total
        children.append(
            element("rect", x=start, y=0, width=max(0.0, width - 1), height=12, class_=style)
        )
        start += width
    return element(
        "svg",
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox="0 0 120 12",
        class_="strip",
        role="img",
        aria_label=label,
    )


def short(value: float, digits: int | None = None) -> str:
    """Format a number without the 0 before its point, as .7387; by default with `%g` digits."""
    text = f"{value:g}" if digits is None else f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def signed(value: float, digits: int = 3) -> str:
    """Format a difference with its sign: +.038, −.004."""

    sign = "+" if value > 0 else "−" if value < 0 else "±"
    return sign + short(abs(value), digits)
