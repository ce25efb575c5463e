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
from keras_lrfinder.pictures import plotting

Rows = Sequence[Sequence[str]]
# Is in no other colour of a picture, and becomes the page's own ink.
_INK = "#012345"


def line(curve: Curve, suggestion: Suggestion) -> str:
    """Returns the verdict on one line, with the reason where it is not sure."""
    if suggestion.confidence != "high":
        return f"LRFinder: {suggestion} [{_ended(curve)}]"
    within = f"{suggestion.low:.1e} to {suggestion.high:.1e}"
    wide = plotting.width_of(suggestion)
    sure = f"high confidence in a range of {wide}, {within}"
    why = "print the finder to see why"
    return f"LRFinder: {_rate(suggestion)} ({sure}); {why}"


def text_report(
    curve: Curve, suggestion: Suggestion, runs: Sequence[Run] = ()
) -> str:
    """Returns a short, aligned summary for a terminal."""
    rows = [("learning rate", _rate(suggestion)), *_facts(curve, suggestion)]
    lines = [f"{name:<13}  {value}" for name, value in rows]
    if runs:
        table = text_table(run_rows(runs)).replace("\n", "\n  ")
        lines.append(f"runs\n  {table}")
    return "\n".join(lines)


def html_report(
    curve: Curve, suggestion: Suggestion, runs: Sequence[Run] = ()
) -> str:
    """Returns the answer, the picture, and the rest folded, for a notebook."""
    (_, sure), *facts = _facts(curve, suggestion)
    sure = f"Confidence: {html.escape(sure)}"
    if suggestion.lr is None:
        sure = html.escape(suggestion.reason)
    rest = "".join(
        f"<div><i>{name}</i>: {html.escape(value)}</div>"
        for name, value in facts
    )
    table = html_table(run_rows(runs)) if runs else ""
    return (
        f'<div style="max-width:720px"><strong style="font-size:1.25em">'
        f"Learning rate: {_rate(suggestion)}</strong><div>{sure}</div>"
        f"{_svg(curve, suggestion, runs)}<details><summary>What was seen and "
        f"done</summary>{rest}{table}</details></div>"
    )


def run_rows(runs: Sequence[Run]) -> list[list[str]]:
    """Returns the runs as the rows of a table, the first its head."""
    rows = [["run", "LR", "steps", "loss at the end"]]
    for run in runs:
        what = "training" if plotting.is_training(run) else "probe"
        rows.append([what, _rate(run), f"{run.steps:,}", _loss(run)])
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


def _rate(chosen: Run | Suggestion) -> str:
    if chosen.lr is None:
        return "none"
    peak = chosen.schedule != "constant"
    return f"{chosen.lr:.1e}{f', peak of {chosen.schedule}' if peak else ''}"


def _facts(curve: Curve, suggestion: Suggestion) -> list[tuple[str, str]]:
    sure, now = suggestion.confidence, "see to the reason, then test again"
    if suggestion.lr is not None:
        often = "the best one may lie anywhere"
        if sure == "high":
            sure += f", of a range of {plotting.width_of(suggestion)}"
            often = "in 95 of 100 such tests the best one lies"
        ends = f"{suggestion.low:.1e} and {suggestion.high:.1e}"
        sure += f": {often} between {ends}"
        now = "finder.apply(model), then train"
    test = ", ".join(filter(None, (curve.optimizer, _ended(curve))))
    why = ("why", suggestion.reason)
    return [("confidence", sure), why, ("test", test), ("next", now)]


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
    if loss is None or math.isnan(loss):
        return "none" if loss is None else "blew up"
    kind = "training" if run.held_out_loss is None else "held-out"
    return f"{loss:.4g} ({kind})"


def _svg(curve: Curve, suggestion: Suggestion, runs: Sequence[Run]) -> str:
    """Returns the picture in the page's own ink, on its own ground."""
    if not len(curve):
        return ""
    ax = plotting.new_axes(_INK, "none")
    plotting.plot_curve(curve, suggestion, runs=runs, ax=ax)
    # What these say stands above the picture.
    ax.set_title("", loc="left")
    for text in ax.texts:
        text.set_text("")
    file = io.StringIO()
    none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    plotting.figure_of(ax).savefig(file, format="svg", metadata=none)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    # Bright enough on black, dark enough on white.
    svg = svg.replace(plotting.BLUE.lower(), "#1e88d2")
    size = 'style="width:100%;height:auto"'
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', size, svg, count=1)
