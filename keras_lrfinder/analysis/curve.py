"""What a range test measured: the frozen `Curve`."""

from __future__ import annotations

import dataclasses
import functools
import math
import reprlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lrfinder.analysis.curve_file import Path
from keras_lrfinder.analysis.curve_file import fields_of
from keras_lrfinder.analysis.curve_file import plain
from keras_lrfinder.analysis.curve_file import read_json
from keras_lrfinder.analysis.curve_file import write_csv
from keras_lrfinder.analysis.curve_file import write_json
from keras_lrfinder.analysis.smoothing import ema
from keras_lrfinder.analysis.smoothing import ema_span
from keras_lrfinder.analysis.stop_reason import StopReason
from keras_lrfinder.arguments import check_type
from keras_lrfinder.arguments import integer
from keras_lrfinder.arguments import learning_rates
from keras_lrfinder.arguments import number
from keras_lrfinder.arguments import one_of
from keras_lrfinder.arguments import text
from keras_lrfinder.arguments import vector

if TYPE_CHECKING:
    import pandas as pd

RAMPS = ("exponential", "linear")


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """A learning rate range test, as measured.

    Entry `i` of the arrays belongs to step `i`: `losses[i]` is the loss of
    the batch that was trained with `lrs[i]`, measured before that update.
    The arrays are read-only, `==` compares the contents.

    Args:
        lrs: Array of shape `(n,)`, positive, the learning rate of each step.
        losses: Array of shape `(n,)`, the raw loss of each step, NaN and
            infinities kept.
        smoothed: Array of shape `(n,)`, the bias-corrected moving average of
            the finite losses (NaN where the loss is not finite). Defaults to
            `smoothing.ema` with a span of a tenth of `steps`.
        best_loss: Float, the lowest smoothed loss; NaN if there is none.
        stop_reason: `StopReason`, why the test ended.
        start_lr: Float, learning rate planned for the first step.
        end_lr: Float, learning rate planned for the last step.
        steps: Integer, the *planned* number of steps; `len(lrs)` ran.
        ramp: `"exponential"` or `"linear"`.
        optimizer: String, the optimizer's name in lower case, or `""`.
        hyperparameters: Mapping, the optimizer's own settings that a rule or
            a reader may need, such as `{"momentum": 0.9}`. Kept as plain
            values: lists become tuples, unknown objects their `str`.
        stop_factor: Float or None, as given to the test.
        monitor: String, the name of the loss.
        batch_size: Integer, or None where it is not known.
        steps_per_epoch: Integer, after how many steps the data repeats, or
            None where it is not known.
        environment: Mapping of strings: date, versions, backend.

    Raises:
        TypeError: An array is not made of numbers, or a field not of the
            type said above.
        ValueError: Arrays of unequal length or of more than one dimension, a
            learning rate that is not positive and finite, an unknown `ramp`.

    Example:
    >>> curve = Curve(lrs=[1e-3, 1e-2, 1e-1], losses=[2.3, 2.1, 1.7])
    >>> curve.best_loss
    1.7
    >>> Curve.from_json(curve.to_json()) == curve
    True
    """

    lrs: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothed: NDArray[np.float64] = None  # type: ignore[assignment]
    best_loss: float = None  # type: ignore[assignment]
    stop_reason: StopReason = StopReason.COMPLETED
    start_lr: float = None  # type: ignore[assignment]
    end_lr: float = None  # type: ignore[assignment]
    steps: int = None  # type: ignore[assignment]
    ramp: str = "exponential"
    optimizer: str = ""
    hyperparameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stop_factor: float | None = 4.0
    monitor: str = "loss"
    batch_size: int | None = None
    steps_per_epoch: int | None = None
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        lrs = learning_rates("lrs", self.lrs)
        if (np.diff(lrs) <= 0.0).any():
            raise ValueError(
                "`lrs` must rise from step to step, as in a range test. "
                f"Received: lrs={reprlib.repr(lrs.tolist())}"
            )
        losses = vector("losses", self.losses)
        steps = integer("steps", _given(self.steps, len(lrs)))
        smoothed = self.smoothed
        if smoothed is None:
            smoothed = ema(losses, ema_span(max(steps, 1)))
        smoothed = vector("smoothed", smoothed)
        if not len(lrs) == len(losses) == len(smoothed) <= steps:
            raise ValueError(
                "`lrs`, `losses` and `smoothed` must have one entry per step, "
                f"and at most `steps`. Received: {len(lrs)}, {len(losses)} "
                f"and {len(smoothed)} entries, {steps=}"
            )
        filled = {
            "lrs": lrs,
            "losses": losses,
            "smoothed": smoothed,
            "steps": steps,
            "best_loss": _given(self.best_loss, _lowest(smoothed)),
            "start_lr": _given(self.start_lr, _at(lrs, 0)),
            "end_lr": _given(self.end_lr, _at(lrs, -1)),
        }
        for name, value in filled.items():
            object.__setattr__(self, name, value)
        for name, value in self._checked().items():
            object.__setattr__(self, name, value)

    def _checked(self) -> dict[str, Any]:
        """Returns the fields that are no arrays, each as its own type."""
        check_type("stop_reason", self.stop_reason, StopReason, "a StopReason")
        values: dict[str, Any] = {
            "ramp": one_of("ramp", self.ramp, RAMPS),
            "optimizer": text("optimizer", self.optimizer),
            "monitor": text("monitor", self.monitor),
        }
        for name in ("best_loss", "start_lr", "end_lr", "stop_factor"):
            if (value := getattr(self, name)) is not None:
                values[name] = number(name, value, finite=False)
        for name in ("batch_size", "steps_per_epoch"):
            if (value := getattr(self, name)) is not None:
                values[name] = integer(name, value)
        for name in ("hyperparameters", "environment"):
            value = getattr(self, name)
            check_type(name, value, Mapping, "a mapping")
            values[name] = MappingProxyType(plain(value))
        return values

    def _values(self) -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(self)]
        return {name: getattr(self, name) for name in names}

    def __len__(self) -> int:
        return len(self.lrs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Curve):
            return NotImplemented
        return _same(self._values(), other._values())

    def __hash__(self) -> int:
        # What is equal must hash alike: 0.0 and -0.0, and NaNs of any bits.
        losses = np.where(np.isnan(self.losses), np.nan, self.losses) + 0.0
        return hash((losses.tobytes(), self.lrs.tobytes()))

    def __repr__(self) -> str:
        span = f"{self.lrs[0]:.1e}..{self.lrs[-1]:.1e}" if len(self) else "-"
        return (
            f"Curve({len(self)} of {self.steps} steps, lr {span}, "
            f"best loss {self.best_loss:.4g}, {self.stop_reason.name})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Mapping proxies cannot be pickled or deep-copied: go through the
        # constructor, which makes them anew.
        values = self._values()
        for name in ("hyperparameters", "environment"):
            values[name] = dict(values[name])
        return functools.partial(Curve, **values), ()

    def to_json(self, path: Path | None = None) -> str:
        """Returns the whole curve as strict JSON, and writes it to `path`.

        Every number survives exactly. What JSON has no number for is the
        string `"NaN"`, `"Infinity"` or `"-Infinity"`.

        Args:
            path: Where to write the text as well; None writes nothing.
        """
        return write_json(self._values(), path)

    @classmethod
    def from_json(cls, source: Path) -> Curve:
        """Returns the curve that `to_json` wrote.

        Args:
            source: The JSON text itself, or the path of a file with it.

        Raises:
            OSError: The file cannot be read.
            TypeError: `source` is neither text nor path.
            ValueError: The text is damaged, is no curve, or was written in a
                format that this version does not know.
        """
        record = read_json(source)
        names = [field.name for field in dataclasses.fields(cls)]
        try:
            return cls(**fields_of(record, names))
        except (TypeError, ValueError) as error:
            raise ValueError(f"not a valid curve: {error}") from error

    def to_csv(self, path: Path | None = None) -> str:
        """Returns `step,lr,loss,smoothed` lines, and writes them to `path`.

        Numbers are written with all their digits, NaN as `nan`.

        Args:
            path: Where to write the text as well; None writes nothing.
        """
        return write_csv(self._columns(), path)

    def to_pandas(self) -> pd.DataFrame:
        """Returns a pandas DataFrame: `lr`, `loss`, `smoothed` by `step`.

        Raises:
            ImportError: pandas is not installed; nothing else here needs it.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "`to_pandas` needs pandas: pip install pandas. "
                "`to_csv` does without"
            ) from error
        return pd.DataFrame(
            # Copies: pandas would hand out views of what is read-only.
            {name: column.copy() for name, column in self._columns().items()},
            index=pd.RangeIndex(len(self), name="step"),
        )

    def _columns(self) -> dict[str, NDArray[np.float64]]:
        return {"lr": self.lrs, "loss": self.losses, "smoothed": self.smoothed}

    def to_text(self, width: int = 72, height: int = 16) -> str:
        """Returns a plot in plain ASCII, for where there is no display.

        Dots are the raw losses, stars the smoothing spline.

        Args:
            width: Integer >= 30, the most columns of a line.
            height: Integer >= 8, the number of lines.

        Raises:
            ValueError: Too small to hold a plot.
        """
        from keras_lrfinder.drawing.text_plot import text_plot

        title = f"{self._title()}: {self.stop_reason}"
        return text_plot(self.lrs, self.losses, width, height, title)

    def _repr_html_(self) -> str:
        from keras_lrfinder.drawing.notebook import html_card
        from keras_lrfinder.drawing.notebook import svg_curve

        rows: list[tuple[str, object]] = [
            ("steps", f"{len(self)} of {self.steps}"),
            ("best loss, smoothed", f"{self.best_loss:.4g}"),
        ]
        if self.batch_size is not None:
            rows.append(("batch size", self.batch_size))
        if self.stop_reason is not StopReason.DIVERGED:
            rows.append(("what to do", self.stop_reason.remedy))
        svg = svg_curve(self.lrs, self.losses)
        return html_card(f"{self._title()}: {self.stop_reason}", rows, svg)

    def _title(self) -> str:
        return "LR range test" + (self.optimizer and f", {self.optimizer}")


def _given(value: Any, default: float) -> Any:
    return default if value is None else value


def _lowest(smoothed: NDArray[np.float64]) -> float:
    finite = smoothed[np.isfinite(smoothed)]
    return float(finite.min()) if len(finite) else math.nan


def _at(lrs: NDArray[np.float64], position: int) -> float:
    return float(lrs[position]) if len(lrs) else math.nan


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b, equal_nan=True)
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return set(a) == set(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)
