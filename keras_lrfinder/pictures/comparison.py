"""Several range tests in one picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import suggest
from keras_lrfinder.drawing.view import View
from keras_lrfinder.drawing.view import view
from keras_lrfinder.pictures.figure import CURVE_COLOURS
from keras_lrfinder.pictures.figure import DASHES
from keras_lrfinder.pictures.figure import frame
from keras_lrfinder.pictures.figure import legend_of
from keras_lrfinder.pictures.figure import shown_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "osD^vP"


def plot_curves(
    curves: Mapping[str, Curve],
    *,
    suggestions: Mapping[str, Suggestion] | None = None,
    relative: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draws several range tests in one picture.

    All curves share both axes and are smoothed alike. The window shows the
    descent of each.

    Args:
        curves: Label to curve: batch sizes, optimizers, weight decays.
        suggestions: Label to suggestion, a point on the line. None: what
            `suggest` says of each curve.
        relative: Draw every loss as a share of its own descent (1 at the
            start, 0 at the lowest point), to compare losses of different
            scales.
        ax: Where to draw. None makes a new figure of pyplot's, which a
            notebook shows.

    Returns:
        The matplotlib `Axes`.

    Raises:
        ValueError: There is no curve.
    """
    if not curves:
        raise ValueError(f"`curves` must not be empty. Received: {curves=}")
    ax = shown_axes() if ax is None else ax
    if suggestions is None:
        suggestions = {name: suggest(curve) for name, curve in curves.items()}
    views = {name: _shown(curve, relative) for name, curve in curves.items()}
    monitors = {curve.monitor for curve in curves.values()}
    loss = f"smoothed {monitors.pop() if len(monitors) == 1 else 'loss'}"
    frame(
        ax,
        "Learning rate range tests; marked: the suggestions",
        f"{loss}, as a share of its fall" if relative else loss,
        log=all(shown.log for shown in views.values()),
    )
    for i, (name, shown) in enumerate(views.items()):
        _draw_one(ax, i, str(name), shown, suggestions.get(name))
    seen = [shown for shown in views.values() if len(shown.lrs)]
    if seen:
        ax.set_ylim(min(s.low for s in seen), max(s.high for s in seen))
    legend_of(ax, seen[0] if seen else next(iter(views.values())))
    return ax


def _shown(curve: Curve, relative: bool) -> View:
    shown = view(curve.lrs, curve.losses)
    if not relative or not len(shown.lrs):
        return shown
    bottom = int(np.argmin(shown.smooth))
    low = float(shown.smooth[bottom])
    fall = float(shown.smooth[: bottom + 1].max()) - low
    share = (shown.smooth - low) / fall if fall > 0 else shown.smooth * 0 + 1.0
    return View(shown.lrs, share, -0.1, 1.3, False)


def _draw_one(
    ax: Axes, i: int, name: str, shown: View, suggestion: Suggestion | None
) -> None:
    colour = CURVE_COLOURS[i % len(CURVE_COLOURS)]
    lr = None if suggestion is None else suggestion.lr
    text = f"{name}: none" if lr is None else f"{name}: {lr:.3g}"
    # A legend leaves out what begins with an underscore.
    text = f" {text}" if text.startswith("_") else text
    style: dict[str, Any] = {
        "color": colour,
        "marker": _MARKERS[i % len(_MARKERS)],
        "markersize": 8,
        "markeredgecolor": "white",
    }
    ax.plot(
        shown.lrs,
        shown.smooth,
        linewidth=2.0,
        linestyle="-" if i < len(CURVE_COLOURS) else DASHES[0],
        # The marker is the suggestion's alone; the line shows it in the
        # legend.
        markevery=[],
        label=text,
        zorder=3,
        **style,
    )
    if lr is not None and len(shown.lrs):
        ax.plot([lr], [shown.at(lr)], zorder=5, **style)
