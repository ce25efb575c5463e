"""A range test as a picture, several in one, and the two files.

matplotlib is imported inside the functions. No setting of it is changed, and
pyplot knows only the figures that are made to be shown; files need no
display.
"""

from __future__ import annotations

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
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.analysis.search import PROBE_STEPS
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import suggest
from keras_lrfinder.pictures.view import View
from keras_lrfinder.pictures.view import thin_out
from keras_lrfinder.pictures.view import view

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rule = Callable[[Curve], "float | None"]
Rules = str | Rule | Iterable[str | Rule]

# Okabe and Ito (2008): told apart with every kind of colour vision.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, PURPLE, SKY = "#E69F00", "#CC79A7", "#56B4E9"
GREY, INK = "#8C8C8C", "#222222"
_CURVES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
_RULES = (ORANGE, PURPLE, SKY, INK)
_SIZE = (8.0, 4.8)  # inches
# So many points are drawn of a long test; a short one has a line, too.
_MOST_POINTS, _FEW_POINTS = 1500, 400
# As many names fit below the axes.
_FEW_NAMES = 4


def plot_curve(
    curve: Curve,
    suggestion: Suggestion | None = None,
    *,
    runs: Sequence[Run] = (),
    rules: Rules = (),
    smooth: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draws a range test.

    Args:
        curve: What was measured.
        suggestion: Marked with its range; where it has no learning rate, the
            reason is written below the title. None marks nothing.
        runs: The runs that followed, drawn at the loss that they came to.
        rules: Names in `RULES` or functions `Curve -> lr`, to be compared;
            one of them or several.
        smooth: Whether to draw the smoothing spline through the losses, and
            no more than a part of the plateau before the descent. False:
            the whole test, as measured.
        ax: Where to draw. None makes a new figure of pyplot's, which a
            notebook shows.

    Returns:
        The matplotlib `Axes`; `.figure.savefig(...)` writes it to a file.
    """
    ax = _shown_axes() if ax is None else ax
    shown = view(curve.lrs, curve.losses)
    _frame(ax, curve.monitor, shown.log)
    _set_window(ax, curve, suggestion, runs, shown, smooth)
    _draw_losses(ax, curve, shown, smooth)
    if suggestion is not None and suggestion.lr is not None:
        _mark_suggestion(ax, suggestion, shown, smooth)
    if len(curve) and curve.stop_reason is not StopReason.COMPLETED:
        cause, dots = curve.stop_reason.cause, (0, (1, 2))
        style: dict[str, Any] = {"color": _ink(ax), "linestyle": dots}
        ax.axvline(float(curve.lrs[-1]), linewidth=1.2, label=cause, **style)
    for trainings in (False, True):
        kind = [r for r in runs if is_training(r, suggestion) == trainings]
        _mark_runs(ax, kind, trainings)
    _mark_rules(ax, curve, shown, rules)
    _write_title(ax, *_title(curve, suggestion))
    _set_ticks(ax)
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
    many = len(curves) > _FEW_NAMES
    ax = _shown_axes(11.0 if many else _SIZE[0]) if ax is None else ax
    if suggestions is None:
        suggestions = {name: suggest(curve) for name, curve in curves.items()}
    views = {name: _view_of(curve, relative) for name, curve in curves.items()}
    monitors = {curve.monitor for curve in curves.values()}
    loss = f"{monitors.pop() if len(monitors) == 1 else 'loss'}, smoothed"
    log = all(shown.log for shown in views.values())
    _frame(ax, f"{loss}, as a share of its fall" if relative else loss, log)
    seen = [shown for shown in views.values() if len(shown.lrs)]
    # What only rises would widen the window of all others.
    seen = [shown for shown in seen if shown.falls] or seen
    if seen:
        ax.set_ylim(min(s.low for s in seen), max(s.high for s in seen))
        lrs = [s.lr for s in suggestions.values() if s.lr is not None]
        lrs += [s.left for s in seen] + [s.right for s in seen]
        _set_lr_window(ax, min(lrs), max(lrs))
    for i, (name, shown) in enumerate(views.items()):
        _draw_one(ax, i, str(name), shown, suggestions.get(name))
    _write_title(ax, "Learning rate range tests, and what each suggests")
    _set_ticks(ax)
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
    smoothed, with what is suggested and the runs that followed.

    Args:
        curve: What was measured.
        suggestion: What to mark, or None.
        directory: Where to; made if it is not there.
        runs: As for `plot_curve`.

    Returns:
        The two paths.

    Raises:
        OSError: The directory cannot be made or written into. No file is
            left half written.
    """
    folder = pathlib.Path(directory).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    raw = plot_curve(curve, suggestion, smooth=False, ax=new_axes())
    smooth = plot_curve(curve, suggestion, runs=runs, ax=new_axes())
    return (
        _write(raw, folder / "loss.jpg"),
        _write(smooth, folder / "smooth_loss.jpg"),
    )


def is_training(run: Run, suggestion: Suggestion | None) -> bool:
    """Returns whether a run was a whole training, not a probe."""
    if suggestion is not None and run.steps == suggestion.total_steps:
        return run.schedule == suggestion.schedule
    return run.schedule != "constant" or run.steps > PROBE_STEPS


def new_axes(ink: str = INK, paper: str = "white") -> Axes:
    """Returns the axes of a figure that pyplot does not know."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(_SIZE, 100, facecolor=paper, layout="constrained")
    FigureCanvasAgg(figure)
    return _axes_in(figure, ink, paper)


def figure_of(ax: Axes) -> Figure:
    """Returns the whole figure that some axes are in."""
    if ax.figure is None:
        raise ValueError("`ax` must belong to a figure; it has been removed")
    # That of a subfigure is the whole figure, that of a figure itself.
    whole: Figure = ax.figure.figure
    return whole


def _shown_axes(width: float = _SIZE[0]) -> Axes:
    """Returns the axes of pyplot's new current figure.

    A notebook shows it below its cell, `plt.show()` in a window, and
    `plt.savefig` writes it. Where nothing is shown, as in a batch script, the
    last one of these is closed before: it can still be saved by its axes, and
    they do not pile up.
    """
    global _last_unseen
    import matplotlib.pyplot as plt

    size = (width, _SIZE[1])
    how: dict[str, Any] = {"figsize": size, "dpi": 100, "facecolor": "white"}
    figure = plt.figure(layout="constrained", **how)
    unseen = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")
    if plt.get_backend().lower() in unseen:
        if _last_unseen is not None:
            plt.close(_last_unseen())
        _last_unseen = weakref.ref(figure)
    return _axes_in(figure, INK, "white")


_last_unseen: Callable[[], Any] | None = None


def _axes_in(figure: Figure, ink: str, paper: str) -> Axes:
    # Every colour is said, so that a dark style of the user's cannot make
    # half of the picture light on white.
    ax = figure.add_subplot(facecolor=paper)
    ax.tick_params(which="both", colors=ink, labelsize=10)
    for side, spine in ax.spines.items():
        spine.set(color=ink, linewidth=0.8, visible=side in ("left", "bottom"))
    for text in (ax.xaxis.label, ax.yaxis.label):
        text.set(color=ink, fontsize=11)
    return ax


def _write(ax: Axes, file: pathlib.Path) -> pathlib.Path:
    """Writes a figure to a file, whole or not at all."""
    part = file.with_name(f".{file.stem}-{uuid.uuid4().hex[:8]}{file.suffix}")
    try:
        how: dict[str, Any] = {"facecolor": "white", "transparent": False}
        figure_of(ax).savefig(part, dpi=150, pil_kwargs={"quality": 93}, **how)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return file


def _inches(ax: Axes) -> float:
    """Returns the width of the axes; constrained layouts change it little."""
    width = ax.get_position().width * figure_of(ax).get_figwidth()
    return max(float(width), 2.0)


def _ink(ax: Axes) -> Any:
    """Returns the colour of the axes' own texts."""
    return ax.xaxis.label.get_color()


def _makes_room(ax: Axes) -> bool:
    """Returns whether its figure makes room for what is outside the axes."""
    return figure_of(ax).get_layout_engine() is not None


def _points(ax: Axes, up: float) -> Any:
    """Returns the transform by which something is moved up."""
    from matplotlib.transforms import ScaledTranslation

    return ScaledTranslation(0, up / 72, figure_of(ax).dpi_scale_trans)


def _frame(ax: Axes, loss: str, log: bool) -> None:
    """Sets both scales, the labels and the grid."""
    ax.set(xscale="log", yscale="log" if log else "linear")
    ax.set_xlabel("learning rate")
    # What users name is no mathematics.
    ax.set_ylabel(loss, parse_math=False)
    ax.grid(True, which="major", alpha=0.25, linewidth=0.6)
    ax.set_axisbelow(True)


def _set_window(
    ax: Axes,
    curve: Curve,
    suggestion: Suggestion | None,
    runs: Sequence[Run],
    shown: View,
    smooth: bool,
) -> None:
    if not len(curve):
        return
    low, high = shown.low, shown.high
    ends = [run.final_loss for run in runs]
    levels = [y for y in ends if y is not None and np.isfinite(y)]
    lowest = min([y for y in levels if y > 0 or not shown.log], default=low)
    if lowest < low:
        low = lowest / 1.2 if shown.log else lowest - 0.05 * (high - lowest)
    ax.set_ylim(low, high)
    first, last = float(curve.lrs[0]), float(curve.lrs[-1])
    lrs = [shown.left if smooth and len(shown.lrs) else first, last]
    lrs += [run.lr for run in runs]
    if suggestion is not None and suggestion.lr is not None:
        # The mark and its whole range, unless that reaches far out.
        ranged = (suggestion.low or last, suggestion.high or first)
        lrs += np.clip(ranged, first / 3.0, last * 3.0).tolist()
        lrs.append(suggestion.lr)
    _set_lr_window(ax, min(lrs), max(lrs))


def _set_lr_window(ax: Axes, low: float, high: float) -> None:
    margin = (high / low) ** 0.03 if high / low > 1.001 else 1.5
    ax.set_xlim(low / margin, high * margin)


def _set_ticks(ax: Axes) -> None:
    """Sets as many round learning rates as have room, the roundest first."""
    from matplotlib.ticker import MaxNLocator

    low, high = ax.get_xlim()
    room = 0.7 * np.log10(high / low) / _inches(ax)
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.log10(high))
    chosen: list[float] = []
    for digits in ([1.0], [2.0, 5.0], [3.0], [7.0], [1.5]):
        for lr in np.outer(powers, digits).ravel().tolist():
            near = [abs(np.log10(lr / each)) < room for each in chosen]
            if low <= lr <= high and not any(near):
                chosen.append(lr)
    if len(chosen) < 3:
        few = MaxNLocator(max(int(_inches(ax) / 1.1), 2), min_n_ticks=2)
        chosen = list(few.tick_values(low, high))
    ax.set_xticks(chosen)
    ax.set_xlim(low, high)
    for axis in (
        (ax.xaxis, ax.yaxis) if ax.get_yscale() == "log" else (ax.xaxis,)
    ):
        axis.set_major_formatter(_tick)
        axis.set_minor_formatter("")


