"""Runs the probes: the Keras side of `analysis/probes.py`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.probes import PROBE_STEPS
from keras_lrfinder.analysis.probes import Probe
from keras_lrfinder.analysis.probes import decide
from keras_lrfinder.analysis.probes import next_lr
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.training.keras_internals import is_overridden
from keras_lrfinder.training.loan import Loan
from keras_lrfinder.training.loan import Progress
from keras_lrfinder.training.probe_data import Replay
from keras_lrfinder.training.sweep import Recorder
from keras_lrfinder.training.sweep import Sweep
from keras_lrfinder.training.sweep_callback import SweepCallback
from keras_lrfinder.training.updates import Updates

# Custom models need not be able to evaluate: what they lose is a check, and
# the suggestion says so. What anybody else raises there is theirs.
_STEPS = ("train_step", "test_step", "call", "compute_loss")
_CANNOT_EVALUATE = (
    AttributeError,
    KeyError,
    NotImplementedError,
    TypeError,
    ValueError,
)
# The fit is stopped from within; at worst an epoch is one batch.
_MOST_EPOCHS = 64 * PROBE_STEPS


class Prober:
    """Trains a model at fixed learning rates, always from the same state.

    Args:
        model: The compiled Keras model.
        loan: The loan that the model is on, rewound.
        replay: The data.
        monitor: String, the key of the logs that is the loss.
        fit_kwargs: What else `fit` is to get.
        progress: Function that makes a progress display for a probe.
    """

    def __init__(
        self,
        model: Any,
        loan: Loan,
        replay: Replay,
        *,
        monitor: str,
        fit_kwargs: dict[str, Any],
        progress: Callable[[], Progress | None],
    ) -> None:
        self._model = model
        self._loan = loan
        self._replay = replay
        self._monitor = monitor
        self._fit_kwargs = fit_kwargs
        self._progress = progress

    def run(
        self, curve: Curve, suggestion: Suggestion
    ) -> tuple[tuple[Probe, ...], Suggestion]:
        """Runs as many probes as it takes to confirm or correct.

        Args:
            curve: The curve of the ramp.
            suggestion: What the ramp suggests.

        Returns:
            The probes, and the suggestion that they support. The model is
            back in the state in which it came.
        """
        probes: list[Probe] = []
        before = None
        while (lr := next_lr(curve, suggestion, probes)) is not None:
            if not probes:
                before = self._held_out_loss()
            probes.append(self._probe(lr, before))
        return tuple(probes), decide(curve, suggestion, probes)

    def _probe(self, lr: float, before: float | None) -> Probe:
        recorder = _FixedRate(lr)
        self._loan.progress = self._progress()
        try:
            self._model.fit(
                **self._replay.train,
                **self._fit_kwargs,
                epochs=_MOST_EPOCHS,
                shuffle=False,
                callbacks=[_ProbeCallback(self._loan, recorder, self._monitor)],
                verbose=0,
            )
            losses = np.array(recorder.losses)
            if not _finite_weights(self._model):
                # Some layers hide a NaN from the loss: relu makes it zero.
                losses = np.append(losses, math.nan)
            after = None if before is None else self._held_out_loss()
        finally:
            self._loan.rewind()
        source = "" if before is None else self._replay.source
        return Probe(lr, losses, after, before, source)

    def _held_out_loss(self) -> float | None:
        if self._replay.held_out is None:
            return None
        try:
            logs = self._model.evaluate(
                **self._replay.held_out, verbose=0, return_dict=True
            )
            return float(logs[self._monitor])
        except _CANNOT_EVALUATE:
            # On JAX what fails there leaves the model's variables empty.
            self._loan.rewind()
            if not is_overridden(self._model, _STEPS):
                raise
            return None


def _finite_weights(model: Any) -> bool:
    return all(
        bool(np.isfinite(keras.ops.convert_to_numpy(weight)).all())
        for weight in model.trainable_variables
    )


class _FixedRate:
    """Recorder of some steps at one learning rate."""

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.lrs = [lr]
        self.losses: list[float] = []

    @property
    def done(self) -> bool:
        """Whether the probe is over."""
        losses = self.losses
        failed = bool(losses) and not math.isfinite(losses[-1])
        return failed or len(losses) >= PROBE_STEPS

    def record(self, loss: float) -> bool:
        """Takes the loss of a step; False to stop."""
        self.losses.append(float(loss))
        return not self.done


class _ProbeCallback(SweepCallback):
    """Sweeps the model's loan with a recorder that is handed in."""

    def __init__(self, loan: Loan, recorder: Recorder, monitor: str) -> None:
        super().__init__()
        self._loan = loan
        self._recorder = recorder
        self._monitor = monitor

    def _new_sweep(self) -> Sweep:
        updates = Updates(self.model, self._loan.rate)
        return Sweep(self, self._loan, self._recorder, updates, self._monitor)
