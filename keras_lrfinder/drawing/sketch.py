"""What to show of a range test, and pictures of it without matplotlib.

Plain arrays in; limits, a text plot or an inline SVG out. Pure: numpy, and
the smoothing next door.
"""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from keras_lrfinder.drawing.spline import smoothing_spline

__all__ = [
    "View",
    "html_card",
    "svg_curve",
    "text_plot",
    "thin_out",
    "view",
]

Vector = NDArray[np.float64]

# A fall by this factor needs a logarithmic axis to be seen to its end.
_DEEP_FALL = 50.0
# Beyond this, sums and margins have no float.
_HUGE = 1e300

# The inner window of the SVG, and the room around it, in its own pixels.
_WIDTH, _HEIGHT = 560, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 10, 40
# Of Okabe and Ito's colours, lightened where needed to be read on black as
# well as on white.
_LINE = "#0a84d0"
_MARK = "#d55e00"
_POINT = "#009e73"
_RAW = "#8a8a8a"


@dataclasses.dataclass(frozen=True)
class View:
    """The smooth line through a curve, and the window that shows it well.

    Attributes:
        lrs: Array, learning rates of the smooth line, evenly spaced in log.
        smooth: Array, the smooth loss there.
        low: Float, the lower limit of the loss axis.
        high: Float, the upper limit of the loss axis.
        log: Bool, whether the loss axis should be logarithmic.
    """

    lrs: Vector
    smooth: Vector
    low: float
    high: float
    log: bool


def view(lrs: ArrayLike, losses: ArrayLike) -> View:
    """Returns what of a curve to show.

    The window is that of the descent, from the start to the lowest point,
    with room above it: a blow-up leaves through the top instead of
    flattening all the rest. The axis is logarithmic where every loss is
    positive and the descent spans a factor of more than 50.

    Args:
        lrs: Array of shape `(n,)`, positive.
        losses: Array of shape `(n,)`; what is not finite is not shown.
    """
    x = np.asarray(lrs, dtype=np.float64)
    y = np.clip(np.asarray(losses, dtype=np.float64), -_HUGE, _HUGE)
    # clip has brought the infinities in; those belong outside.
    keep = np.isfinite(np.asarray(losses, dtype=np.float64))
    x, y = x[keep], y[keep]
    if len(x) == 0:
        return View(x, y, 0.0, 1.0, False)
    grid, smooth = smoothing_spline(x, y)
    low, high = _descent(x, y, grid, smooth)
    lowest = float(smooth.min())
    if y.min() > 0 and lowest > 0 and high / lowest > _DEEP_FALL:
        # Smoothed as it is drawn: in the linear loss, the noise of the
        # start would drown what happens decades below it.
        grid, logs = smoothing_spline(x, np.log(y))
        margins = _margins(*_descent(x, np.log(y), grid, logs))
        low, high = np.exp(np.clip(margins, -690.0, 690.0)).tolist()
        return View(grid, np.exp(logs), low, high, True)
    low, high = _margins(low, high)
    return View(grid, smooth, low, high, False)


def thin_out(lrs: Vector, losses: Vector, cells: int) -> tuple[Vector, Vector]:
    """Returns fewer points that draw the same line.

    Of the points in one of `cells` cells of the log axis, the lowest and
    the highest stay; NaNs stay out where there is anything to draw.

    Args:
        lrs: Array of shape `(n,)`, positive and increasing.
        losses: Array of shape `(n,)`.
        cells: Integer, about the width of the picture in pixels.

    Returns:
        The two arrays as they are when they have at most `2 * cells`
        entries, otherwise at most that many.
    """
    if len(lrs) <= 2 * cells:
        return lrs, losses
    keep = np.isfinite(losses)
    lrs, losses = lrs[keep], losses[keep]
    if len(lrs) <= 2 * cells:
        return lrs, losses
    x = np.log10(lrs)
    width = max(float(x[-1] - x[0]), np.finfo(np.float64).tiny)
    cell = np.minimum((x - x[0]) / width * cells, cells - 1).astype(np.int64)
    # Sorted by cell, then by loss: the ends of each cell are its extremes.
    order = np.lexsort((losses, cell))
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    ends = np.append(starts[1:], len(order)) - 1
    chosen = np.unique(np.concatenate((order[starts], order[ends])))
    return lrs[chosen], losses[chosen]


