"""A finished range test in a terminal and in a notebook."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.analysis.schedule_factors import MIDDLE_STEPS
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.drawing.notebook import html_card
from keras_lrfinder.drawing.notebook import svg_curve

Rows = list[tuple[str, str]]
# By the schedule that the suggestion is for.
_WHAT_NOW = {
    "constant": "Train with finder.apply(model).",
    "one_cycle": "Train with finder.one_cycle(epochs=…).",
    "cosine": "Give it to the schedule, as the end of its warm-up.",
    "triangular": "Train with Triangular(*finder.suggestion.triangular_bounds, "
    "step_size=…).",
}


def line(curve: Curve, suggestion: Suggestion) -> str:
    """Returns what happened and what to do, on one line."""
    return (
        f"LRFinder: {curve.stop_reason} after {len(curve)} of {curve.steps} "
        f"steps. {suggestion}"
    )


def text_report(
    curve: Curve, suggestion: Suggestion, probes: Sequence[Probe]
) -> str:
    """Returns a short, aligned summary for a terminal."""
    rows = _rows(curve, suggestion, probes)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def html_report(
    curve: Curve, suggestion: Suggestion, probes: Sequence[Probe]
) -> str:
    """Returns the summary with a picture, for a notebook."""
    band = None
    if suggestion.low is not None and suggestion.high is not None:
        band = (suggestion.low, suggestion.high)
    points = [(p.lr, p.final_loss) for p in probes]
    picture = ""
    if len(curve):
        picture = svg_curve(
            curve.lrs,
            curve.losses,
            mark=suggestion.lr,
            band=band,
            points=points,
        )
    (_, title), *rows = _rows(curve, suggestion, probes)
    said = [("#8a8a8a", "each batch"), ("#0a84d0", "smoothed")]
    if suggestion.lr is not None:
        said.append(("#d55e00", "suggested, and where the best lies"))
    if probes:
        said.append(("#009e73", "probes, at the edge where they ended beyond"))
    legend = " &ensp; ".join(
        f'<span style="color:{colour}">&#9632;</span> {text}'
        for colour, text in said
    )
    legend = f'<div style="font-size:smaller;opacity:.85">{legend}</div>'
    return html_card(
        f"Learning rate: {title}", rows, picture and picture + legend
    )


def _rows(
    curve: Curve, suggestion: Suggestion, probes: Sequence[Probe]
) -> Rows:
    if suggestion.lr is None:
        rows = [("learning rate", "none to suggest")]
    else:
        rows = [
            ("learning rate", f"{suggestion.lr:.2e}{_peak(suggestion)}"),
            ("range", f"{suggestion.low:.1e} .. {suggestion.high:.1e}"),
        ]
    rows += [
        ("confidence", suggestion.confidence),
        ("why", suggestion.reason),
        ("test", f"{len(curve)} of {curve.steps} steps, {_span(curve)}"),
        ("ended", str(curve.stop_reason)),
        ("best loss", f"{curve.best_loss:.4g} (smoothed)"),
    ]
    rows += [("probe", _probe(probe)) for probe in probes]
    return [*rows, ("advice", _advice(curve, suggestion, probes))]


def _peak(suggestion: Suggestion) -> str:
    if suggestion.schedule == "constant":
        return ""
    return f", the peak of {suggestion.schedule}"


def _advice(
    curve: Curve, suggestion: Suggestion, probes: Sequence[Probe]
) -> str:
    """Returns why this learning rate and no other, and what now."""
    if suggestion.lr is None:
        return "nothing was changed; see to the reason, then test again"
    lowest = curve.lrs[int(np.nanargmin(curve.smoothed))]
    why = (
        f"It is not the {lowest:.1e} of the ramp's lowest loss: kept that "
        "high, training becomes unstable."
    )
    if len(probes) > 1 and _is_short(probes, suggestion):
        why += (
            " Nor is it the best probe's: a short run likes a higher learning "
            "rate than a whole training."
        )
    return f"{why} {_WHAT_NOW[suggestion.schedule]}"


def _is_short(probes: Sequence[Probe], suggestion: Suggestion) -> bool:
    """Returns whether the best run was shorter than what is to follow."""
    ended = [p for p in probes if math.isfinite(p.final_loss)]
    if not ended:
        return True
    best = min(ended, key=lambda probe: probe.final_loss)
    return len(best.losses) < (suggestion.total_steps or MIDDLE_STEPS)


def _span(curve: Curve) -> str:
    if not len(curve):
        return "no step"
    name = f"{curve.optimizer}, " if curve.optimizer else ""
    return f"{name}{curve.lrs[0]:.1e} .. {curve.lrs[-1]:.1e}"


def _probe(probe: Probe) -> str:
    text = f"{probe.lr:.2e} for {len(probe.losses)} steps"
    if probe.schedule != "constant":
        text = f"{text} ({probe.schedule})"
    if not math.isfinite(probe.final_loss):
        return f"{text}: blew up"
    kind = "training" if probe.held_out is None else "held-out"
    return f"{text}: {kind} loss {probe.final_loss:.4g}"
