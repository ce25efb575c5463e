"""Figures of their own: colours, axes, legend, files.

matplotlib is imported inside the functions. No setting of it is changed, and
pyplot knows only the figures that are made to be shown; files need no
display.
"""

from __future__ import annotations

import os
import pathlib
import textwrap
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_lrfinder.drawing.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008): told apart with every kind of colour vision.
BLUE = "#0072B2"
VERMILLION = "#D55E00"
GREEN = "#009E73"
ORANGE = "#E69F00"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
GREY = "#999999"
INK = "#222222"

CURVE_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
RULE_COLOURS = (PURPLE, GREEN, ORANGE, SKY)
# How the second, third, … of several lines is told apart.
DASHES = ((0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (2, 2)))

_SIZE = (8.0, 4.5)  # inches
_PAPER: dict[str, Any] = {
    "figsize": _SIZE,
    "dpi": 100,
    "layout": "constrained",
    "facecolor": "white",
}
_DPI = 150


def new_axes() -> Axes:
    """Returns the axes of a figure that pyplot does not know."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(**_PAPER)
    FigureCanvasAgg(figure)
    return _axes_in(figure)


def shown_axes() -> Axes:
    """Returns the axes of pyplot's new current figure.

    A notebook shows it below its cell, `plt.show()` in a window, and
    `plt.savefig` writes it. Where nothing is shown, as in a batch script, the
    last one of these is closed before: it can still be saved by its axes, and
    they do not pile up.
    """
    global _last_unseen
    import matplotlib.pyplot as plt

    figure = plt.figure(**_PAPER)
    if plt.get_backend().lower() in _UNSEEN:
        if _last_unseen is not None:
            plt.close(_last_unseen())
        _last_unseen = weakref.ref(figure)
    return _axes_in(figure)


_UNSEEN = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")
_last_unseen: Callable[[], Any] | None = None


def _axes_in(figure: Figure) -> Axes:
    # Every colour is said, so that a dark style of the user's cannot make
    # half of the picture light on white.
    ax = figure.add_subplot(facecolor="white")
    ax.tick_params(which="both", colors=INK, labelsize=10)
    for side, spine in ax.spines.items():
        spine.set_color(INK)
        spine.set_linewidth(0.8)
        spine.set_visible(side in ("left", "bottom"))
    for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
        text.set_color(INK)
        text.set_fontsize(11)
    return ax


def frame(ax: Axes, title: str, loss: str, log: bool) -> None:
    """Sets both scales, the labels and the grid."""
    ax.set_xscale("log")
    if log:
        ax.set_yscale("log")
    ax.set_xlabel("learning rate")
    # What users name is no mathematics.
    ax.set_ylabel(loss, parse_math=False)
    ax.set_title(textwrap.fill(title, int(14 * inches(ax))), parse_math=False)
    ax.grid(True, which="major", alpha=0.25, linewidth=0.6)


def save_plot(
    ax: Axes, path: str | os.PathLike[str], dpi: int = _DPI
) -> pathlib.Path:
    """Writes the figure of `ax` to a file.

    Args:
        ax: What `plot_curve` or `plot_curves` returned.
        path: Its ending says the format: jpg, png, svg, pdf. Folders on the
            way are made.
        dpi: Integer, pixels per inch; the figures are 8 inches wide.

    Returns:
        The path.

    Raises:
        OSError: The file cannot be written.
        ValueError: The format is unknown.
    """
    file = pathlib.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure = _figure_of(ax)
    figure.savefig(
        file, dpi=dpi, facecolor=figure.get_facecolor(), transparent=False
    )
    return file


def legend_of(ax: Axes, shown: View, beside_reason: bool = False) -> None:
    """Puts the legend where it hides little of what is shown."""
    handles, _ = ax.get_legend_handles_labels()
    if not handles:
        return
    # Below the plateau at small learning rates, unless the line is there.
    left = shown.smooth[: max(len(shown.smooth) // 3, 1)]
    middle = (
        np.sqrt(shown.low * shown.high)
        if shown.log
        else (shown.low + shown.high) / 2
    )
    low = len(left) == 0 or float(left.min()) > middle or beside_reason
    place: Any = "lower left"
    if not low:
        # At the top stands the number that matters.
        place = "center left" if ax.texts else "upper left"
    legend = ax.legend(
        loc=place,
        ncols=4 if beside_reason else 1,
        fontsize=9.5 if inches(ax) > 5 else 7.0,
        framealpha=0.9,
        facecolor=ax.get_facecolor(),
        edgecolor="none",
        labelcolor=ink(ax),
    )
    legend.set_zorder(10)
    for text in legend.get_texts():
        text.set_parse_math(False)


def ink(ax: Axes) -> Any:
    """Returns the colour of the axes' own texts."""
    return ax.xaxis.label.get_color()


def inches(ax: Axes) -> float:
    """Returns the width of the axes; constrained layouts change it little."""
    box = ax.get_position()
    return max(float(box.width * _figure_of(ax).get_figwidth()), 2.0)


def _figure_of(ax: Axes) -> Figure:
    figure = ax.figure
    if figure is None:
        raise ValueError("`ax` must belong to a figure; it has been removed")
    # That of a subfigure is the whole figure, that of a figure itself.
    whole: Figure = figure.figure
    return whole