def text_plot(
    lrs: ArrayLike,
    losses: ArrayLike,
    width: int = 72,
    height: int = 16,
    title: str = "",
    mark: float | None = None,
) -> str:
    """Returns a plot in plain ASCII, for terminals and logs.

    Dots are raw losses, stars the smooth line.

    Args:
        lrs: Array of shape `(n,)`, positive.
        losses: Array of shape `(n,)`.
        width: Integer >= 30, the most columns of a line.
        height: Integer >= 8, the number of lines, the title's included.
        title: String for the first line.
        mark: Float, a learning rate to point at under the axis, or None.

    Raises:
        ValueError: Too small to hold a plot.
    """
    if width < 30 or height < 8:
        raise ValueError(
            "`width` must be at least 30 and `height` at least 8. "
            f"Received: {width=}, {height=}"
        )
    shown = view(lrs, losses)
    lines = [title[:width]] if title else []
    rows, columns = height - 2 - len(lines), width - 11
    if not len(shown.lrs):
        body = ["(no finite loss to show)".rjust(11 + columns // 2)]
        return "\n".join(lines + body)
    axes = _Axes(shown, lrs, columns - 1, rows - 1)
    cells = [[" "] * columns for _ in range(rows)]
    _put_dots(cells, axes, lrs, losses)
    _put_line(cells, axes, shown)
    labels = {round(axes.y(v)): _label(v) for v in axes.loss_ticks(rows // 3)}
    for row, line in enumerate(cells):
        lines.append(f"{labels.get(row, ''):>9} |{''.join(line)}".rstrip())
    return "\n".join(lines + _text_axis(axes, columns, width, mark))


def svg_curve(
    lrs: ArrayLike,
    losses: ArrayLike,
    smoothed: ArrayLike | None = None,
    mark: float | None = None,
    band: tuple[float, float] | None = None,
    points: Iterable[tuple[float, float]] = (),
) -> str:
    """Returns an inline SVG of a curve, for notebooks, light or dark.

    Args:
        lrs: Array of shape `(n,)`, positive.
        losses: Array of shape `(n,)`.
        smoothed: Array of shape `(n,)`, the smooth line; None draws the
            smoothing spline.
        mark: Float, the learning rate suggested, or None.
        band: Its range, or None.
        points: Pairs of learning rate and loss, such as probes.
    """
    shown = view(lrs, losses)
    pairs = [(float(lr), float(y)) for lr, y in points]
    if not len(shown.lrs):
        return ""
    axes = _Axes(shown, lrs, _WIDTH, _HEIGHT)
    line = (shown.lrs, shown.smooth)
    if smoothed is not None:
        line = (
            np.asarray(lrs, dtype=np.float64),
            np.asarray(smoothed, dtype=np.float64),
        )
    inner = [*_svg_band(axes, mark, band)]
    raw = thin_out(*_arrays(lrs, losses), _WIDTH)
    inner.append(_svg_line(axes, *raw, _RAW, 0.8, 0.6))
    inner.append(_svg_line(axes, *line, _LINE, 2.2, 1.0))
    inner += [_svg_point(axes, lr, y, _POINT) for lr, y in pairs]
    if mark is not None:
        level = float(np.interp(np.log(mark), np.log(line[0]), line[1]))
        inner.append(_svg_point(axes, mark, level, _MARK))
    whole = (_WIDTH + _LEFT + _RIGHT, _HEIGHT + _TOP + _BOTTOM)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" '
        f'aria-label="loss over learning rate" '
        f'viewBox="0 0 {whole[0]} {whole[1]}" '
        f'style="width:100%;max-width:{whole[0]}px;height:auto" '
        f'font-family="sans-serif" font-size="12">'
        f"{_svg_axes(axes)}"
        # A nested svg cuts off what leaves it.
        f'<svg x="{_LEFT}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'overflow="hidden">{"".join(inner)}</svg></svg>'
    )


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


def _descent(
    lrs: Vector, losses: Vector, grid: Vector, smooth: Vector
) -> tuple[float, float]:
    """Returns the lowest and the highest loss worth seeing."""
    bottom = int(np.argmin(smooth))
    before = losses[lrs <= grid[bottom]]
    low = min(float(smooth.min()), float(np.quantile(before, 0.02)))
    high = max(
        float(smooth[: bottom + 1].max()), float(np.quantile(before, 0.98))
    )
    if bottom < 0.2 * len(grid):
        # Hardly any descent: what there is to see is the rise.
        high = max(high, float(np.quantile(losses, 0.8)))
    return low, high


def _margins(low: float, high: float) -> tuple[float, float]:
    span = high - low
    if not span > 1e-6 * max(abs(low), abs(high)):
        span = 0.1 * max(abs(low), abs(high)) or 1.0
        return low - span, high + span
    return low - 0.08 * span, high + 0.25 * span


def _arrays(lrs: ArrayLike, losses: ArrayLike) -> tuple[Vector, Vector]:
    return (
        np.asarray(lrs, dtype=np.float64),
        np.asarray(losses, dtype=np.float64),
    )


class _Axes:
    """Learning rates and losses to places in a picture, from its top left."""

    def __init__(
        self, shown: View, lrs: ArrayLike, width: float, height: float
    ) -> None:
        self.log = shown.log
        ends = np.asarray(lrs, dtype=np.float64)
        self.lr_low, self.lr_high = float(ends.min()), float(ends.max())
        if math.log10(self.lr_high) - math.log10(self.lr_low) < 1e-6:
            self.lr_low, self.lr_high = self.lr_low / 2, self.lr_low * 2
        self.low, self.high = shown.low, shown.high
        self._width, self._height = width, height

    def x(self, lr: ArrayLike) -> Vector:
        """Returns the place across."""
        left, right = math.log10(self.lr_low), math.log10(self.lr_high)
        place: Vector = (np.log10(lr) - left) / (right - left) * self._width
        return place

    def y(self, loss: ArrayLike) -> float:
        """Returns the place down of one loss."""
        return float(self.ys(np.array([loss], dtype=np.float64))[0])

    def ys(self, losses: ArrayLike) -> Vector:
        """Returns the places down; far outside is kept near."""
        values = np.asarray(losses, dtype=np.float64)
        low, high = self.low, self.high
        if self.log:
            values = np.log(np.maximum(values, np.finfo(np.float64).tiny))
            low, high = math.log(low), math.log(high)
        span = high - low
        near = np.clip(values, low - span, high + span)
        place: Vector = (high - near) / span * self._height
        return place

    def lr_ticks(self, most: int) -> list[float]:
        """Returns round learning rates inside."""
        return _log_ticks(self.lr_low, self.lr_high, most)

    def loss_ticks(self, most: int) -> list[float]:
        """Returns round losses inside."""
        if self.log:
            return _log_ticks(self.low, self.high, most)
        return _ticks(self.low, self.high, most)


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    first = math.ceil(math.log10(low) - 1e-9)
    last = math.floor(math.log10(high) + 1e-9)
    if last - first >= 1:
        step = max(1, math.ceil((last - first + 1) / max(most, 2)))
        return [float(f"1e{k}") for k in range(first, last + 1, step)]
    return [tick for tick in _ticks(low, high, most) if tick > 0]


def _ticks(low: float, high: float, most: int) -> list[float]:
    rough = (high / 2 - low / 2) / max(most, 2) * 2
    if rough < 1e-300:
        return []  # no float for a step
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(k * power for k in (1, 2, 5, 10) if k * power >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    # A product of step: a sum would drift.
    return [k * step for k in range(first, last + 1)]


def _label(value: float) -> str:
    if value and not 0.01 <= abs(value) < 1e5:
        digits, power = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:.4g}"


def _put_dots(
    cells: list[list[str]], axes: _Axes, lrs: ArrayLike, losses: ArrayLike
) -> None:
    x, y = thin_out(*_arrays(lrs, losses), 4 * len(cells[0]))
    inside = (y >= axes.low) & (y <= axes.high)
    across = np.rint(axes.x(x[inside])).astype(np.int64)
    down = np.rint(axes.ys(y[inside])).astype(np.int64)
    for column, row in zip(across.tolist(), down.tolist()):
        cells[row][column] = "."


def _put_line(cells: list[list[str]], axes: _Axes, shown: View) -> None:
    across = np.rint(axes.x(shown.lrs)).astype(np.int64).tolist()
    down = np.rint(axes.ys(shown.smooth)).astype(np.int64).tolist()
    previous = down[0]
    for column, row in zip(across, down):
        # A steep line is a column of stars, without gaps.
        step = 1 if row >= previous else -1
        for at in range(previous + (step if row != previous else 0), row, step):
            if 0 <= at < len(cells):
                cells[at][column] = "*"
        if 0 <= row < len(cells):
            cells[row][column] = "*"
        previous = row


def _text_axis(
    axes: _Axes, columns: int, width: int, mark: float | None
) -> list[str]:
    rule = ["-"] * columns
    names = [" "] * (width + 12)
    end = 0
    for tick in axes.lr_ticks(columns // 10):
        column = round(float(axes.x(tick)))
        name = _label(tick)
        start = 11 + column - len(name) // 2
        if start >= end and start + len(name) <= width:
            rule[column] = "+"
            names[start : start + len(name)] = name
            end = start + len(name) + 1
    if mark is not None and axes.lr_low <= mark <= axes.lr_high:
        rule[round(float(axes.x(mark)))] = "^"
    return [" " * 10 + "+" + "".join(rule), "".join(names).rstrip()]


def _svg_line(
    axes: _Axes,
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


def _svg_point(axes: _Axes, lr: float, loss: float, colour: str) -> str:
    # What ended above, or nowhere, is shown at the upper edge.
    y = axes.y(loss) if math.isfinite(loss) else 0.0
    return (
        f'<circle cx="{float(axes.x(lr)):.1f}" cy="{max(y, 4.0):.1f}" '
        f'r="4.5" fill="{colour}" stroke="white"/>'
    )


def _svg_band(
    axes: _Axes, mark: float | None, band: tuple[float, float] | None
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


def _svg_axes(axes: _Axes) -> str:
    """Returns grid, ticks and labels, in the page's own text colour."""
    bottom, right = _TOP + _HEIGHT, _LEFT + _WIDTH
    lines, texts = [], []
    for tick in axes.lr_ticks(8):
        x = _LEFT + float(axes.x(tick))
        lines.append(f"M{x:.1f} {_TOP}V{bottom}")
        texts.append(_svg_text(x, bottom + 16, "middle", _label(tick)))
    for tick in axes.loss_ticks(5):
        y = _TOP + axes.y(tick)
        lines.append(f"M{_LEFT} {y:.1f}H{right}")
        texts.append(_svg_text(_LEFT - 6, y + 4, "end", _label(tick)))
    middle = _LEFT + _WIDTH / 2
    texts.append(_svg_text(middle, bottom + 34, "middle", "learning rate"))
    return (
        f'<path d="{"".join(lines)}" stroke="currentColor" '
        f'stroke-opacity=".12"/>'
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" '
        f'stroke="currentColor" stroke-opacity=".7"/>{"".join(texts)}'
    )


def _svg_text(x: float, y: float, anchor: str, text: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
        f'fill="currentColor">{html.escape(text)}</text>'
    )