def _tick(value: float, _: float) -> str:
    digits, power = f"{value:.4e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{power}"


def _title(curve: Curve, suggestion: Suggestion | None) -> tuple[str, str]:
    """Returns what the picture says, and what is to be said beside it."""
    optimizer = f" for {curve.optimizer}" if curve.optimizer else ""
    if suggestion is None:
        return f"Learning rate range test{optimizer}", ""
    if suggestion.lr is None:
        return f"No learning rate{optimizer}", suggestion.reason
    name, sure = "Learning rate", suggestion.confidence
    if suggestion.schedule != "constant":
        name = f"Peak learning rate of {suggestion.schedule}"
    title = f"{name}{optimizer}: {suggestion.lr:.1e}, {sure} confidence"
    return title, suggestion.reason if sure == "low" else ""


def _write_title(ax: Axes, title: str, note: str = "") -> None:
    width, ink = _inches(ax), _ink(ax)
    most = int((45 if width > 5.0 else 26) * width)
    note = textwrap.shorten(note, most, placeholder=" …")
    note = textwrap.fill(note, int(15 * width)) if _makes_room(ax) else ""
    above = 8.0 + (12.5 * (note.count("\n") + 1) if note else 0.0)
    font: dict[str, Any] = {"fontsize": 12.0 if width > 5.0 else 10.0}
    font |= {"fontweight": "bold", "color": ink, "parse_math": False}
    title = textwrap.fill(title, int(11 * width))
    ax.set_title(title, loc="left", pad=above, **font)
    place = ax.transAxes + _points(ax, 6.0)
    ax.text(0.0, 1.0, note, transform=place, fontsize=9.0, color=ink).set(
        parse_math=False, verticalalignment="bottom"
    )


