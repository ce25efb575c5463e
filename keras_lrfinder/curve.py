"""What a range test measured: the frozen `Curve`, and why it ended."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from keras_lrfinder.smoothing import ema
from keras_lrfinder.smoothing import ema_span

__all__ = ["Curve", "StopReason"]

_FORMAT = "keras_lrfinder.Curve"
_FORMAT_VERSION = 1
_TEXTS = ("stop_reason", "ramp", "optimizer", "monitor", "environment")

Path = str | os.PathLike[str]


class StopReason(enum.Enum):
    """Why a range test ended. The value says it in words.

    Attributes:
        cause: String, what happened.
        remedy: String, what to do about it.

    Example:
    >>> StopReason.OUT_OF_DATA.cause
    'the data ran out before the last step'
    """

    COMPLETED = (
        "all steps ran",
        "If the loss was still falling at the end, raise end_lr.",
    )
    DIVERGED = (
        "the loss blew up",
        "This is the usual end of a range test: nothing to do.",
    )
    NOT_FINITE = (
        "the loss became NaN or infinite",
        "The usual end of a range test at a high learning rate; if it came "
        "within the first steps, lower start_lr and check the inputs for NaN.",
    )
    OUT_OF_DATA = (
        "the data ran out before the last step",
        "Use fewer steps, more epochs, or data that can be read again.",
    )
    INTERRUPTED = (
        "the test was interrupted",
        "The curve is valid as far as it goes; run the test to its end.",
    )

    def __init__(self, cause: str, remedy: str) -> None:
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return self.cause


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
            a reader may need, such as `{"momentum": 0.9}`.
        stop_factor: Float or None, as given to the test.
        monitor: String, the name of the loss.
        batch_size: Integer, or None where it is not known.
        environment: Mapping of strings: date, versions, backend.

    Raises:
        TypeError: An array is not made of numbers.
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
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        lrs = _vector("lrs", self.lrs)
        losses = _vector("losses", self.losses)
        if not np.all(np.isfinite(lrs) & (lrs > 0)):
            raise ValueError(
                f"`lrs` must be positive and finite. Received: lrs={self.lrs!r}"
            )
        steps = len(lrs) if self.steps is None else int(self.steps)
        if self.smoothed is None:
            smoothed = _vector("smoothed", ema(losses, ema_span(max(steps, 1))))
        else:
            smoothed = _vector("smoothed", self.smoothed)
        if not len(lrs) == len(losses) == len(smoothed) <= steps:
            raise ValueError(
                "`lrs`, `losses` and `smoothed` must have one entry per step, "
                f"and at most `steps`. Received: {len(lrs)}, {len(losses)} "
                f"and {len(smoothed)} entries, {steps=}"
            )
        if self.ramp not in ("exponential", "linear"):
            raise ValueError(
                '`ramp` must be "exponential" or "linear". '
                f"Received: ramp={self.ramp!r}"
            )
        if not isinstance(self.stop_reason, StopReason):
            raise TypeError(
                "`stop_reason` must be a StopReason. "
                f"Received: stop_reason={self.stop_reason!r}"
            )
        values = {
            "lrs": lrs,
            "losses": losses,
            "smoothed": smoothed,
            "steps": steps,
            "best_loss": _lowest(smoothed, self.best_loss),
            "start_lr": _end(self.start_lr, lrs, 0),
            "end_lr": _end(self.end_lr, lrs, -1),
            "hyperparameters": MappingProxyType(dict(self.hyperparameters)),
            "environment": MappingProxyType(dict(self.environment)),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.lrs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Curve):
            return NotImplemented
        return all(
            _same(getattr(self, field.name), getattr(other, field.name))
            for field in dataclasses.fields(self)
        )

    def __hash__(self) -> int:
        return hash((self.losses.tobytes(), self.lrs.tobytes()))

    def __repr__(self) -> str:
        span = f"{self.lrs[0]:.1e}..{self.lrs[-1]:.1e}" if len(self) else "-"
        return (
            f"Curve({len(self)} of {self.steps} steps, lr {span}, "
            f"best loss {self.best_loss:.4g}, {self.stop_reason.name})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Mapping proxies cannot be pickled or deep-copied: go through the
        # constructor, which makes them anew.
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
        }
        for name in ("hyperparameters", "environment"):
            values[name] = dict(values[name])
        return _build, (values,)

    def to_json(self, path: Path | None = None) -> str:
        """Returns the whole curve as strict JSON, and writes it to `path`.

        Every number survives exactly. What JSON has no number for is the
        string `"NaN"`, `"Infinity"` or `"-Infinity"`.

        Args:
            path: Where to write the text as well; None writes nothing.
        """
        record: dict[str, Any] = {"format": _FORMAT, "version": _FORMAT_VERSION}
        for field in dataclasses.fields(self):
            record[field.name] = _encode(getattr(self, field.name))
        text = json.dumps(record, allow_nan=False, ensure_ascii=False)
        _write(path, text)
        return text

    @classmethod
    def from_json(cls, source: Path) -> Curve:
        """Returns the curve that `to_json` wrote.

        Args:
            source: The JSON text itself, or the path of a file with it.

        Raises:
            ValueError: The text is damaged, is no curve, or was written in a
                format that this version does not know.
            OSError: The file cannot be read.
        """
        record = _parse(_text_of(source))
        names = {field.name for field in dataclasses.fields(cls)}
        fields = set(record) - {"format", "version"}
        if fields != names:
            raise ValueError(
                "not a complete curve: "
                f"missing {sorted(names - fields)}, "
                f"unknown {sorted(fields - names)}"
            )
        try:
            values = {
                name: record[name] if name in _TEXTS else _decode(record[name])
                for name in names
            }
            values["stop_reason"] = StopReason[values["stop_reason"]]
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a valid curve: {error}") from error

    def to_csv(self, path: Path | None = None) -> str:
        """Returns `step,lr,loss,smoothed` lines, and writes them to `path`.

        Numbers are written with all their digits, NaN as `nan`.

        Args:
            path: Where to write the text as well; None writes nothing.
        """
        rows = zip(
            self.lrs.tolist(), self.losses.tolist(), self.smoothed.tolist()
        )
        lines = ["step,lr,loss,smoothed"]
        lines += [f"{i},{a!r},{b!r},{c!r}" for i, (a, b, c) in enumerate(rows)]
        text = "\n".join(lines) + "\n"
        _write(path, text)
        return text


def _build(values: dict[str, Any]) -> Curve:
    return Curve(**values)


def _vector(name: str, values: ArrayLike) -> NDArray[np.float64]:
    try:
        vector = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`{name}` must be numbers. Received: {name}={values!r}"
        ) from error
    if vector.ndim != 1:
        raise ValueError(
            f"`{name}` must have one dimension. Received: shape={vector.shape}"
        )
    vector.setflags(write=False)
    return vector


def _lowest(smoothed: NDArray[np.float64], given: float | None) -> float:
    if given is not None:
        return float(given)
    finite = smoothed[np.isfinite(smoothed)]
    return float(finite.min()) if len(finite) else math.nan


def _end(given: float | None, lrs: NDArray[np.float64], position: int) -> float:
    if given is not None:
        return float(given)
    return float(lrs[position]) if len(lrs) else math.nan


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b, equal_nan=True)
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    return bool(a == b)


def _encode(value: Any) -> Any:
    if isinstance(value, StopReason):
        return value.name
    if isinstance(value, Mapping):
        return {str(key): _encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_encode(item) for item in np.asarray(value).tolist()]
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    return value


def _text_of(source: Path) -> str:
    if isinstance(source, str) and source.lstrip().startswith("{"):
        return source
    with open(source, encoding="utf-8") as file:
        return file.read()


def _parse(text: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"damaged curve, not JSON: {error}") from error
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise ValueError("not a curve: the JSON has no curve's format mark")
    if record.get("version") != _FORMAT_VERSION:
        raise ValueError(
            f"curve of format version {record.get('version')!r}; this "
            f"package reads version {_FORMAT_VERSION}"
        )
    return record


def _write(path: Path | None, text: str) -> None:
    if path is not None:
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
