"""Several range tests side by side: optimizers, batch sizes, models."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from keras_lrfinder.arguments import check_type
from keras_lrfinder.pictures import plotting
from keras_lrfinder.pictures import report
from keras_lrfinder.training.lr_find import lr_find
from keras_lrfinder.training.result import Result
from keras_lrfinder.training.result import is_chief


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

        `best_probe_loss`, the lowest that a probe reached (held-out where there
        were such samples), or None, can be compared where data, loss function
        and `batch_size` are the same.
        """
        rows, said = [], ("lr", "low", "high", "confidence", "reason")
        for label, found in self.finders.items():
            row = {name: getattr(found.suggestion, name) for name in said}
            row |= {"label": label, "batch_size": found.curve.batch_size}
            probes = [r for r in found.runs if not plotting.is_training(r)]
            ends = [r.final_loss for r in probes if r.final_loss is not None]
            best = min(filter(math.isfinite, ends), default=None)
            rows.append({**row, "best_probe_loss": best})
        return rows

    def plot(self, *, relative: bool = False, ax: Any = None) -> Any:
        """Draws all curves as `plot_curves` does; returns the Axes."""
        curves = {k: f.curve for k, f in self.finders.items()}
        found = {k: f.suggestion for k, f in self.finders.items()}
        return plotting.plot_curves(
            curves, suggestions=found, relative=relative, ax=ax
        )

    def __str__(self) -> str:
        return f"{report.text_table(self._cells())}\n{self._note()}".rstrip()

    def _repr_html_(self) -> str:
        return f"{report.html_table(self._cells())}<p>{self._note()}</p>"

    def _note(self) -> str:
        probed = [f.curve for f in self.finders.values() if f.runs]
        if len({curve.batch_size for curve in probed}) < 2:
            return ""
        return (
            "The probes have as many steps, so those with larger batches saw "
            "more samples: their losses do not say which batch size is better."
        )

    def _cells(self) -> list[list[str]]:
        table = [["", "LR", "range", "confidence", "loss of the best probe"]]
        for row in self.rows:
            lr, within = "none", ""
            if row["lr"] is not None:
                lr = f"{row['lr']:.1e}"
                within = f"{row['low']:.1e} to {row['high']:.1e}"
            loss = row["best_probe_loss"]
            end = "" if loss is None else f"{loss:.4g}"
            table.append([row["label"], lr, within, row["confidence"], end])
        return table


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