def _draw_losses(ax: Axes, curve: Curve, shown: View, smooth: bool) -> None:
    if not len(shown.lrs):
        return
    lrs, losses = thin_out(curve.lrs, curve.losses, _MOST_POINTS)
    many = len(lrs) > _FEW_POINTS
    style: dict[str, Any] = {"color": GREY, "alpha": 0.3 if many else 0.65}
    if not smooth:
        style = {"color": BLUE, "alpha": 0.35 if many else 0.9}
    style["label"] = "loss of each step"
    if len(curve) > _MOST_POINTS:
        style["label"] = "loss, of some of the steps"
    style |= {"linestyle": "none" if smooth or many else "-", "linewidth": 0.9}
    style |= {"marker": "o", "markersize": 2.5 if many else 3.5}
    ax.plot(lrs, losses, markeredgewidth=0, zorder=2, **style)
    if smooth:
        style = {"color": BLUE, "linewidth": 2.4, "zorder": 4}
        ax.plot(shown.lrs, shown.smooth, label="smoothed", **style)


def _mark_suggestion(
    ax: Axes, suggestion: Suggestion, shown: View, smooth: bool
) -> None:
    lr, sure = float(suggestion), suggestion.confidence == "high"
    style: dict[str, Any] = {"linestyle": "-" if sure else (0, (4, 1.5))}
    style |= {"color": VERMILLION, "linewidth": 1.8, "zorder": 3}
    ax.axvline(lr, label="suggested", **style)
    if smooth and suggestion.low is not None and suggestion.high is not None:
        style = {"color": VERMILLION, "alpha": 0.13, "linewidth": 0}
        style["label"] = "holds the best one in 95 of 100 tests"
        ax.axvspan(suggestion.low, suggestion.high, zorder=1, **style)
    if smooth and len(shown.lrs):
        _dots(ax, [lr], [shown.at(lr)], marker="o", color=VERMILLION, zorder=7)


