"""A range test in a notebook: an inline SVG, and the card around it."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from keras_lrfinder.drawing.axes import Axes
from keras_lrfinder.drawing.axes import label
from keras_lrfinder.drawing.view import thin_out
from keras_lrfinder.drawing.view import view

Vector = NDArray[np.float64]

# The inner window of the SVG, and the room around it, in its own pixels.
_WIDTH, _HEIGHT = 560, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 10, 40
# Of Okabe and Ito's colours, lightened where needed to be read on black as
# well as on white.
_LINE = "#0a84d0"
_MARK = "#d55e00"
_POINT = "#009e73"
_RAW = "#8a8a8a"


def html_card(
    title: str, rows: Iterable[tuple[str, object]], svg: str = ""
) -> str:
    """Returns a title, a table of facts and a picture, for notebooks.

    Args:
        title: String, shown bold; escaped.
        rows: Pairs of a name and a value; escaped.
        svg: What `svg_curve` returned; goes in as it is.
    """
    cell = "padding:1px 12px 1px 0;text-align:left;vertical-align:top"
    table = "".join(
        f'<tr style="background:none"><td style="{cell};opacity:.7">'
        f'{html.escape(str(name))}</td><td style="{cell}">'
        f"{html.escape(str(value))}</td></tr>"
        for name, value in rows
    )
    if table:
        table = f'<table style="border:none;margin:4px 0">{table}</table>'
    return (
        f'<div style="max-width:640px"><strong>{html.escape(title)}</strong>'
        f"{table}{svg}</div>"
    )


def svg_curve(
    lrs: ArrayLike,
    losses: ArrayLike,
    mark: float | None = None,
    band: tuple[float, float] | None = None,
    points: Iterable[tuple[float, float]] = (),
) -> str:
    """Returns an inline SVG of a curve, for notebooks, light or dark.

    Args:
        lrs: Array of shape `(n,)`, positive.
        losses: Array of shape `(n,)`.
        mark: Float, the learning rate suggested, or None.
        band: Its range, or None.
        points: Pairs of learning rate and loss, such as probes.
    """
    shown = view(lrs, losses)
    if not len(shown.lrs):
        return ""
    axes = Axes(shown, lrs, _WIDTH, _HEIGHT)
    inner = [*_band(axes, mark, band)]
    raw = thin_out(lrs, losses, _WIDTH)
    inner.append(_line(axes, *raw, _RAW, 0.8, 0.6))
    inner.append(_line(axes, shown.lrs, shown.smooth, _LINE, 2.2, 1.0))
    inner += [_point(axes, lr, y, _POINT) for lr, y in points]
    if mark is not None:
        inner.append(_point(axes, mark, shown.at(mark), _MARK))
    whole = (_WIDTH + _LEFT + _RIGHT, _HEIGHT + _TOP + _BOTTOM)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" '
        f'aria-label="loss over learning rate" '
        f'viewBox="0 0 {whole[0]} {whole[1]}" '
        f'style="width:100%;max-width:{whole[0]}px;height:auto" '
        f'font-family="sans-serif" font-size="12">'
        f"{_axes(axes)}"
        # A nested svg cuts off what leaves it.
        f'<svg x="{_LEFT}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'overflow="hidden">{"".join(inner)}</svg></svg>'
    )


def _line(
    axes: Axes,
    lrs: Vector,
    losses: Vector,
    colour: str,
    width: float,
    opacity: float,
) -> str:
    across, down = axes.x(lrs), axes.ys(losses)
    whole = np.isfinite(losses)
    pieces, pen = [], "M"
    for x, y, there in zip(across.tolist(), down.tolist(), whole.tolist()):
        if there:
            pieces.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L" if there else "M"
    return (
        f'<path d="{"".join(pieces)}" fill="none" stroke="{colour}" '
        f'stroke-width="{width}" stroke-opacity="{opacity}" '
        f'stroke-linejoin="round"/>'
    )


def _point(axes: Axes, lr: float, loss: float, colour: str) -> str:
    # What ended elsewhere, or nowhere, is shown at the edge.
    y = axes.y(loss) if math.isfinite(loss) else 0.0
    x = min(max(float(axes.x(lr)), 4.0), _WIDTH - 4.0)
    y = min(max(y, 4.0), _HEIGHT - 4.0)
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" '
        f'r="4.5" fill="{colour}" stroke="white"><title>{lr:.2e}: '
        f"{loss:.4g}</title></circle>"
    )


def _band(
    axes: Axes, mark: float | None, band: tuple[float, float] | None
) -> list[str]:
    parts = []
    if band is not None:
        left, right = (float(axes.x(lr)) for lr in band)
        parts.append(
            f'<rect x="{left:.1f}" y="0" width="{right - left:.1f}" '
            f'height="{_HEIGHT}" fill="{_MARK}" fill-opacity=".16"/>'
        )
    if mark is not None:
        x = float(axes.x(mark))
        left_of = x > 0.8 * _WIDTH
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HEIGHT}" '
            f'stroke="{_MARK}" stroke-width="1.6"/>'
            f'<text x="{x + (-6 if left_of else 6):.1f}" y="14" '
            f'font-weight="bold" fill="{_MARK}" '
            f'text-anchor="{"end" if left_of else "start"}">{mark:.3g}</text>'
        )
    return parts


def _axes(axes: Axes) -> str:
    """Returns grid, ticks and labels, in the page's own text colour."""
    bottom, right = _TOP + _HEIGHT, _LEFT + _WIDTH
    lines, texts = [], []
    for tick in axes.lr_ticks(8):
        x = _LEFT + float(axes.x(tick))
        lines.append(f"M{x:.1f} {_TOP}V{bottom}")
        texts.append(_text(x, bottom + 16, "middle", label(tick)))
    for tick in axes.loss_ticks(5):
        y = _TOP + axes.y(tick)
        lines.append(f"M{_LEFT} {y:.1f}H{right}")
        texts.append(_text(_LEFT - 6, y + 4, "end", label(tick)))
    middle = _LEFT + _WIDTH / 2
    texts.append(_text(middle, bottom + 34, "middle", "learning rate"))
    return (
        f'<path d="{"".join(lines)}" stroke="currentColor" '
        f'stroke-opacity=".12"/>'
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" '
        f'stroke="currentColor" stroke-opacity=".7"/>{"".join(texts)}'
    )


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
        f'fill="currentColor">{html.escape(text)}</text>'
    )
