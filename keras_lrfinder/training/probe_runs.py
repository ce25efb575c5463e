"""Runs probes and what follows them: the Keras side of `analysis/probes.py`."""

from __future__ import annotations

import math
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lrfinder.analysis.longer_runs import LongerRuns
from keras_lrfinder.analysis.probe_levels import PROBE_STEPS
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.analysis.probes import Climb
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.training.keras_internals import is_overridden
from keras_lrfinder.training.loan import Loan
from keras_lrfinder.training.moving_statistics import MovingStatistics
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
# Enough for means and variances, and less than a tenth of a probe.
_STATISTICS_BATCHES = 8


class Prober:
    """Trains a model at fixed learning rates, always from the same state.

    Args:
        model: The compiled Keras model.
        loan: The loan that the model is on, rewound.
        replay: The data.
        monitor: String, the key of the logs that is the loss.
        fit_kwargs: What else `fit` is to get.
    """

    def __init__(
        self,
        model: Any,
        loan: Loan,
        replay: Replay,
        *,
        monitor: str,
        fit_kwargs: dict[str, Any],
    ) -> None:
        self._model = model
        self._loan = loan
        self._replay = replay
        self._monitor = monitor
        self._fit_kwargs = fit_kwargs
        self._statistics = MovingStatistics(model)
        self._cannot_evaluate = False

    def run(
        self, search: Climb | LongerRuns
    ) -> tuple[tuple[Probe, ...], Suggestion]:
        """Runs whatever probes are asked for.

        Args:
            search: Asks for them, and says what they mean.

        Returns:
            The probes, and the suggestion that they support. The model is
            back in the state in which it came.
        """
        before: _Judged | None = None
        while runs := search.next_runs():
            if before is None:
                before = self._judge()
                self._loan.rewind()
            for run in runs:
                search.add(self._probe(run, before))
        return tuple(search.probes), search.suggestion(self._unchecked())

    def _unchecked(self) -> str:
        if self._cannot_evaluate:
            return "the model cannot `evaluate`"
        return self._replay.why_not or "there were no held-out samples"

    def _probe(self, run: Run, before: _Judged) -> Probe:
        recorder = _Path(run.lrs)
        after, hidden_nan = _Judged(), False
        try:
            self._model.fit(
                **self._replay.train,
                **self._fit_kwargs,
                epochs=_MOST_EPOCHS,
                shuffle=False,
                callbacks=[_ProbeCallback(self._loan, recorder, self._monitor)],
                verbose=0,
            )
            # Some layers hide a NaN from the loss: relu makes it zero.
            hidden_nan = not _finite_weights(self._model)
            if before.held_out is not None:
                after = self._judge()
        finally:
            self._loan.rewind()
        losses = np.array(recorder.losses)
        if hidden_nan and len(losses) and _finite_weights(self._model):
            losses[-1] = math.nan
        replay = self._replay
        return Probe(
            run.lr,
            losses,
            after.held_out,
            before.held_out,
            source="" if before.held_out is None else replay.source,
            samples=replay.rows_held_out,
            trained=after.trained,
            trained_before=before.trained,
            schedule=run.schedule,
        )

    def _judge(self) -> _Judged:
        """Returns the model's losses as inference, on statistics of its own."""
        replay = self._replay
        if replay.held_out is None or self._cannot_evaluate:
            return _Judged()
        self._statistics.renew(replay.inputs(_STATISTICS_BATCHES))
        held_out, trained = self._loss(replay.held_out), None
        if held_out is not None and replay.repeated and replay.trained_on:
            trained = self._loss(replay.trained_on)
        return _Judged(held_out, trained)

    def _loss(self, data: dict[str, Any]) -> float | None:
        try:
            logs = self._model.evaluate(**data, verbose=0, return_dict=True)
            return float(logs[self._monitor])
        except _CANNOT_EVALUATE:
            # On JAX what fails there leaves the model's variables empty.
            self._loan.rewind()
            if not is_overridden(self._model, _STEPS):
                raise
            self._cannot_evaluate = True
            return None


class _Judged(NamedTuple):
    """Losses on samples not trained on, and trained on; None: not known."""

    held_out: float | None = None
    trained: float | None = None


def _finite_weights(model: Any) -> bool:
    return all(
        bool(np.isfinite(keras.ops.convert_to_numpy(weight)).all())
        for weight in model.trainable_variables
    )


class _Path:
    """Recorder of a run whose learning rates are known beforehand."""

    def __init__(self, lrs: NDArray[np.float64]) -> None:
        self.lrs: list[float] = lrs.tolist()
        self.losses: list[float] = []

    @property
    def lr(self) -> float:
        """The learning rate of the next step; at the end that of the last."""
        return self.lrs[min(len(self.losses), len(self.lrs) - 1)]

    @property
    def done(self) -> bool:
        """Whether the run is over."""
        losses = self.losses
        failed = bool(losses) and not math.isfinite(losses[-1])
        return failed or len(losses) >= len(self.lrs)

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