def _mark_runs(ax: Axes, runs: Sequence[Run], trainings: bool) -> None:
    """Marks what runs came to; at the top what ended above, or blew up."""
    ends = {run.lr: run.final_loss for run in runs}
    made = {lr: loss for lr, loss in ends.items() if loss is not None}
    top = ax.get_ylim()[1]
    # Of a run that blew up the loss is NaN, which is never below.
    inside = {lr: loss for lr, loss in made.items() if loss <= top}
    above = [lr for lr in made if lr not in inside]
    style: dict[str, Any] = {"marker": "D", "markersize": 7.5, "color": GREEN}
    name = "probes"
    if trainings:
        style |= {"marker": "*", "markersize": 14}
        peak = any(run.schedule != "constant" for run in runs)
        name = f"whole trainings{', at their peak' if peak else ''}"
    if inside:
        _dots(ax, list(inside), list(inside.values()), label=name, **style)
    if above:
        style |= {"markerfacecolor": "none", "markeredgecolor": GREEN}
        style |= {"markeredgewidth": 1.6, "transform": ax.get_xaxis_transform()}
        name += " that ended above, or blew up"
        _dots(ax, above, [0.965] * len(above), label=name, **style)


def _dots(
    ax: Axes, lrs: Sequence[float], losses: Sequence[float], **more: Any
) -> None:
    style = {"markersize": 8, "zorder": 6, "markeredgecolor": "white", **more}
    ax.plot(lrs, losses, linestyle="none", **style)


