"""Range tests in TensorBoard: the losses, the learning rates, the picture.

An event file is a list of small protocol buffer messages, each with two
checksums. They are written here by hand: neither TensorBoard nor TensorFlow
has to be installed, and every backend can do it.
"""

from __future__ import annotations

import io
import os
import pathlib
import struct
import time
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.pictures.plotting import plot_curve

__all__ = ["write_curve"]

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_DPI = 100


def write_curve(
    curve: Curve,
    suggestion: Suggestion | None,
    log_dir: str | os.PathLike[str],
    probes: Sequence[Any] = (),
) -> pathlib.Path:
    """Writes a range test for TensorBoard.

    Scalars `lr_finder/loss`, `lr_finder/smoothed_loss` (without the steps
    that have none) and `lr_finder/learning_rate` for each step, and the
    picture of loss over learning rate as the image `lr_finder/curve`. Every
    call writes a file of its own.

    Args:
        curve: What was measured.
        suggestion: Marked in the picture; None marks nothing.
        log_dir: Path of the directory, made if it is not there.
        probes: As for `plotting.plot_curve`.

    Returns:
        The path of the event file.

    Raises:
        OSError: The directory cannot be made or written into.
    """
    now = time.time()
    folder = pathlib.Path(log_dir)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"events.out.tfevents.{int(now)}.lr_finder.{uuid.uuid4().hex[:12]}"
    events = [_event(now, 0, _text(3, "brain.Event:2"))]
    series = {
        "loss": curve.losses,
        "smoothed_loss": curve.smoothed,
        "learning_rate": curve.lrs,
    }
    for tag, values in series.items():
        for step, value in enumerate(values.tolist()):
            if tag != "smoothed_loss" or np.isfinite(value):
                events.append(_scalar(now, step, f"lr_finder/{tag}", value))
    ax = plot_curve(curve, suggestion, probes=probes)
    events.append(_image(now, "lr_finder/curve", ax.figure))
    file = folder / name
    file.write_bytes(b"".join(map(_record, events)))
    return file


def _scalar(wall_time: float, step: int, tag: str, value: float) -> bytes:
    # Beyond what float32 holds, the format has only infinity.
    with np.errstate(over="ignore"):
        number = np.float32(value).tobytes()
    simple_value = _key(2, _FOUR_BYTES) + number
    return _summary(wall_time, step, tag, simple_value)


def _image(wall_time: float, tag: str, figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    png = buffer.getvalue()
    width, height = struct.unpack(">II", png[16:24])  # PNG's own header
    image = (
        _number(1, height) + _number(2, width) + _number(3, 4) + _bytes(4, png)
    )
    return _summary(wall_time, 0, tag, _bytes(4, image))


def _summary(wall_time: float, step: int, tag: str, content: bytes) -> bytes:
    value = _bytes(1, _text(1, tag) + content)
    return _event(wall_time, step, _bytes(5, value))


def _event(wall_time: float, step: int, content: bytes) -> bytes:
    when = _key(1, _EIGHT_BYTES) + struct.pack("<d", wall_time)
    return when + _number(2, step) + content


def _key(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _number(field: int, value: int) -> bytes:
    return _key(field, _VARINT) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, _LENGTH) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
    """Returns the masked CRC-32C that TFRecord files have."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return struct.pack("<I", masked)


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC_TABLE = _crc_table()
