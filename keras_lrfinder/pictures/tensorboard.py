"""Range tests in TensorBoard: the losses, the learning rates, the picture."""

from __future__ import annotations

import os
import pathlib
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.pictures.plotting import plot_curve


def write_curve(
    curve: Curve,
    suggestion: Suggestion | None,
    log_dir: str | os.PathLike[str],
    probes: Sequence[Probe] = (),
) -> pathlib.Path:
    """Writes a range test for TensorBoard.

    Scalars `lr_finder/loss`, `lr_finder/smoothed_loss` (without the steps
    that have none) and `lr_finder/learning_rate` for each step; the
    suggestion as the scalar `lr_finder/suggested_lr`, to compare runs by, and
    with its range, confidence and reason as the text `lr_finder/suggestion`;
    and the picture of loss over learning rate as the image
    `lr_finder/curve`. Every call writes a file of its own.

    Args:
        curve: What was measured.
        suggestion: Marked in the picture; None marks nothing.
        log_dir: Path of the directory, made if it is not there.
        probes: As for `plotting.plot_curve`.

    Returns:
        The path of the event file.

    Raises:
        ImportError: tensorboardX is not installed; nothing else needs it.
        OSError: The directory cannot be made or written into.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "TensorBoard files are written by tensorboardX: "
            'pip install "keras_lrfinder[tensorboard]"'
        ) from error
    folder = pathlib.Path(log_dir)
    folder.mkdir(parents=True, exist_ok=True)
    # Its own names tell apart seconds only.
    suffix = f".lr_finder.{uuid.uuid4().hex[:12]}"
    series = {
        "loss": curve.losses,
        "smoothed_loss": curve.smoothed,
        "learning_rate": curve.lrs,
    }
    # A queue of its usual length, ten, makes two threads wait in turns.
    with SummaryWriter(
        str(folder), filename_suffix=suffix, max_queue=1000
    ) as writer:
        for tag, values in series.items():
            for step, value in enumerate(values.tolist()):
                if tag != "smoothed_loss" or np.isfinite(value):
                    writer.add_scalar(f"lr_finder/{tag}", value, step)
        if suggestion is not None:
            writer.add_text("lr_finder/suggestion", _markdown(suggestion), 0)
            if suggestion.lr is not None:
                writer.add_scalar("lr_finder/suggested_lr", suggestion.lr, 0)
        ax = plot_curve(curve, suggestion, probes=probes)
        canvas: Any = ax.figure.canvas
        canvas.draw()
        picture = np.asarray(canvas.buffer_rgba())
        writer.add_image("lr_finder/curve", picture, 0, dataformats="HWC")
    return next(folder.glob(f"*{suffix}"))


def _markdown(suggestion: Suggestion) -> str:
    rows = [("confidence", suggestion.confidence), ("why", suggestion.reason)]
    if suggestion.lr is not None:
        ends = f"{suggestion.low:.1e} .. {suggestion.high:.1e}"
        rows.insert(0, ("range", ends))
        rows.insert(0, ("learning rate", f"{suggestion.lr:.3g}"))
    # A bar would end the cell.
    cells = [(name, text.replace("|", "/")) for name, text in rows]
    return "| | |\n| --- | --- |\n" + "\n".join(
        f"| {name} | {text} |" for name, text in cells
    )