def _mark_rules(ax: Axes, curve: Curve, shown: View, rules: Rules) -> None:
    """Marks what rules answer, above the line: equal answers in a pile."""
    # A string is iterable as well, letter by letter.
    one = isinstance(rules, str) or callable(rules)
    several: Any = [rules] if one else rules
    left, right = np.log(ax.get_xlim())
    width = 0.14 / _inches(ax) * (right - left)
    marked: list[float] = []
    for i, rule in enumerate(several):
        found = suggest(curve, rule)
        style = {"color": _RULES[i % 4], "marker": "v<>^s"[i // 4 % 5]}
        if found.lr is None or not len(shown.lrs):
            _dots(ax, [], [], label=f"{found.rule}: none", **style)
            continue
        x = float(np.log(found.lr))
        up = 8.0 + 10.0 * sum(abs(x - other) < width for other in marked)
        marked.append(x)
        place: Any = ax.transData + _points(ax, up)
        style["label"] = f"{found.rule}: {found.lr:.1e}"
        _dots(ax, [found.lr], [shown.at(found.lr)], transform=place, **style)


def _view_of(curve: Curve, relative: bool) -> View:
    shown = view(curve.lrs, curve.losses)
    if not relative or not len(shown.lrs):
        return shown
    bottom = int(np.argmin(shown.smooth))
    low = float(shown.smooth[bottom])
    fall = float(shown.smooth[: bottom + 1].max()) - low
    share = (shown.smooth - low) / fall if fall > 0 else shown.smooth * 0 + 1.0
    window = (shown.falls, shown.left, shown.right)
    return View(shown.lrs, share, *window, low=-0.1, high=1.3)


def _draw_one(
    ax: Axes, i: int, name: str, shown: View, suggestion: Suggestion | None
) -> None:
    lr = None if suggestion is None else suggestion.lr
    name = textwrap.shorten(name, 40, placeholder="…") or name
    text = f"{name}: none" if lr is None else f"{name}: {lr:.1e}"
    style: dict[str, Any] = {
        "color": _CURVES[i % 6],
        "marker": "osD^vPX*"[i % 8],
    }
    style |= {"markersize": 8, "markeredgecolor": "white"}
    lines: dict[str, Any] = {
        "linewidth": 2.0,
        "linestyle": "-" if i < 6 else (0, (5, 2)),
    }
    # A legend leaves out what begins with an underscore.
    lines["label"] = f" {text}" if text.startswith("_") else text
    # The marker is the suggestion's alone; the line shows it in the legend.
    ax.plot(shown.lrs, shown.smooth, markevery=[], zorder=3, **lines, **style)
    if lr is not None and len(shown.lrs):
        ax.plot([lr], [shown.at(lr)], zorder=5, **style)


def _add_legend(ax: Axes, beside: bool = False) -> None:
    """Puts the legend where nothing is drawn."""
    if not ax.get_legend_handles_labels()[0]:
        return
    style: dict[str, Any] = {"fontsize": 7.0 if _inches(ax) < 5.0 else 9.5}
    style |= {"edgecolor": "none", "facecolor": "none", "labelcolor": _ink(ax)}
    style |= {"handlelength": 1.6, "columnspacing": 1.4, "borderaxespad": 0.0}
    if not _makes_room(ax):
        # Inside, below all losses.
        style |= {"loc": "lower center", "facecolor": ax.get_facecolor()}
    elif beside:
        style |= {"loc": "upper left", "bbox_to_anchor": (1.02, 1.0)}
    else:
        down = -(2.0 * ax.xaxis.label.get_fontsize() + 24.0)
        style |= {"loc": "upper left", "bbox_to_anchor": (0.0, 0.0)}
        style["bbox_transform"] = ax.transAxes + _points(ax, down)
    for columns in (1,) if beside and _makes_room(ax) else (4, 3, 2, 1):
        legend = ax.legend(ncols=columns, **style)
        box = legend.get_window_extent()
        if box.width <= 1.1 * ax.get_window_extent().width:
            break
    legend.set_zorder(10)
    for text in legend.get_texts():
        text.set_parse_math(False)
    if not _makes_room(ax):
        _lower(ax, box.height / ax.get_window_extent().height + 0.03)


def _lower(ax: Axes, share: float) -> None:
    """Makes room for a legend below all losses."""
    low, high = ax.get_ylim()
    ticks = [y for y in ax.get_yticks() if low <= y <= high]
    ends = ax.transData.transform([(1.0, low), (1.0, high)])[:, 1]
    share = min(share, 0.7)
    down = ends[0] - (ends[1] - ends[0]) * share / (1.0 - share)
    ax.set_ylim(bottom=ax.transData.inverted().transform((0.0, down))[1])
    ax.set_yticks(ticks)
