"""A finished range test in words: a terminal, a notebook, tables."""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Sequence

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.curve import StopReason
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.pictures.plotting import BLUE
from keras_lrfinder.pictures.plotting import figure_of
from keras_lrfinder.pictures.plotting import is_training
from keras_lrfinder.pictures.plotting import new_axes
from keras_lrfinder.pictures.plotting import plot_curve

Rows = Sequence[Sequence[str]]
# Is in no other colour of a picture, and becomes the page's own ink.
_INK = "#012345"


def line(curve: Curve, suggestion: Suggestion) -> str:
    """Returns the verdict on one line."""
    return f"LRFinder: {suggestion} [{_ended(curve)}]"


def text_report(
    curve: Curve, suggestion: Suggestion, runs: Sequence[Run] = ()
) -> str:
    """Returns a short, aligned summary for a terminal."""
    rows = [("learning rate", _answer(suggestion)), *_facts(curve, suggestion)]
    lines = [f"{name:<13}  {value}" for name, value in rows]
    if runs:
        table = text_table(run_rows(runs, suggestion)).replace("\n", "\n  ")
        lines.append(f"runs\n  {table}")
    return "\n".join(lines)


def html_report(
    curve: Curve, suggestion: Suggestion, runs: Sequence[Run] = ()
) -> str:
    """Returns the answer, the picture, and the rest folded, for a notebook."""
    name = "Peak learning rate" if _is_peak(suggestion) else "Learning rate"
    answer = html.escape(f"{name}: {_answer(suggestion)}")
    (_, second), *facts = _facts(curve, suggestion)
    cells = "".join(
        f'<tr style="background:none"><td style="text-align:left;opacity:.7;'
        f'vertical-align:top">{name}</td><td style="text-align:left">'
        f"{html.escape(value)}</td></tr>"
        for name, value in facts
    )
    table = html_table(run_rows(runs, suggestion)) if runs else ""
    return (
        f'<div style="max-width:720px"><div style="font-size:1.25em">'
        f"<strong>{answer}</strong></div><div>{html.escape(second)}</div>"
        f"{_svg(curve, suggestion, runs)}<details><summary>What was seen and "
        f'done</summary><table style="border:none">{cells}</table>{table}'
        "</details></div>"
    )


def run_rows(
    runs: Sequence[Run], suggestion: Suggestion | None = None
) -> list[list[str]]:
    """Returns the runs as the rows of a table, the first its head."""
    rows = [["run", "LR", "steps", "loss at the end"]]
    for run in runs:
        what = "training" if is_training(run, suggestion) else "probe"
        lr = f"{run.lr:.1e}"
        if run.schedule != "constant":
            lr = f"{lr}, peak of {run.schedule}"
        rows.append([what, lr, f"{run.steps:,}", _loss(run)])
    return rows


def text_table(rows: Rows) -> str:
    """Returns lines whose columns are aligned; the first is the head.

    Example:
    >>> print(text_table([["", "LR"], ["adam", "1e-3"]]))
          LR
    adam  1e-3
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip()
        for row in rows
    )


def html_table(rows: Rows) -> str:
    """Returns the same for a notebook, escaped."""
    lines = []
    for tag, row in zip(["th", *["td"] * (len(rows) - 1)], rows):
        cell = f'<{tag} style="text-align:left">'
        cells = "".join(f"{cell}{html.escape(c)}</{tag}>" for c in row)
        lines.append(f"<tr>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _is_peak(suggestion: Suggestion) -> bool:
    return suggestion.lr is not None and suggestion.schedule != "constant"


def _answer(suggestion: Suggestion) -> str:
    if suggestion.lr is None:
        return "none"
    if not _is_peak(suggestion):
        return f"{suggestion.lr:.1e}"
    return f"{suggestion.lr:.1e}, the peak of {suggestion.schedule}"


def _facts(curve: Curve, suggestion: Suggestion) -> list[tuple[str, str]]:
    rows = [("confidence", suggestion.confidence)]
    if suggestion.lr is not None:
        rows[0] = (
            "confidence",
            f"{suggestion.confidence}: in 95 of 100 such tests the best one "
            f"lies between {suggestion.low:.1e} and {suggestion.high:.1e}",
        )
    now = "nothing was changed: see to the reason, then test again"
    if suggestion.lr is not None:
        now = "finder.apply(model), then train"
    optimizer = f"{curve.optimizer}, " if curve.optimizer else ""
    test = f"{optimizer}{_ended(curve)}"
    if math.isfinite(curve.best_loss):
        test += f"; lowest smoothed loss {curve.best_loss:.4g}"
    return [*rows, ("why", suggestion.reason), ("test", test), ("next", now)]


def _ended(curve: Curve) -> str:
    """Returns how far the test came, and why no further."""
    if not len(curve):
        return f"no step ran: {curve.stop_reason.cause}"
    span = f"from {curve.lrs[0]:.1e} to {curve.lrs[-1]:.1e}"
    if curve.stop_reason is StopReason.COMPLETED:
        return f"all {curve.steps:,} steps ran, {span}"
    steps = f"{len(curve):,} of {curve.steps:,} steps"
    return f"{curve.stop_reason.cause} after {steps}, {span}"


def _loss(run: Run) -> str:
    loss = run.final_loss
    if loss is None:
        return "none"
    if not math.isfinite(loss):
        return "blew up"
    kind = "training" if run.held_out_loss is None else "held-out"
    return f"{loss:.4g} ({kind})"


def _svg(curve: Curve, suggestion: Suggestion, runs: Sequence[Run]) -> str:
    """Returns the picture in the page's own ink, on its own ground."""
    if not len(curve):
        return ""
    ax = plot_curve(curve, suggestion, runs=runs, ax=new_axes(_INK, "none"))
    # Both stand above the picture.
    ax.set_title("", loc="left")
    for text in ax.texts:
        text.set_text("")
    file = io.StringIO()
    none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure_of(ax).savefig(file, format="svg", metadata=none)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    # Bright enough on black, dark enough on white.
    svg = svg.replace(BLUE.lower(), "#1e88d2")
    size = 'style="width:100%;height:auto"'
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', size, svg, count=1)
