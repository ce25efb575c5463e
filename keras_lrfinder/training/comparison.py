"""Several range tests side by side: optimizers, batch sizes, models."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.arguments import check_type
from keras_lrfinder.drawing.table import html_table
from keras_lrfinder.drawing.table import text_table
from keras_lrfinder.pictures.comparison import plot_curves
from keras_lrfinder.training.finder import LRFinder
from keras_lrfinder.training.lr_find import lr_find


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare_lr` found, as a table and as a picture.

    Attributes:
        finders: Dictionary from label to the finished `LRFinder`.
    """

    finders: dict[str, LRFinder]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dictionary for each label, `pandas.DataFrame(rows)` to be.

        `best_probe_loss` is the lowest that a probe reached (held-out where
        there were such samples), None without probes: losses of the same
        data and the same loss function can be compared.
        """
        return [
            {"label": label, **_row(finder)}
            for label, finder in self.finders.items()
        ]

    def plot(self, *, relative: bool = False, ax: Any = None) -> Any:
        """Draws all curves with their suggestions; returns the Axes.

        Args:
            relative: As for `plot_curves`.
            ax: A matplotlib Axes to draw into, or None for a new figure.
        """
        return plot_curves(
            {label: f.curve for label, f in self.finders.items()},
            suggestions={k: f.suggestion for k, f in self.finders.items()},
            relative=relative,
            ax=ax,
        )

    def __str__(self) -> str:
        return text_table(_cells(self))

    def _repr_html_(self) -> str:
        return html_table(_cells(self))


def compare_lr(
    models: Mapping[str, Any], x: Any = None, y: Any = None, **kwargs: Any
) -> Comparison:
    """Runs `lr_find` for several models, and returns one table of results.

    Nothing stays behind in any of them.

    Args:
        models: Label to model, or to `(model, arguments)` where `arguments`
            are those of `lr_find` for this one alone, such as another
            `batch_size`. One model may come several times.
        x: The training data, as for `lr_find`.
        y: The targets.
        **kwargs: The other arguments of `lr_find`, for all.

    Raises:
        TypeError: `models` is no mapping.
        ValueError: It is empty; or as `lr_find`.

    Example:
        ```python
        found = compare_lr({"adam": with_adam, "sgd": with_sgd}, x, y)
        print(found)
        found.plot()
        sizes = {str(n): (model, {"batch_size": n}) for n in (16, 64, 256)}
        print(compare_lr(sizes, x, y))
        ```
    """
    check_type("models", models, Mapping, "a mapping of labels to models")
    if not models:
        raise ValueError(f"`models` must not be empty. Received: {models=}")
    finders = {}
    for label, value in models.items():
        model, own = value if isinstance(value, tuple) else (value, {})
        finders[str(label)] = lr_find(model, x, y, **{**kwargs, **own})
    return Comparison(finders)


def _row(finder: LRFinder) -> dict[str, Any]:
    found = finder.suggestion
    return {
        "lr": found.lr,
        "low": found.low,
        "high": found.high,
        "confidence": found.confidence,
        "best_probe_loss": _best(finder.probes),
        "reason": found.reason,
    }


def _best(probes: tuple[Probe, ...]) -> float | None:
    losses = [p.final_loss for p in probes if math.isfinite(p.final_loss)]
    return min(losses, default=None)


def _cells(comparison: Comparison) -> list[list[str]]:
    table = [["", "LR", "best within", "confidence", "best probe"]]
    for row in comparison.rows:
        lr = row["lr"]
        loss = row["best_probe_loss"]
        table.append(
            [
                row["label"],
                "none" if lr is None else f"{lr:.2e}",
                "" if lr is None else f"{row['low']:.1e} .. {row['high']:.1e}",
                row["confidence"],
                "" if loss is None else f"{loss:.4g}",
            ]
        )
    return table
