"""Keras's hooks, handed on to the run that is under way."""

from __future__ import annotations

import warnings
from typing import Any

import keras

from keras_lrfinder.training.other_callbacks import check_other_callbacks
from keras_lrfinder.training.sweep import Sweep


class SweepCallback(keras.callbacks.Callback):
    """Base of the callbacks that set a learning rate and record a loss.

    A subclass says what to sweep in `_new_sweep`, and hears of the end in
    `_sweep_ended`.
    """

    _sweep: Sweep | None = None

    def set_params(self, params: Any) -> None:
        """Keras calls this before any callback touches the model."""
        super().set_params(params)
        check_other_callbacks(self, SweepCallback)

    def on_train_begin(self, logs: Any = None) -> None:
        """Takes the snapshot and sets the first learning rate."""
        # A run that an exception ended has left its traces behind.
        self._end_sweep(stopped=True)
        self._sweep = self._new_sweep()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remembers that others may have set the learning rate here."""
        if self._sweep is not None:
            self._sweep.start_epoch()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Empties the running mean, so that the batch's own loss is logged."""
        if self._sweep is not None:
            self._sweep.start_batch()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Records the loss and sets the next learning rate."""
        if self._sweep is not None:
            self._sweep.end_batch(logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the learning rate of its last batch to the epoch's logs."""
        if logs is not None and self._sweep is not None:
            logs["learning_rate"] = self._sweep.used_lr

    def on_test_begin(self, logs: Any = None) -> None:
        """Cuts a validation after the end short: it would run in full."""
        if self._sweep is not None and self._sweep.is_over:
            self.model.stop_evaluating = True

    def on_train_end(self, logs: Any = None) -> None:
        """Puts the model back, then reports."""
        self._end_sweep(stopped=bool(self.model.stop_training))

    def _new_sweep(self) -> Sweep:
        """Returns the run that begins."""
        raise NotImplementedError

    def _sweep_ended(self, sweep: Sweep, stopped: bool) -> None:
        """Called when a run is over, and the model back.

        Args:
            sweep: The run.
            stopped: Whether somebody else asked the fit to stop.
        """

    def _end_sweep(self, stopped: bool) -> None:
        sweep, self._sweep = self._sweep, None
        if sweep is None:
            return
        sweep.end()
        if sweep.warning:
            warnings.warn(sweep.warning, UserWarning, stacklevel=4)
        if sweep.error is not None:
            raise sweep.error
        self._sweep_ended(sweep, stopped and not sweep.recorder.done)
