"""Several range tests side by side: optimizers, batch sizes, models."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from keras_lrfinder.arguments import check_type
from keras_lrfinder.pictures.plotting import is_training
from keras_lrfinder.pictures.plotting import plot_curves
from keras_lrfinder.pictures.report import html_table
from keras_lrfinder.pictures.report import text_table
from keras_lrfinder.training.lr_find import lr_find
from keras_lrfinder.training.result import Result
from keras_lrfinder.training.result import is_chief

_UNEQUAL = (
    "The probes have as many steps, so those with larger batches have seen "
    "more samples: their losses do not say which batch size is better."
)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare_lr` found, as a table and as a picture.

    Attributes:
        finders: Dictionary from label to what `lr_find` returned.
    """

    finders: dict[str, Result]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dictionary for each label, `pandas.DataFrame(rows)` to be.

        `best_probe_loss` is the lowest that a probe reached (held-out where
        there were such samples), None without probes. It can be compared
        where data, loss function and `batch_size` are the same.
        """
        return [{"label": k, **_row(f)} for k, f in self.finders.items()]

    def plot(self, *, relative: bool = False, ax: Any = None) -> Any:
        """Draws all curves as `plot_curves` does; returns the Axes."""
        return plot_curves(
            {k: f.curve for k, f in self.finders.items()},
            suggestions={k: f.suggestion for k, f in self.finders.items()},
            relative=relative,
            ax=ax,
        )

    def __str__(self) -> str:
        return f"{text_table(_cells(self.rows))}\n{_note(self.rows)}".rstrip()

    def _repr_html_(self) -> str:
        return f"{html_table(_cells(self.rows))}<p>{_note(self.rows)}</p>"


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

    Example:
        ```python
        print(compare_lr({"adam": with_adam, "sgd": with_sgd}, x, y))
        sizes = {str(n): (model, {"batch_size": n}) for n in (16, 64, 256)}
        print(compare_lr(sizes, x, y))
        ```
    """
    check_type("models", models, Mapping, "a mapping of labels to models")
    if not models:
        raise ValueError(f"`models` must not be empty. Received: {models=}")
    finders = {}
    for i, (label, value) in enumerate(models.items()):
        model, own = value if isinstance(value, tuple) else (value, {})
        given = {**kwargs, **own}
        if given.get("verbose", 1) and is_chief():
            print(f"{label} ({i + 1} of {len(models)}):")
        finders[str(label)] = lr_find(model, x, y, **given)
    return Comparison(finders)


def _row(finder: Result) -> dict[str, Any]:
    ends = [run.final_loss for run in finder.runs if not is_training(run)]
    losses = [end for end in ends if end is not None and math.isfinite(end)]
    said = ("lr", "low", "high", "confidence", "reason")
    return {
        **{name: getattr(finder.suggestion, name) for name in said},
        "batch_size": finder.curve.batch_size,
        "best_probe_loss": min(losses, default=None),
    }


def _note(rows: list[dict[str, Any]]) -> str:
    sizes = {r["batch_size"] for r in rows if r["best_probe_loss"] is not None}
    return _UNEQUAL if len(sizes) > 1 else ""


def _cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    table = [["", "LR", "range", "confidence", "loss of the best probe"]]
    for row in rows:
        loss, found, within = row["best_probe_loss"], "none", ""
        if row["lr"] is not None:
            found = f"{row['lr']:.1e}"
            within = f"{row['low']:.1e} to {row['high']:.1e}"
        reached = "" if loss is None else f"{loss:.4g}"
        table.append([row["label"], found, within, row["confidence"], reached])
    return table
