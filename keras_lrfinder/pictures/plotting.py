"""Curves and suggestions to pictures.

matplotlib is imported inside the functions, and nothing global of it is
touched: no backend is chosen, no setting is changed, and pyplot neither sees
the figures nor keeps them. They need no display.
"""

from __future__ import annotations

import os
import pathlib
import textwrap
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.stop_reason import StopReason
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import suggest
from keras_lrfinder.drawing.view import View
from keras_lrfinder.drawing.view import thin_out
from keras_lrfinder.drawing.view import view

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rule = Callable[[Curve], float]

__all__ = ["plot_curve", "plot_curves", "save_plot", "save_plots"]

# Okabe and Ito (2008): told apart with every kind of colour vision.
_BLUE = "#0072B2"
_VERMILLION = "#D55E00"
_GREEN = "#009E73"
_ORANGE = "#E69F00"
_PURPLE = "#CC79A7"
_SKY = "#56B4E9"
_GREY = "#999999"
_INK = "#222222"

_CURVE_COLOURS = (_BLUE, _VERMILLION, _GREEN, _PURPLE, _ORANGE, _SKY)
_RULE_COLOURS = (_PURPLE, _GREEN, _ORANGE, _SKY)
_DASHES = ((0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (2, 2)))
_MARKERS = "osD^vP"

_SIZE = (8.0, 4.5)  # inches
_DPI = 150
_CELLS = 1000
_FEW = 30


