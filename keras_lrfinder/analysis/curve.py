"""What a range test measured: the frozen `Curve`, and why it ended.

As a file it is strict JSON, every number exact. JSON has no NaN and no
infinity: they are the strings `"NaN"`, `"Infinity"` and `"-Infinity"`; a string
that reads so itself gets a tilde before it, and loses it again.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import math
import os
import re
import reprlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from keras_lrfinder import arguments

Path = str | os.PathLike[str]

RAMPS = ("exponential", "linear")
_FORMAT = "keras_lrfinder.Curve"
_VERSION = 1
_MAY_BE_NULL = {"stop_factor", "batch_size", "steps_per_epoch"}

_ESCAPED = re.compile(r"~*(NaN|Infinity|-Infinity)")


class StopReason(enum.Enum):
    """Why a range test ended. The value says it in words.

    Attributes:
        cause: String, what happened.
        remedy: String, what to do about it.
    """

    COMPLETED = (
        "all steps ran",
        "If the loss was still falling at the end, raise `end_lr`.",
    )
    DIVERGED = (
        "the loss blew up",
        "This is the usual end of a range test: nothing to do.",
    )
    NOT_FINITE = (
        "the loss became NaN or infinite",
        "The usual end of a range test at a high learning rate. If it came "
        "in the first steps, lower `start_lr` and check the inputs for NaN.",
    )
    OUT_OF_DATA = (
        "the data ran out",
        "Use fewer `steps`, or data with more batches.",
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


# A ramp that ended so may have seen nothing yet.
CUT_SHORT = (StopReason.OUT_OF_DATA, StopReason.INTERRUPTED)


def ema_span(steps: int) -> float:
    """Returns the span of the moving average for a test of `steps` steps.

    A share of the test, so that a longer one has the same answer.
    """
    return max(1.0, steps / 10)


class RunningEMA:
    """Exponential moving average with bias correction, one value at a time.

    With `beta = 1 - 2 / (span + 1)`:

    ```
    a_i = beta * a_(i-1) + (1 - beta) * x_i        a_(-1) = 0
    s_i = a_i / (1 - beta^(i+1))                   i = 0, 1, …
    ```

    The correction (Kingma & Ba 2015, section 3) makes the weights of every
    `s_i` sum to one: a constant stays that constant from the first value on.
    A span of 1 means no smoothing.
    """

    def __init__(self, span: float) -> None:
        if not (math.isfinite(span) and span >= 1):
            raise ValueError(f"`span` must be at least 1. Received: {span=}")
        self._beta = 1.0 - 2.0 / (span + 1.0)
        self._mean = 0.0
        self._weight = 0.0

    def update(self, value: float) -> float:
        """Returns the average; what is not finite is left out, and NaN."""
        if not math.isfinite(value):
            return math.nan
        # The weight is the average of ones, so that both round alike.
        self._mean = self._beta * self._mean + (1.0 - self._beta) * value
        self._weight = self._beta * self._weight + (1.0 - self._beta)
        return self._mean / self._weight


def ema(values: ArrayLike, span: float) -> NDArray[np.float64]:
    """Returns `RunningEMA` of a whole sequence."""
    average = RunningEMA(span)
    sequence = np.asarray(values, dtype=np.float64).tolist()
    return np.array([average.update(x) for x in sequence], dtype=np.float64)


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """A learning rate range test, as measured.

    Entry `i` of the arrays belongs to step `i`: `losses[i]` is the loss of
    the batch that was trained with `lrs[i]`, measured before that update.
    The arrays are read-only, `==` compares the contents.

    Args:
        lrs: Array, the rising learning rates of the steps.
        losses: Array, the raw losses, NaN and infinities kept.
        smoothed: Array, the bias-corrected moving average of the finite
            losses, NaN at others; as a default over a tenth of `steps`.
        best_loss: Float, the lowest smoothed loss; NaN if there is none.
        stop_reason: `StopReason`, why the test ended.
        start_lr: Float, the learning rate *planned* for the first step.
        end_lr: Float, the one planned for the last step.
        steps: Integer, the planned number of steps; `len(lrs)` ran.
        ramp: `"exponential"` or `"linear"`.
        optimizer: String, the optimizer's name, such as `"adam"`, or `""`.
        hyperparameters: Mapping, the optimizer's own settings, such as
            `{"momentum": 0.9}`: kept as plain values, objects as their `str`.
        stop_factor: Float or None, as given to the test.
        monitor: String, the name of the loss.
        batch_size: Integer, samples of a step; None: not known.
        steps_per_epoch: Integer, after how many steps the data repeats;
            None: not known.
        environment: Mapping of strings: date, versions, backend.

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
        lrs = arguments.learning_rates("lrs", self.lrs)
        if (np.diff(lrs) <= 0.0).any():
            raise ValueError(
                "`lrs` must rise from step to step, as in a range test. "
                f"Received: lrs={reprlib.repr(lrs.tolist())}"
            )
        losses = arguments.vector("losses", self.losses)
        steps = arguments.integer("steps", _given(self.steps, len(lrs)))
        average = ema(losses, ema_span(steps))
        smoothed = arguments.vector("smoothed", _given(self.smoothed, average))
        if not len(lrs) == len(losses) == len(smoothed) <= steps:
            raise ValueError(
                "`lrs`, `losses` and `smoothed` must have one entry per step, "
                f"and at most `steps`. Received: {len(lrs)}, {len(losses)} "
                f"and {len(smoothed)} entries, {steps=}"
            )
        finite = smoothed[np.isfinite(smoothed)]
        lowest = float(finite.min()) if len(finite) else math.nan
        start, end = lrs[[0, -1]].tolist() if len(lrs) else (math.nan, math.nan)
        self._set(lrs=lrs, losses=losses, smoothed=smoothed, steps=steps)
        self._set(
            best_loss=_given(self.best_loss, lowest),
            start_lr=_given(self.start_lr, start),
            end_lr=_given(self.end_lr, end),
        )
        self._set(**self._checked())

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _checked(self) -> dict[str, Any]:
        """Returns the fields that are no arrays, each as its own type."""
        arguments.check_type(
            "stop_reason", self.stop_reason, StopReason, "a StopReason"
        )
        values: dict[str, Any] = {
            "ramp": arguments.one_of("ramp", self.ramp, RAMPS),
            "optimizer": arguments.text("optimizer", self.optimizer),
            "monitor": arguments.text("monitor", self.monitor),
        }
        for name in ("best_loss", "start_lr", "end_lr", "stop_factor"):
            if (value := getattr(self, name)) is not None:
                values[name] = arguments.number(name, value, finite=False)
        for name in ("batch_size", "steps_per_epoch"):
            if (value := getattr(self, name)) is not None:
                values[name] = arguments.integer(name, value)
        for name in ("hyperparameters", "environment"):
            value = getattr(self, name)
            arguments.check_type(name, value, Mapping, "a mapping")
            values[name] = MappingProxyType(_plain(value))
        return values

    def _values(self) -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(self)]
        return {name: getattr(self, name) for name in names}

    def __len__(self) -> int:
        return len(self.lrs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Curve):
            return NotImplemented
        return bool(_encode(self._values()) == _encode(other._values()))

    def __hash__(self) -> int:
        return hash((len(self), self.steps, self.lrs.tobytes()))

    def __repr__(self) -> str:
        span = f"{self.lrs[0]:.1e}..{self.lrs[-1]:.1e}" if len(self) else "-"
        return (
            f"Curve({len(self)} of {self.steps} steps, lr {span}, "
            f"best loss {self.best_loss:.4g}, {self.stop_reason.name})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Mapping proxies cannot be pickled: the constructor makes them anew.
        values = self._values()
        for name in ("hyperparameters", "environment"):
            values[name] = dict(values[name])
        return functools.partial(Curve, **values), ()

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        ran, planned = len(self), self.steps
        if self.stop_reason is StopReason.COMPLETED:
            return f"all {planned:,} steps ran"
        return f"{self.stop_reason.cause} after {ran:,} of {planned:,} steps"

    def to_json(self, path: Path | None = None) -> str:
        """Returns the whole curve as strict JSON, and writes it to `path`."""
        record = {"format": _FORMAT, "version": _VERSION}
        text = json.dumps(record | _encode(self._values()), allow_nan=False)
        return _written(path, text)

    @classmethod
    def from_json(cls, source: Path) -> Curve:
        """Returns the curve that `to_json` wrote.

        Args:
            source: The JSON text itself, or the path of a file with it.

        Raises:
            OSError: The file cannot be read.
            ValueError: The text is damaged, no curve, or of another version.
        """
        text = _text_of(source)
        try:
            return cls(**_fields_of(text))
        except (TypeError, ValueError) as error:
            raise ValueError(f"not a valid curve: {error}") from error

    def to_csv(self, path: Path | None = None) -> str:
        """Returns `step,lr,loss,smoothed` lines, and writes them to `path`."""
        columns = (self.lrs, self.losses, self.smoothed)
        rows = zip(*(column.tolist() for column in columns))
        lines = [",".join(map(repr, (i, *row))) for i, row in enumerate(rows)]
        return _written(path, "\n".join(["step,lr,loss,smoothed", *lines, ""]))


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


def _plain(value: Any) -> Any:
    """Returns `value` made of what JSON can hold, sequences as tuples."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item) for item in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def _encode(value: Any) -> Any:
    """Returns what `json.dumps` writes without loss for a `_plain` value."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, StopReason):
        return value.name
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(item) for item in value]
    if isinstance(value, str) and _ESCAPED.fullmatch(value):
        return f"~{value}"
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    return value


