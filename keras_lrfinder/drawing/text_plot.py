"""A range test in plain ASCII, for terminals and logs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from keras_lrfinder.drawing.axes import Axes
from keras_lrfinder.drawing.axes import label
from keras_lrfinder.drawing.view import View
from keras_lrfinder.drawing.view import thin_out
from keras_lrfinder.drawing.view import view


def text_plot(
    lrs: ArrayLike,
    losses: ArrayLike,
    width: int = 72,
    height: int = 16,
    title: str = "",
) -> str:
    """Returns a plot in plain ASCII, for terminals and logs.

    Dots are raw losses, stars the smooth line.

    Args:
        lrs: Array of shape `(n,)`, positive.
        losses: Array of shape `(n,)`.
        width: Integer >= 30, the most columns of a line.
        height: Integer >= 8, the number of lines, the title's included.
        title: String for the first line.

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
    axes = Axes(shown, lrs, columns - 1, rows - 1)
    cells = [[" "] * columns for _ in range(rows)]
    _put_dots(cells, axes, lrs, losses)
    _put_line(cells, axes, shown)
    labels = {round(axes.y(v)): label(v) for v in axes.loss_ticks(rows // 3)}
    for row, line in enumerate(cells):
        lines.append(f"{labels.get(row, ''):>9} |{''.join(line)}".rstrip())
    return "\n".join(lines + _text_axis(axes, columns, width))


def _put_dots(
    cells: list[list[str]], axes: Axes, lrs: ArrayLike, losses: ArrayLike
) -> None:
    x, y = thin_out(lrs, losses, 4 * len(cells[0]))
    inside = (y >= axes.low) & (y <= axes.high)
    across = np.rint(axes.x(x[inside])).astype(np.int64)
    down = np.rint(axes.ys(y[inside])).astype(np.int64)
    for column, row in zip(across.tolist(), down.tolist()):
        cells[row][column] = "."


def _put_line(cells: list[list[str]], axes: Axes, shown: View) -> None:
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


def _text_axis(axes: Axes, columns: int, width: int) -> list[str]:
    rule = ["-"] * columns
    names = [" "] * (width + 12)
    end = 0
    for tick in axes.lr_ticks(columns // 10):
        column = round(float(axes.x(tick)))
        name = label(tick)
        start = 11 + column - len(name) // 2
        if start >= end and start + len(name) <= width:
            rule[column] = "+"
            names[start : start + len(name)] = name
            end = start + len(name) + 1
    return [" " * 10 + "+" + "".join(rule), "".join(names).rstrip()]