def plot_curve(
    curve: Curve,
    suggestion: Suggestion | None = None,
    *,
    probes: Sequence[Any] = (),
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
        probes: Objects with `lr` and `losses` (the runs at fixed learning
            rates), drawn as points at the loss they reached.
        rules: Names in `RULES` or functions `Curve -> lr`, to be compared;
            one of them or several.
        smooth: Whether to draw the smoothing spline.
        raw: Whether to draw the raw losses; faint behind the spline.
        ax: Where to draw. None makes a figure of its own, which pyplot does
            not know: nothing to close.

    Returns:
        The matplotlib `Axes`; `.figure.savefig(...)` writes it to a file.
    """
    ax = _new_axes() if ax is None else ax
    shown = view(curve.lrs, curve.losses)
    found = [(_probe_level(p), float(p.lr)) for p in probes]
    _frame(ax, curve, shown, found)
    if raw and len(shown.lrs):
        lrs, losses = thin_out(curve.lrs, curve.losses, _CELLS)
        style: dict[str, Any] = (
            {"color": _GREY, "linewidth": 0.8, "alpha": 0.7}
            if smooth
            else {"color": _BLUE, "linewidth": 1.0}
        )
        # Of a single step there is no line to see.
        style["marker"] = "." if len(curve) <= _FEW else ""
        ax.plot(lrs, losses, label="loss of each batch", zorder=2, **style)
    if smooth and len(shown.lrs):
        ax.plot(
            shown.lrs,
            shown.smooth,
            color=_BLUE,
            linewidth=2.2,
            label="smoothed",
            zorder=4,
        )
    if suggestion is not None:
        _mark_suggestion(ax, suggestion, shown, smooth)
    _mark_stop(ax, curve)
    _mark_probes(ax, found)
    _mark_rules(ax, curve, _listed(rules))
    _legend(ax, shown, beside_reason=bool(suggestion and not suggestion.lr))
    return ax


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
        ax: Where to draw. None makes a figure that pyplot does not know.

    Returns:
        The matplotlib `Axes`.

    Raises:
        ValueError: There is no curve.
    """
    if not curves:
        raise ValueError(f"`curves` must not be empty. Received: {curves=}")
    ax = _new_axes() if ax is None else ax
    if suggestions is None:
        suggestions = {name: suggest(curve) for name, curve in curves.items()}
    views = {name: _shown(curve, relative) for name, curve in curves.items()}
    ax.set_xscale("log")
    if all(shown.log for shown in views.values()):
        ax.set_yscale("log")
    for i, (name, shown) in enumerate(views.items()):
        _draw_one(ax, i, str(name), shown, suggestions.get(name))
    seen = [shown for shown in views.values() if len(shown.lrs)]
    if seen:
        ax.set_ylim(min(s.low for s in seen), max(s.high for s in seen))
    monitors = {curve.monitor for curve in curves.values()}
    label = monitors.pop() if len(monitors) == 1 else "loss"
    ax.set_xlabel("learning rate")
    ax.set_ylabel(
        f"smoothed {label}, as a share of its fall"
        if relative
        else f"smoothed {label}",
        parse_math=False,
    )
    ax.set_title("Learning rate range tests; marked: the suggestions")
    ax.grid(True, which="major", alpha=0.25, linewidth=0.6)
    _legend(ax, seen[0] if seen else next(iter(views.values())))
    return ax


def save_plots(
    curve: Curve,
    suggestion: Suggestion | None,
    directory: str | os.PathLike[str],
    probes: Sequence[Any] = (),
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


def _figure_of(ax: Axes) -> Figure:
    figure = ax.figure
    if figure is None:
        raise ValueError("`ax` must belong to a figure; it has been removed")
    # That of a subfigure is the whole figure, that of a figure itself.
    whole: Figure = figure.figure
    return whole


def _new_axes() -> Axes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Every colour is said, so that a dark style of the user's cannot make
    # half of the picture light on white.
    figure = Figure(
        figsize=_SIZE, dpi=100, layout="constrained", facecolor="white"
    )
    FigureCanvasAgg(figure)
    ax = figure.add_subplot(facecolor="white")
    ax.tick_params(which="both", colors=_INK, labelsize=10)
    for side, spine in ax.spines.items():
        spine.set_color(_INK)
        spine.set_linewidth(0.8)
        spine.set_visible(side in ("left", "bottom"))
    for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
        text.set_color(_INK)
        text.set_fontsize(11)
    return ax


def _frame(
    ax: Axes, curve: Curve, shown: View, probes: list[tuple[float, float]]
) -> None:
    ax.set_xscale("log")
    if shown.log:
        ax.set_yscale("log")
    if len(curve):
        lrs: list[float] = [
            curve.lrs.min(),
            curve.lrs.max(),
            *(lr for _, lr in probes),
        ]
        span = max(lrs) / min(lrs)
        margin = span**0.02 if span > 2.0 else 2.0
        ax.set_xlim(min(lrs) / margin, max(lrs) * margin)
    levels = [level for level, _ in probes if np.isfinite(level)]
    levels = [level for level in levels if level > 0 or not shown.log]
    low, high = shown.low, shown.high
    if levels and min(levels) < low:
        low = (
            min(levels) / 1.2
            if shown.log
            else min(levels) - 0.05 * (high - min(levels))
        )
    ax.set_ylim(low, high)
    name = f"{curve.optimizer}, " if curve.optimizer else ""
    title = (
        f"LR range test, {name}{len(curve)} of {curve.steps} steps: "
        f"{curve.stop_reason.cause}"
    )
    ax.set_title(textwrap.fill(title, int(14 * _inches(ax))), parse_math=False)
    ax.set_xlabel("learning rate")
    ax.set_ylabel(curve.monitor, parse_math=False)
    ax.grid(True, which="major", alpha=0.25, linewidth=0.6)


def _mark_stop(ax: Axes, curve: Curve) -> None:
    if not len(curve) or curve.stop_reason is StopReason.COMPLETED:
        return
    lr = float(curve.lrs[-1])
    ax.axvline(
        lr,
        color=_ink(ax),
        linestyle=(0, (1, 2)),
        linewidth=1.2,
        label=f"stopped at {lr:.3g}",
        zorder=3,
    )


def _mark_probes(ax: Axes, probes: list[tuple[float, float]]) -> None:
    top = ax.get_ylim()[1]
    inside = [(lr, y) for y, lr in probes if np.isfinite(y) and y <= top]
    above = [lr for y, lr in probes if not (np.isfinite(y) and y <= top)]
    if inside:
        ax.plot(
            *zip(*inside),
            linestyle="none",
            marker="D",
            markersize=7,
            color=_GREEN,
            markeredgecolor="white",
            label="probes, after their last step",
            zorder=6,
        )
    if above:
        ax.plot(
            above,
            [0.97] * len(above),
            transform=ax.get_xaxis_transform(),
            linestyle="none",
            marker="^",
            markersize=8,
            color=_GREEN,
            markeredgecolor="white",
            label="probes that ended above",
            zorder=6,
        )


def _listed(
    rules: str | Rule | Iterable[str | Rule] | None,
) -> Iterable[str | Rule]:
    if rules is None:
        return ()
    # A string is iterable as well, letter by letter.
    return [rules] if isinstance(rules, str) or callable(rules) else rules


def _mark_rules(ax: Axes, curve: Curve, rules: Iterable[str | Rule]) -> None:
    for i, rule in enumerate(rules):
        found = suggest(curve, rule)
        colour = _RULE_COLOURS[i % len(_RULE_COLOURS)]
        style: dict[str, Any] = {
            "color": colour,
            "linewidth": 1.6,
            "linestyle": _DASHES[i % len(_DASHES)],
            "zorder": 3,
        }
        if found.lr is None:
            ax.plot([], [], label=f"{found.rule}: none", **style)
        else:
            ax.axvline(found.lr, label=f"{found.rule}: {found.lr:.3g}", **style)


def _mark_suggestion(
    ax: Axes, suggestion: Suggestion, shown: View, on_line: bool
) -> None:
    lr = suggestion.lr
    if lr is None:
        _write_reason(ax, suggestion.reason)
        return
    sure = suggestion.confidence != "low"
    ax.axvline(
        lr,
        color=_VERMILLION,
        linewidth=1.8,
        linestyle="-" if sure else (0, (4, 1.5)),
        label=f"suggested: {lr:.3g}" + ("" if sure else ", low confidence"),
        zorder=3,
    )
    if suggestion.low is not None and suggestion.high is not None:
        ax.axvspan(
            suggestion.low,
            suggestion.high,
            color=_VERMILLION,
            alpha=0.13,
            linewidth=0,
            zorder=1,
            label=f"{suggestion.low:.2g} to {suggestion.high:.2g} would do",
        )
    if on_line and len(shown.lrs):
        ax.plot(
            [lr],
            [shown.at(lr)],
            marker="o",
            markersize=8,
            color=_VERMILLION,
            markeredgecolor="white",
            zorder=7,
        )
    left, right = ax.get_xlim()
    on_the_right = np.log(lr / left) > 0.7 * np.log(right / left)
    ax.annotate(
        f"{lr:.3g}",
        xy=(lr, 1.0),
        xycoords=ax.get_xaxis_transform(),
        xytext=(-5 if on_the_right else 5, -4),
        textcoords="offset points",
        ha="right" if on_the_right else "left",
        va="top",
        color=_VERMILLION,
        fontsize=12,
        fontweight="bold",
        bbox={
            "facecolor": ax.get_facecolor(),
            "edgecolor": "none",
            "alpha": 0.85,
            "pad": 1.5,
        },
        zorder=8,
    )


def _write_reason(ax: Axes, reason: str) -> None:
    # Room for it above the curve.
    low, high = ax.transData.transform([(1.0, y) for y in ax.get_ylim()])[:, 1]
    room = ax.transData.inverted().transform([(0.0, high + 0.4 * (high - low))])
    ax.set_ylim(top=float(room[0, 1]))
    ax.text(
        0.5,
        0.95,
        textwrap.fill(
            f"No learning rate to suggest: {reason}",
            min(int(11 * _inches(ax)), 66),
        ),
        transform=ax.transAxes,
        ha="center",
        va="top",
        color=_INK,
        fontsize=10.5,
        parse_math=False,
        bbox={
            "facecolor": "#FFF4E5",
            "edgecolor": _VERMILLION,
            "linewidth": 0.8,
            "boxstyle": "round,pad=0.6",
        },
        zorder=9,
    )


def _shown(curve: Curve, relative: bool) -> View:
    shown = view(curve.lrs, curve.losses)
    if not relative or not len(shown.lrs):
        return shown
    bottom = int(np.argmin(shown.smooth))
    low = float(shown.smooth[bottom])
    fall = float(shown.smooth[: bottom + 1].max()) - low
    if not fall > 0:
        return View(shown.lrs, shown.smooth * 0.0 + 1.0, -0.1, 1.3, False)
    return View(shown.lrs, (shown.smooth - low) / fall, -0.1, 1.3, False)


def _draw_one(
    ax: Axes, i: int, name: str, shown: View, suggestion: Suggestion | None
) -> None:
    colour = _CURVE_COLOURS[i % len(_CURVE_COLOURS)]
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
        linestyle="-" if i < len(_CURVE_COLOURS) else _DASHES[0],
        # The marker is the suggestion's alone; the line shows it in the
        # legend.
        markevery=[],
        label=text,
        zorder=3,
        **style,
    )
    if lr is not None and len(shown.lrs):
        ax.plot([lr], [shown.at(lr)], zorder=5, **style)


def _probe_level(probe: Any) -> float:
    """Returns the loss that a probe reached."""
    for name in ("score", "held_out"):
        value = getattr(probe, name, None)
        if value is not None:
            return float(value)
    losses = np.asarray(probe.losses, dtype=np.float64)
    tail = losses[-max(len(losses) // 4, 1) :]
    return float(np.mean(tail)) if len(tail) else float("nan")


def _legend(ax: Axes, shown: View, beside_reason: bool = False) -> None:
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
    legend = ax.legend(
        loc="lower left" if low else "upper left",
        ncols=4 if beside_reason else 1,
        fontsize=9.5 if _inches(ax) > 5 else 7.0,
        framealpha=0.9,
        facecolor=ax.get_facecolor(),
        edgecolor="none",
        labelcolor=_ink(ax),
    )
    legend.set_zorder(10)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _ink(ax: Axes) -> Any:
    return ax.xaxis.label.get_color()


def _inches(ax: Axes) -> float:
    """Returns the width of the axes; constrained layouts change it little."""
    box = ax.get_position()
    return max(float(box.width * _figure_of(ax).get_figwidth()), 2.0)
