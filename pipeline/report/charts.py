"""Pictures as inline SVG: small functions from numbers to markup. Colours and fonts are style.css's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

WIDTH = 640
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
SUBSETS = ("all", "seen", "unseen")
Point = tuple[float, float]


def whiskers(scores: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Markup:
    """MAP@25 with its interval, a row a stage, a mark a subset."""
    left, row, top = 150, 58, 8
    subsets = [subset for subset in SUBSETS if any(subset in each for each in scores.values())]
    ticks = _ticks(0, max(each["high"] for stage in scores.values() for each in stage.values()))
    bottom = top + row * len(scores)

    def across(value: float) -> float:
        return left + value / ticks[-1] * (WIDTH - left - 20)

    parts = [_upright(across(tick), top, bottom, f"{tick:.2f}") for tick in ticks]
    for i, (stage, told) in enumerate(scores.items()):
        middle = top + row * (i + 0.5)
        if i:
            parts.append(_line((0, middle - row / 2), (WIDTH, middle - row / 2), "rule"))
        parts.append(_text(left - 14, middle, stage, "end"))
        for place, subset in enumerate(subsets):
            if subset not in told:
                continue
            y, each = middle + (place - (len(subsets) - 1) / 2) * 14, told[subset]
            title = f"{stage}, {subset}: {each['map@25']:.3f} [{each['low']:.3f}, {each['high']:.3f}]"
            ends = _line((across(each["low"]), y), (across(each["high"]), y), "whisker")
            parts.append(
                Markup('<g class="{}"><title>{}</title>{}{}</g>').format(
                    subset, title, ends, _mark(place, across(each["map@25"]), y)
                )
            )
    return _figure(bottom + 26, parts, "MAP@25 of each stage with its interval")


def curves(lines: Mapping[str, Sequence[Point]], label: str, final: str, percent: bool = False) -> Markup:
    """A curve a name over the same abscissae, the one named `final` in bold; abscissae above 1 stand at equal distances."""
    left, edge, top, bottom = 44, WIDTH - 170, 10, 300
    xs = sorted({x for line in lines.values() for x, _ in line})
    ys = [y for line in lines.values() for _, y in line]
    ticks = _ticks(0 if max(xs) > 1 else min(ys), max(ys))

    def across(x: float) -> float:
        share = xs.index(x) / max(len(xs) - 1, 1) if max(xs) > 1 else (x - xs[0]) / ((xs[-1] - xs[0]) or 1)
        return left + share * (edge - left)

    def down(y: float) -> float:
        return bottom - (y - ticks[0]) / (ticks[-1] - ticks[0]) * (bottom - top)

    parts = [_level(left, edge, down(tick), f"{tick:.2f}") for tick in ticks]
    parts += [_text(across(x), bottom + 18, f"{x:.0%}" if percent else f"{x:g}", "middle", "tick") for x in xs]
    parts.append(_text((left + edge) / 2, bottom + 40, label, "middle", "axis"))
    heights = _apart([down(line[-1][1]) for line in lines.values()], 15, bottom)
    for i, ((name, line), height) in enumerate(zip(lines.items(), heights, strict=True)):
        points = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in line)
        marks = [
            Markup("<g><title>{}</title>{}</g>").format(f"{name}, {x:g}: {y:.3f}", _mark(i, across(x), down(y)))
            for x, y in line
        ]
        parts.append(
            Markup('<g class="series s{}{}"><polyline points="{}"/>{}{}{}</g>').format(
                i % 6,
                " final" if name == final else "",
                points,
                Markup("").join(marks),
                _line((edge + 6, down(line[-1][1])), (edge + 20, height), "leader") + _mark(i, edge + 26, height),
                _text(edge + 36, height, name, "start", "name"),
            )
        )
    return _figure(bottom + 50, parts, label)


def reliability(bins: Sequence[Mapping[str, float]]) -> Markup:
    """How often the first candidate is right against how sure of it the scores are; below, how many queries a bin has."""
    left, top, side, below = 44, 10, 300, 54
    most = max(each["queries"] for each in bins)
    foot = top + side + 40 + below

    def across(share: float) -> float:
        return left + share * (WIDTH - left - 20)

    def down(share: float) -> float:
        return top + (1 - share) * side

    parts = [_level(left, WIDTH - 20, down(tick / 5), f"{tick / 5:.0%}") for tick in range(6)]
    parts += [_text(across(tick / 5), down(0) + 18, f"{tick / 5:.0%}", "middle", "tick") for tick in range(6)]
    parts.append(_line((across(0), down(0)), (across(1), down(1)), "ideal"))
    parts.append(
        Markup('<polyline class="all" points="{}"/>').format(
            " ".join(f"{across(each['sure']):.1f},{down(each['right']):.1f}" for each in bins)
        )
    )
    for each in bins:
        x, height = across(each["sure"]), each["queries"] / most * below
        title = f"sure {each['sure']:.0%}, right {each['right']:.0%}, {each['queries']} queries"
        radius = 4 + 6 * math.sqrt(each["queries"] / most)
        dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>').format(x, down(each["right"]), radius)
        bar = Markup('<rect x="{:.1f}" y="{:.1f}" width="14" height="{:.1f}" rx="2"/>').format(x - 7, foot - height, height)
        parts.append(Markup('<g class="all"><title>{}</title>{}{}</g>').format(title, dot, bar))
        parts.append(_text(x, foot + 13, f"{each['queries']}", "middle", "tick"))
    parts.append(
        _text((left + WIDTH - 20) / 2, foot + 36, "share of the first candidate (and queries, below)", "middle", "axis")
    )
    return _figure(foot + 46, parts, "Calibration of the final score")


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from at most `low` to at least `high`, seven or so."""
    step = next((step for step in STEPS if (high - low) / step <= 6), STEPS[-1])
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 2) for i in range(first, max(last, first + 1) + 1)]


def _apart(heights: Sequence[float], gap: float, foot: float) -> list[float]:
    """The heights, moved where needed so that no two are nearer than `gap` and none lies below `foot`."""
    order, moved = sorted(range(len(heights)), key=heights.__getitem__), list(heights)
    for above, i in pairwise(order):
        moved[i] = max(moved[i], moved[above] + gap)
    for i in reversed(order):
        moved[i] = foot = min(moved[i], foot)
        foot -= gap
    return moved


def _figure(height: float, parts: Sequence[Markup], label: str) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, label, Markup("").join(parts)
    )


def _line(start: Point, end: Point, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(kind, *start, *end)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" dy=".34em" text-anchor="{}">{}</text>').format(
        kind, x, y, anchor, text
    )


def _upright(x: float, top: float, bottom: float, text: str) -> Markup:
    return _line((x, top), (x, bottom), "grid") + _text(x, bottom + 16, text, "middle", "tick")


def _level(left: float, right: float, y: float, text: str) -> Markup:
    return _line((left, y), (right, y), "grid") + _text(left - 8, y, text, "end", "tick")


def _mark(kind: int, x: float, y: float) -> Markup:
    """A disc, a triangle, a diamond or a square, so that colour is not needed to tell them apart."""
    path = (
        "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0",
        "M0 -5.2L5 4H-5Z",
        "M0 -5.6L5.6 0L0 5.6L-5.6 0Z",
        "M-4 -4H4V4H-4Z",
    )[kind % 4]
    return Markup('<path class="mark" transform="translate({:.1f} {:.1f})" d="{}"/>').format(x, y, path)
