"""A range test as a picture, several in one, and the two files.

matplotlib is imported inside the functions; no setting of it is changed, and
files need no display.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import textwrap
import uuid
import weakref
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.curve import StopReason
from keras_lrfinder.analysis.posterior import PROBE_STEPS
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import suggest
from keras_lrfinder.pictures import view as views
from keras_lrfinder.pictures.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rule = str | Callable[[Curve], "float | None"]

# Okabe and Ito (2008): told apart with every kind of colour vision.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, PURPLE, SKY = "#E69F00", "#CC79A7", "#56B4E9"
GREY, INK = "#8C8C8C", "#222222"
_CURVES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
_RULES, _MARKERS = (ORANGE, PURPLE, SKY, INK), "osD^vPXp"
_SIZE = (8.0, 4.8)  # inches
# So many points are drawn of a long test; so many names fit below the axes.
_MOST_POINTS, _FEW_NAMES = 1000, 4


def plot_curve(
    curve: Curve,
    suggestion: Suggestion | None = None,
    *,
    runs: Sequence[Run] = (),
    rules: Rule | Iterable[Rule] = (),
    smooth: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draws a range test, and returns the matplotlib `Axes`.

    With `smooth` a smoothing spline, and no more than a part of the plateau
    before the descent; else the whole test, as measured.
    """
    ax = _shown_axes() if ax is None else ax
    shown = views.view(curve.lrs, curve.losses)
    _frame(ax, curve.monitor, shown.log)
    if len(curve):
        found = suggestion or Suggestion.refused("", "")
        lrs = [lr for lr in (found.lr, found.low, found.high) if lr]
        lrs.append(shown.left if smooth else float(curve.lrs[0]))
        _set_window(ax, curve, shown, runs, lrs)
    if len(shown.lrs):
        _draw_losses(ax, curve, shown, smooth)
    if suggestion is not None and suggestion.lr is not None:
        _mark_suggestion(ax, suggestion, shown, smooth)
    if len(curve) and curve.stop_reason is not StopReason.COMPLETED:
        style: dict[str, Any] = {"label": curve.stop_reason.cause}
        style |= {"color": ax.xaxis.label.get_color(), "linewidth": 1.2}
        ax.axvline(float(curve.lrs[-1]), linestyle=(0, (1, 2)), **style)
    for whole, name in ((False, "probes"), (True, "whole trainings")):
        _mark_runs(ax, [r for r in runs if is_training(r) == whole], name)
    _mark_rules(ax, curve, shown, rules)
    _write_title(ax, *_title(curve, suggestion))
    _add_legend(ax)
    return ax


