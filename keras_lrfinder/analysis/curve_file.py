"""A curve as a file: strict JSON and back, every number exactly, and CSV.

JSON has no NaN and no infinity. Here they are the strings `"NaN"`,
`"Infinity"` and `"-Infinity"`; a string that reads so itself gets a tilde
before it, and loses it again.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lrfinder.analysis.stop_reason import StopReason

Path = str | os.PathLike[str]

_FORMAT = "keras_lrfinder.Curve"
_VERSION = 1
_MAY_BE_NULL = {"stop_factor", "batch_size", "steps_per_epoch"}

_ESCAPED = re.compile(r"~*(NaN|Infinity|-Infinity)")


def plain(value: Any) -> Any:
    """Returns `value` made of what JSON can hold, and of nothing mutable.

    Mappings become dicts with string keys, sequences and arrays tuples,
    numpy's scalars Python's; what is none of these becomes its `str`.

    Example:
    >>> plain({"betas": [0.9, np.float32(0.5)]})
    {'betas': (0.9, 0.5)}
    """
    if isinstance(value, np.generic) or (
        isinstance(value, np.ndarray) and value.ndim == 0
    ):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return tuple(plain(item) for item in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def encode(value: Any) -> Any:
    """Returns what `json.dumps` writes without loss for a `plain` value."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, StopReason):
        return value.name
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, str) and _ESCAPED.fullmatch(value):
        return f"~{value}"
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    return value


def decode(value: Any) -> Any:
    """Returns the value that `encode` was given; sequences as lists."""
    if isinstance(value, dict):
        return {key: decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [decode(item) for item in value]
    if isinstance(value, str) and _ESCAPED.fullmatch(value):
        return value[1:] if value.startswith("~") else float(value)
    return value


def write_json(values: Mapping[str, Any], path: Path | None) -> str:
    """Returns the fields of a curve as JSON, and writes them to `path`."""
    record = {"format": _FORMAT, "version": _VERSION, **encode(values)}
    text = json.dumps(record, allow_nan=False)
    _write(path, text)
    return text


def write_csv(
    columns: Mapping[str, NDArray[np.float64]], path: Path | None
) -> str:
    """Returns a line for each step, and writes them to `path`."""
    rows = zip(*(column.tolist() for column in columns.values()))
    lines = [",".join(("step", *columns))]
    lines += [",".join(map(repr, (i, *row))) for i, row in enumerate(rows)]
    text = "\n".join(lines) + "\n"
    _write(path, text)
    return text


def read_json(source: Path) -> dict[str, Any]:
    """Returns the record of a curve in a text or a file, its mark removed.

    Args:
        source: The text, which starts with a brace, or the path of a file.

    Raises:
        OSError: The file cannot be read.
        TypeError: `source` is neither text nor path.
        ValueError: The text is damaged, is no curve, or of another version.
    """
    text = _text_of(source)
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
    return record


def fields_of(record: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Returns the values of a curve's fields, all of which must be there."""
    if set(record) != set(names):
        raise ValueError(
            f"missing {sorted(set(names) - set(record))}, "
            f"unknown {sorted(set(record) - set(names))}"
        )
    # The constructor would fill these in; a file has them.
    empty = {name for name in names if record[name] is None} - _MAY_BE_NULL
    if empty:
        raise ValueError(f"null in {sorted(empty)}")
    values: dict[str, Any] = decode(record)
    reason = values["stop_reason"]
    if not isinstance(reason, str) or reason not in StopReason.__members__:
        raise ValueError(f"unknown stop_reason {reason!r}")
    return values | {"stop_reason": StopReason[reason]}


def _write(path: Path | None, text: str) -> None:
    if path is not None:
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)


def _text_of(source: Path) -> str:
    if not isinstance(source, (str, os.PathLike)):
        # open() would take an integer for a file descriptor.
        raise TypeError(
            f"expected JSON text or a path. Received: {type(source).__name__}"
        )
    if isinstance(source, str) and _looks_like_text(source):
        return source.lstrip("\ufeff")
    with open(source, encoding="utf-8-sig") as file:
        try:
            return file.read()
        except UnicodeDecodeError as error:
            raise ValueError(f"damaged, not UTF-8: {error}") from error


def _looks_like_text(source: str) -> bool:
    start = source.lstrip("\ufeff \t\r\n")[:1]
    return start in ("{", "") or "\n" in source or "\0" in source


def _refuse_constant(name: str) -> float:
    raise ValueError(f"bare {name}")
