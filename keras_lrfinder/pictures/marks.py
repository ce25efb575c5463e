"""What is marked on a curve: the suggestion, its end, probes, other rules."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.stop_reason import StopReason
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import suggest
from keras_lrfinder.drawing.view import View
from keras_lrfinder.pictures.figure import DASHES
from keras_lrfinder.pictures.figure import GREEN
from keras_lrfinder.pictures.figure import INK
from keras_lrfinder.pictures.figure import RULE_COLOURS
from keras_lrfinder.pictures.figure import VERMILLION
from keras_lrfinder.pictures.figure import inches
from keras_lrfinder.pictures.figure import ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rule = Callable[[Curve], float]


def mark_suggestion(
    ax: Axes, suggestion: Suggestion, shown: View, on_line: bool
) -> None:
    """Marks a learning rate and its range, or writes why there is none."""
    lr = suggestion.lr
    if lr is None:
        _write_reason(ax, suggestion.reason)
        return
    sure = suggestion.confidence != "low"
    ax.axvline(
        lr,
        color=VERMILLION,
        linewidth=1.8,
        linestyle="-" if sure else (0, (4, 1.5)),
        label=f"suggested: {lr:.3g}" + ("" if sure else ", low confidence"),
        zorder=3,
    )
    if suggestion.low is not None and suggestion.high is not None:
        ax.axvspan(
            suggestion.low,
            suggestion.high,
            color=VERMILLION,
            alpha=0.13,
            linewidth=0,
            zorder=1,
            label=f"best within {suggestion.low:.2g} to {suggestion.high:.2g}",
        )
    if on_line and len(shown.lrs):
        _dots(ax, [lr], [shown.at(lr)], "o", VERMILLION, zorder=7)
    _write_number(ax, lr)


def _write_number(ax: Axes, lr: float) -> None:
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
        color=VERMILLION,
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
            min(int(11 * inches(ax)), 66),
        ),
        transform=ax.transAxes,
        ha="center",
        va="top",
        color=INK,
        fontsize=10.5,
        parse_math=False,
        bbox={
            "facecolor": "#FFF4E5",
            "edgecolor": VERMILLION,
            "linewidth": 0.8,
            "boxstyle": "round,pad=0.6",
        },
        zorder=9,
    )


def mark_stop(ax: Axes, curve: Curve) -> None:
    """Marks where the test ended before its last step."""
    if not len(curve) or curve.stop_reason is StopReason.COMPLETED:
        return
    lr = float(curve.lrs[-1])
    ax.axvline(
        lr,
        color=ink(ax),
        linestyle=(0, (1, 2)),
        linewidth=1.2,
        label=f"stopped at {lr:.3g}",
        zorder=3,
    )


def mark_probes(ax: Axes, points: list[tuple[float, float]]) -> None:
    """Marks learning rates and losses; at the top what ended above."""
    top = ax.get_ylim()[1]
    # Of a run that blew up the loss is NaN, which is never below.
    inside = [(lr, y) for lr, y in points if y <= top]
    above = [lr for lr, y in points if not y <= top]
    if inside:
        lrs, losses = zip(*inside)
        name = "probes, after their last step"
        _dots(ax, lrs, losses, "D", GREEN, markersize=7, label=name)
    if above:
        edge = {"transform": ax.get_xaxis_transform()}
        name = "probes that ended above"
        _dots(ax, above, [0.97] * len(above), "^", GREEN, label=name, **edge)


def _dots(
    ax: Axes,
    lrs: Sequence[float],
    losses: Sequence[float],
    marker: str,
    colour: str,
    **more: Any,
) -> None:
    style = {"markersize": 8, "zorder": 6, "markeredgecolor": "white", **more}
    ax.plot(lrs, losses, linestyle="none", marker=marker, color=colour, **style)


def mark_rules(
    ax: Axes, curve: Curve, rules: str | Rule | Iterable[str | Rule] | None
) -> None:
    """Marks what other rules answer, one of them or several."""
    # A string is iterable as well, letter by letter.
    if isinstance(rules, str) or callable(rules):
        rules = [rules]
    for i, rule in enumerate(rules or ()):
        found = suggest(curve, rule)
        style: dict[str, Any] = {
            "color": RULE_COLOURS[i % len(RULE_COLOURS)],
            "linewidth": 1.6,
            "linestyle": DASHES[i % len(DASHES)],
            "zorder": 3,
        }
        if found.lr is None:
            ax.plot([], [], label=f"{found.rule}: none", **style)
        else:
            ax.axvline(found.lr, label=f"{found.rule}: {found.lr:.3g}", **style)