def plot_curves(
    curves: Mapping[str, Curve],
    *,
    suggestions: Mapping[str, Suggestion] | None = None,
    relative: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draws several range tests in one picture.

    All share both axes; the window shows the descent of each.

    Args:
        curves: Label to curve: batch sizes, optimizers, weight decays.
        suggestions: Label to suggestion. None: what `suggest` says.
        relative: Draw every loss as a share of its descent, from 1 to 0.
        ax: Where to draw. None makes a new figure of pyplot's, which a
            notebook shows.

    Returns:
        The matplotlib `Axes`.

    Raises:
        ValueError: There is no curve.
    """
    if not curves:
        raise ValueError(f"`curves` must not be empty. Received: {curves=}")
    many = len(curves) > _FEW_NAMES
    ax = _shown_axes(11.0 if many else _SIZE[0]) if ax is None else ax
    found = suggestions or {
        name: suggest(each) for name, each in curves.items()
    }
    parts = {name: _view_of(each, relative) for name, each in curves.items()}
    monitors = {curve.monitor for curve in curves.values()}
    loss = f"{monitors.pop() if len(monitors) == 1 else 'loss'}, smoothed"
    loss = f"{loss}, as a share of its fall" if relative else loss
    log = all(shown.log for shown in parts.values())
    _frame(ax, loss, log)
    seen = [shown for shown in parts.values() if len(shown.lrs)]
    # What only rises would widen the window of all others.
    seen = [shown for shown in seen if shown.falls] or seen
    if seen:
        # The window of a logarithmic axis is far too high for a linear one.
        tops = [s.high if s.log == log else 1.2 * s.smooth[0] for s in seen]
        ax.set_ylim(min(s.low for s in seen), max(tops))
        lrs = [each.lr for each in found.values() if each.lr is not None]
        lrs += [s.left for s in seen] + [s.right for s in seen]
        _set_lrs(ax, min(lrs), max(lrs))
    for i, (name, shown) in enumerate(parts.items()):
        _draw_one(ax, i, str(name), shown, found.get(name))
    _write_title(ax, "Learning rate range tests, and what each suggests")
    _add_legend(ax, beside=many)
    return ax


def save_plots(
    curve: Curve,
    suggestion: Suggestion | None,
    directory: str | os.PathLike[str],
    runs: Sequence[Run] = (),
) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes `loss.jpg` and `smooth_loss.jpg`.

    The first is the whole test as measured; the second shows its descent,
    smoothed, with what is suggested and the runs that followed. No file is
    left half written.
    """
    folder = pathlib.Path(directory).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    raw = plot_curve(curve, suggestion, smooth=False, ax=new_axes())
    file = _write(raw, folder / "loss.jpg")
    smooth = plot_curve(curve, suggestion, runs=runs, ax=new_axes())
    return file, _write(smooth, folder / "smooth_loss.jpg")


def is_training(run: Run) -> bool:
    """Returns whether a run was a whole training, not a probe."""
    return run.schedule != "constant" or run.steps > PROBE_STEPS


def new_axes(ink: str = INK, paper: str = "white") -> Axes:
    """Returns the axes of a figure that pyplot does not know."""
    from matplotlib.figure import Figure

    how: Any = {"facecolor": paper, "layout": "constrained"}
    return _axes_in(Figure(_SIZE, 100, **how), ink, paper)


def figure_of(ax: Axes) -> Figure:
    """Returns the whole figure, also of axes in a subfigure."""
    return ax.figure.figure


def _shown_axes(width: float = _SIZE[0]) -> Axes:
    """Returns the axes of pyplot's new current figure."""
    global _last_unseen
    import matplotlib.pyplot as plt

    how: dict[str, Any] = {"figsize": (width, _SIZE[1]), "facecolor": "white"}
    figure = plt.figure(dpi=100, layout="constrained", **how)
    # In a batch script they would pile up: the last one is closed before, and
    # can still be saved by its axes.
    if plt.get_backend().lower() in _UNSEEN:
        if _last_unseen is not None:
            plt.close(_last_unseen())
        _last_unseen = weakref.ref(figure)
    return _axes_in(figure, INK, "white")


_UNSEEN = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")
_last_unseen: Callable[[], Any] | None = None


def _axes_in(figure: Figure, ink: str, paper: str) -> Axes:
    # Every colour is said: a dark style of the user's must not mix in.
    ax = figure.add_subplot(facecolor=paper)
    ax.tick_params(which="both", colors=ink, labelsize=10)
    for side, spine in ax.spines.items():
        spine.set(color=ink, linewidth=0.8, visible=side in ("left", "bottom"))
    for text in (ax.xaxis.label, ax.yaxis.label):
        text.set(color=ink, fontsize=11)
    return ax


def _write(ax: Axes, file: pathlib.Path) -> pathlib.Path:
    part = file.with_name(f".{file.stem}-{uuid.uuid4().hex[:8]}{file.suffix}")
    how: Any = {"transparent": False, "pil_kwargs": {"quality": 93}}
    try:
        figure_of(ax).savefig(part, dpi=150, facecolor="white", **how)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return file


def _inches(ax: Axes) -> float:
    """Returns the width of the axes; constrained layouts change it little."""
    width = ax.get_position().width * figure_of(ax).get_figwidth()
    return max(float(width), 2.0)


def _makes_room(ax: Axes) -> bool:
    """Returns whether its figure makes room for what is outside the axes."""
    return figure_of(ax).get_layout_engine() is not None


def _up(ax: Axes, points: float) -> Any:
    from matplotlib.transforms import ScaledTranslation

    return ScaledTranslation(0, points / 72, figure_of(ax).dpi_scale_trans)


def _frame(ax: Axes, loss: str, log: bool) -> None:
    scale = "log" if log else "linear"
    ax.set(xscale="log", yscale=scale, axisbelow=True, xlabel="learning rate")
    # What users name is no mathematics.
    ax.set_ylabel(loss, parse_math=False)
    ax.grid(True, which="major", alpha=0.25, linewidth=0.6)


def _set_window(
    ax: Axes, curve: Curve, shown: View, runs: Sequence[Run], lrs: list[float]
) -> None:
    low, high = shown.low, shown.high
    least = 0.0 if shown.log else -np.inf
    levels = [low, *(run.final_loss or low for run in runs)]
    lowest = min(y for y in levels if y > least)
    # So that the lowest mark is whole.
    share = (high / lowest) ** 0.05 if shown.log else 0.05 * (high - lowest)
    low = min(low, lowest / share if shown.log else lowest - share)
    ax.set_ylim(low, high)
    first, last = float(curve.lrs[0]), float(curve.lrs[-1])
    # A range that reaches far out is not followed.
    lrs = np.clip(lrs, first / 3.0, last * 3.0).tolist()
    lrs += [last, *(run.lr for run in runs)]
    _set_lrs(ax, min(lrs), max(lrs))


def _set_lrs(ax: Axes, low: float, high: float) -> None:
    """Sets the window, and the roundest learning rates that have room."""
    from matplotlib.ticker import MaxNLocator

    margin = (high / low) ** 0.03 if high / low > 1.001 else 1.5
    low, high = low / margin, high * margin
    room = 0.7 * np.log10(high / low) / _inches(ax)
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.log10(high))
    chosen: list[float] = []
    for digits in ([1.0], [2.0, 5.0], [3.0], [7.0], [1.5]):
        for lr in np.outer(powers, digits).ravel().tolist():
            near = [abs(np.log10(lr / each)) < room for each in chosen]
            if low <= lr <= high and not any(near):
                chosen.append(lr)
    if len(chosen) < 3 and high / low < 3.0:
        few = MaxNLocator(max(int(_inches(ax) / 1.1), 2), min_n_ticks=2)
        chosen = list(few.tick_values(low, high))
    ax.set_xticks(chosen)
    ax.set_xlim(low, high)
    for axis in (ax.xaxis, ax.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_formatter(_tick)
            axis.set_minor_formatter("")


def _tick(value: float, _: float) -> str:
    digits, power = f"{value:.4e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{power}"


def _title(curve: Curve, suggestion: Suggestion | None) -> tuple[str, str]:
    optimizer = f" for {curve.optimizer}" if curve.optimizer else ""
    if suggestion is None:
        return f"Learning rate range test{optimizer}", ""
    if suggestion.lr is None:
        return f"No learning rate{optimizer}", suggestion.reason
    name, sure = "Learning rate", f"{suggestion.confidence} confidence"
    if suggestion.schedule != "constant":
        name = f"Peak learning rate of {suggestion.schedule}"
    is_low = suggestion.confidence == "low"
    if not is_low:
        sure += f", range {width_of(suggestion)}"
    title = f"{name}{optimizer}: {suggestion.lr:.1e}, {sure}"
    return title, suggestion.reason if is_low else ""


def width_of(suggestion: Suggestion) -> str:
    """Returns how wide the range is, which is what confidence is in."""
    low, high = suggestion.low or 1.0, suggestion.high or 1.0
    return f"x{high / low:.0f}"


def _write_title(ax: Axes, title: str, note: str = "") -> None:
    width, ink = _inches(ax), ax.xaxis.label.get_color()
    most = int((45 if width > 5.0 else 26) * width)
    note = textwrap.shorten(note, most, placeholder=" …")
    note = textwrap.fill(note, int(15 * width)) if _makes_room(ax) else ""
    above = 8.0 + (12.5 * (note.count("\n") + 1) if note else 0.0)
    font: dict[str, Any] = {"color": ink, "parse_math": False}
    place = ax.transAxes + _up(ax, 6.0)
    ax.text(0, 1, note, fontsize=9, va="bottom", transform=place, **font)
    font |= {"fontweight": "bold", "fontsize": 12 if width > 5.0 else 10}
    ax.set_title(
        textwrap.fill(title, int(11 * width)), loc="left", pad=above, **font
    )


def _draw_losses(ax: Axes, curve: Curve, shown: View, smooth: bool) -> None:
    many = len(curve) > _MOST_POINTS
    style: dict[str, Any] = {"alpha": 0.3, "markersize": 2.5, "marker": "o"}
    if not many:
        style |= {"alpha": 0.65, "markersize": 3.5, "linewidth": 0.9}
    style["color"] = GREY if smooth else BLUE
    style["linestyle"] = "none" if smooth or many else "-"
    style["label"] = f"loss of {'some of the steps' if many else 'each step'}"
    lrs, losses = views.thin_out(curve.lrs, curve.losses, _MOST_POINTS)
    ax.plot(lrs, losses, markeredgewidth=0, zorder=2, **style)
    if smooth:
        style = {"color": BLUE, "linewidth": 2.4, "label": "smoothed"}
        ax.plot(shown.lrs, shown.smooth, zorder=4, **style)


def _mark_suggestion(
    ax: Axes, suggestion: Suggestion, shown: View, smooth: bool
) -> None:
    lr, sure = float(suggestion), suggestion.confidence == "high"
    style: dict[str, Any] = {"color": VERMILLION, "label": "suggested"}
    style["linestyle"] = "-" if sure else (0, (4, 1.5))
    ax.axvline(lr, linewidth=1.8, zorder=3, **style)
    low, high = suggestion.low, suggestion.high
    if smooth and low is not None and high is not None:
        style = {"color": VERMILLION, "alpha": 0.13, "linewidth": 0}
        style["label"] = "the best one may lie anywhere here"
        if sure:
            style["label"] = "holds the best one in 95 of 100 tests"
        ax.axvspan(low, high, zorder=1, **style)
    if smooth and len(shown.lrs):
        _dots(ax, [lr], [shown.at(lr)], marker="o", color=VERMILLION, zorder=7)


def _mark_runs(ax: Axes, runs: Sequence[Run], name: str) -> None:
    """Marks what runs came to; at the top what ended above, or blew up."""
    ends = [(r.lr, r.final_loss) for r in runs if r.final_loss is not None]
    # Of a run that blew up the loss is NaN, which is never below.
    inside = [(lr, loss) for lr, loss in ends if loss <= ax.get_ylim()[1]]
    above = [(lr, 0.965) for lr, loss in ends if (lr, loss) not in inside]
    style: dict[str, Any] = {"marker": "D", "markersize": 7.5, "color": GREEN}
    if any(map(is_training, runs)):
        style |= {"marker": "*", "markersize": 14}
    if any(run.schedule != "constant" for run in runs):
        name += ", at their peak"
    if inside:
        _dots(ax, *zip(*inside), label=name, **style)
    if above:
        style |= {"markerfacecolor": "none", "markeredgecolor": GREEN}
        style |= {"markeredgewidth": 1.6, "transform": ax.get_xaxis_transform()}
        name += " that ended above, or blew up"
        _dots(ax, *zip(*above), label=name, **style)


def _dots(ax: Axes, lrs: Any, losses: Any, **more: Any) -> None:
    style = {"markersize": 8, "zorder": 6, "markeredgecolor": "white", **more}
    ax.plot(lrs, losses, linestyle="none", **style)


def _mark_rules(
    ax: Axes, curve: Curve, shown: View, rules: Rule | Iterable[Rule]
) -> None:
    """Marks what rules answer, above the line: equal answers in a pile."""
    # A string is iterable as well, letter by letter.
    one = isinstance(rules, str) or callable(rules)
    several: Any = [rules] if one else rules
    left, right = np.log(ax.get_xlim())
    width = 0.14 / _inches(ax) * (right - left)
    marked: list[float] = []
    for i, rule in enumerate(several):
        found = suggest(curve, rule)
        style: dict[str, Any] = {
            "color": _RULES[i % 4],
            "marker": "v<>^"[i // 4 % 4],
        }
        if found.lr is None:
            _dots(ax, [], [], label=f"{found.rule}: none", **style)
            continue
        x = float(np.log(found.lr))
        pile = sum(abs(x - other) < width for other in marked)
        marked.append(x)
        style["transform"] = ax.transData + _up(ax, 8.0 + 10.0 * pile)
        style["label"] = f"{found.rule}: {found.lr:.1e}"
        _dots(ax, [found.lr], [shown.at(found.lr)], **style)


def _view_of(curve: Curve, relative: bool) -> View:
    shown = views.view(curve.lrs, curve.losses)
    if not relative or not len(shown.lrs):
        return shown
    low = float(shown.smooth.min())
    fall = float(shown.smooth[: np.argmin(shown.smooth) + 1].max()) - low
    share = (shown.smooth - low) / fall if fall > 0 else shown.smooth * 0 + 1.0
    shown = dataclasses.replace(shown, smooth=share, log=False)
    return dataclasses.replace(shown, low=-0.1, high=1.3)


def _draw_one(
    ax: Axes, i: int, name: str, shown: View, suggestion: Suggestion | None
) -> None:
    lr = None if suggestion is None else suggestion.lr
    name = textwrap.shorten(name, 40, placeholder="…") or name
    name += ": none" if lr is None else f": {lr:.1e}"
    style: dict[str, Any] = {"color": _CURVES[i % 6], "marker": _MARKERS[i % 8]}
    style |= {"markersize": 8, "markeredgecolor": "white"}
    line: dict[str, Any] = {"linestyle": "-" if i < 6 else (0, (5, 2))}
    # A legend leaves out what begins with an underscore.
    line["label"] = f" {name}" if name.startswith("_") else name
    # The marker is the suggestion's alone; the line shows it in the legend.
    line |= {"markevery": [], "linewidth": 2.0, "zorder": 3}
    ax.plot(shown.lrs, shown.smooth, **line, **style)
    if lr is not None and len(shown.lrs):
        ax.plot([lr], [shown.at(lr)], zorder=5, **style)


def _add_legend(ax: Axes, beside: bool = False) -> None:
    """Puts the legend where nothing is drawn."""
    if not ax.get_legend_handles_labels()[0]:
        return
    outside = _makes_room(ax)
    style: dict[str, Any] = {"fontsize": 7.0 if _inches(ax) < 5.0 else 9.5}
    style |= {"labelcolor": ax.xaxis.label.get_color(), "edgecolor": "none"}
    style |= {"handlelength": 1.6, "columnspacing": 1.4, "borderaxespad": 0.0}
    style |= {"loc": "upper left", "facecolor": "none"}
    if not outside:
        style |= {"loc": "lower center", "facecolor": ax.get_facecolor()}
    elif beside:
        style["bbox_to_anchor"] = (1.02, 1.0)
    else:
        down = -24.0 - 2.0 * float(ax.xaxis.label.get_fontsize())
        style["bbox_to_anchor"] = (0.0, 0.0)
        style["bbox_transform"] = ax.transAxes + _up(ax, down)
    whole = ax.get_window_extent()
    for columns in (1,) if outside and beside else (4, 3, 2, 1):
        legend = ax.legend(ncols=columns, **style)
        for text in legend.get_texts():
            text.set_parse_math(False)
        box = legend.get_window_extent()
        if box.width <= 1.1 * whole.width:
            break
    legend.set_zorder(10)
    if not outside:
        _lower(ax, min(box.height / whole.height + 0.03, 0.7))


def _lower(ax: Axes, share: float) -> None:
    low, high = ax.get_ylim()
    ticks = [y for y in ax.get_yticks() if low <= y <= high]
    ends = ax.transData.transform([(1.0, low), (1.0, high)])[:, 1]
    down = ends[0] - (ends[1] - ends[0]) * share / (1.0 - share)
    ax.set_ylim(bottom=ax.transData.inverted().transform((0.0, down))[1])
    ax.set_yticks(ticks)
