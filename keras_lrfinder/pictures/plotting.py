"""A range test as a picture, and its two files."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.drawing.view import View
from keras_lrfinder.drawing.view import thin_out
from keras_lrfinder.drawing.view import view
from keras_lrfinder.pictures.figure import BLUE
from keras_lrfinder.pictures.figure import GREY
from keras_lrfinder.pictures.figure import frame
from keras_lrfinder.pictures.figure import legend_of
from keras_lrfinder.pictures.figure import new_axes
from keras_lrfinder.pictures.figure import save_plot
from keras_lrfinder.pictures.marks import Rule
from keras_lrfinder.pictures.marks import mark_probes
from keras_lrfinder.pictures.marks import mark_rules
from keras_lrfinder.pictures.marks import mark_stop
from keras_lrfinder.pictures.marks import mark_suggestion

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CELLS = 1000
_FEW = 30


def plot_curve(
    curve: Curve,
    suggestion: Suggestion | None = None,
    *,
    probes: Sequence[Probe] = (),
    rules: str | Rule | Iterable[str | Rule] | None = None,
    smooth: bool = True,
    raw: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draws a range test.

    Args:
        curve: What was measured.
        suggestion: Marked with its value and its range; where it has no
            learning rate, its reason is written into the picture. None
            marks nothing.
        probes: Runs at fixed learning rates, drawn as points at the loss
            that they reached.
        rules: Names in `RULES` or functions `Curve -> lr`, to be compared;
            one of them or several.
        smooth: Whether to draw the smoothing spline.
        raw: Whether to draw the raw losses; faint behind the spline.
        ax: Where to draw. None makes a figure of its own, which pyplot does
            not know: nothing to close.

    Returns:
        The matplotlib `Axes`; `.figure.savefig(...)` writes it to a file.
    """
    ax = new_axes() if ax is None else ax
    shown = view(curve.lrs, curve.losses)
    points = [(p.lr, p.final_loss) for p in probes]
    _frame(ax, curve, shown, points)
    if raw and len(shown.lrs):
        lrs, losses = thin_out(curve.lrs, curve.losses, _CELLS)
        style: dict[str, Any] = (
            {"color": GREY, "linewidth": 0.8, "alpha": 0.7}
            if smooth
            else {"color": BLUE, "linewidth": 1.0}
        )
        # Of a single step there is no line to see.
        style["marker"] = "." if len(curve) <= _FEW else ""
        ax.plot(lrs, losses, label="loss of each batch", zorder=2, **style)
    if smooth and len(shown.lrs):
        ax.plot(
            shown.lrs,
            shown.smooth,
            color=BLUE,
            linewidth=2.2,
            label="smoothed",
            zorder=4,
        )
    if suggestion is not None:
        mark_suggestion(ax, suggestion, shown, smooth)
    mark_stop(ax, curve)
    mark_probes(ax, points)
    mark_rules(ax, curve, rules)
    legend_of(ax, shown, beside_reason=bool(suggestion and not suggestion.lr))
    return ax


def save_plots(
    curve: Curve,
    suggestion: Suggestion | None,
    directory: str | os.PathLike[str],
    probes: Sequence[Probe] = (),
) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes `loss.jpg` and `smooth_loss.jpg`.

    Args:
        curve: What was measured.
        suggestion: What to mark, or None.
        directory: Where to; made if it is not there.
        probes: As for `plot_curve`.

    Returns:
        The two paths: the raw losses, and the smoothed ones.

    Raises:
        OSError: The directory cannot be made or written into.
    """
    folder = pathlib.Path(directory)
    return (
        save_plot(
            plot_curve(curve, suggestion, probes=probes, smooth=False),
            folder / "loss.jpg",
        ),
        save_plot(
            plot_curve(curve, suggestion, probes=probes),
            folder / "smooth_loss.jpg",
        ),
    )


def _frame(
    ax: Axes, curve: Curve, shown: View, points: list[tuple[float, float]]
) -> None:
    name = f"{curve.optimizer}, " if curve.optimizer else ""
    title = (
        f"LR range test, {name}{len(curve)} of {curve.steps} steps: "
        f"{curve.stop_reason.cause}"
    )
    frame(ax, title, curve.monitor, shown.log)
    if len(curve):
        lrs = [curve.lrs.min(), curve.lrs.max(), *(lr for lr, _ in points)]
        span = max(lrs) / min(lrs)
        margin = span**0.02 if span > 2.0 else 2.0
        ax.set_xlim(min(lrs) / margin, max(lrs) * margin)
    levels = [level for _, level in points if np.isfinite(level)]
    levels = [level for level in levels if level > 0 or not shown.log]
    low, high = shown.low, shown.high
    if levels and min(levels) < low:
        low = (
            min(levels) / 1.2
            if shown.log
            else min(levels) - 0.05 * (high - min(levels))
        )
    ax.set_ylim(low, high)