def _decode(value: Any) -> Any:
    """Returns the value that `_encode` was given; sequences as lists."""
    if isinstance(value, dict):
        return {key: _decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if isinstance(value, str) and _ESCAPED.fullmatch(value):
        return value[1:] if value.startswith("~") else float(value)
    return value


def _fields_of(text: str) -> dict[str, Any]:
    """Returns the values of a curve's fields, all of which must be there."""
    try:
        # Python reads and writes a bare NaN; JSON has none.
        record = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"damaged, not JSON: {error}") from error
    if not isinstance(record, dict) or record.pop("format", None) != _FORMAT:
        raise ValueError(f'the JSON lacks the mark "format": "{_FORMAT}"')
    found = record.pop("version", None)
    if type(found) is not int or found != _VERSION:
        raise ValueError(
            f"written in format version {found!r}; this package reads "
            f"version {_VERSION}"
        )
    names = {field.name for field in dataclasses.fields(Curve)}
    if set(record) != names:
        raise ValueError(
            f"missing {sorted(names - set(record))}, "
            f"unknown {sorted(set(record) - names)}"
        )
    # The constructor would fill these in; a file has them.
    empty = {name for name in names if record[name] is None} - _MAY_BE_NULL
    if empty:
        raise ValueError(f"null in {sorted(empty)}")
    reason = StopReason.__members__.get(str(record["stop_reason"]))
    if reason is None:
        raise ValueError(f"unknown stop_reason {record['stop_reason']!r}")
    return {**_decode(record), "stop_reason": reason}


def _written(path: Path | None, text: str) -> str:
    """Returns the text, which is in a file as well, if there is a path."""
    if path is not None:
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
    return text


def _text_of(source: Path) -> str:
    if not isinstance(source, (str, os.PathLike)):
        # open() would take an integer for a file descriptor.
        raise TypeError(
            f"expected JSON text or a path. Received: {type(source).__name__}"
        )
    if isinstance(source, str):
        start = source.lstrip("\ufeff \t\r\n")[:1]
        if start in ("{", "") or "\n" in source or "\0" in source:
            return source.lstrip("\ufeff")
    with open(source, encoding="utf-8-sig") as file:
        return file.read()


def _refuse_constant(name: str) -> float:
    raise ValueError(f"bare {name}")
