"""A recorder's learning rates into a Keras fit, its batch losses out.

`Sweep` is the Keras side of every run of this package: the ramp of the range
test and the probes at a fixed learning rate. What the learning rates are and
when to stop is the recorder's business.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Protocol

import keras

from keras_lrfinder.training.batch_loss import BatchLoss
from keras_lrfinder.training.batch_loss import check_falls
from keras_lrfinder.training.learning_rate import all_optimizers
from keras_lrfinder.training.loan import Session
from keras_lrfinder.training.other_callbacks import check_company
from keras_lrfinder.training.other_callbacks import may_be_overruled
from keras_lrfinder.training.overriding import overrides
from keras_lrfinder.training.snapshot import build_model
from keras_lrfinder.training.snapshot import is_built

__all__ = ["Recorder", "Sweep", "named_optimizers"]

# Mixed precision skips updates while the gradients overflow, some eight at
# the start. So many in a row only come where they are not finite at all.
_MOST_SKIPPED = 40
# Where a model of the user's own may set the learning rate itself.
_TRAINING = ("train_step", "make_train_function")


class Recorder(Protocol):
    """What a sweep asks: the next learning rate, and what to do."""

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""

    @property
    def lrs(self) -> Sequence[float]:
        """All learning rates that may come."""

    @property
    def done(self) -> bool:
        """Whether to stop."""

    def record(self, loss: float) -> bool:
        """Takes the loss of a step; False to stop."""


class Sweep(keras.callbacks.Callback):
    """Base of the callbacks that set a learning rate and record a loss.

    A subclass gives the recorder in `start` and takes it back in `finish`.

    Args:
        monitor: String, the key of `logs` to record.
        optimizer: The optimizer to sweep, the name of the model's attribute
            that holds it, or None for `model.optimizer`.
        restore: Whether to put the model back at the end.
    """

    def __init__(
        self,
        *,
        monitor: str = "loss",
        optimizer: Any = None,
        restore: bool = True,
    ) -> None:
        super().__init__()
        self._monitor = monitor
        self._optimizer = optimizer
        self._restore_at_end = restore
        self._recorder: Recorder | None = None
        self._watched = True
        self._undo: Callable[[], None] = _nothing
        self.run_in(None)

    def run_in(
        self,
        session: Session | None,
        validation: Callable[[Any], float] | None = None,
        watch: Callable[[float, float, bool], None] | None = None,
    ) -> None:
        """Sets what the next run is part of.

        Args:
            session: A session of the caller's, or None for one of its own.
                It is opened where it is not yet, and neither rewound nor
                closed at the end.
            validation: Function of the model that returns the loss to record
                instead of the logged one, or None.
            watch: Function that is told the learning rate and the loss of
                each step, and whether it was the last, or None.
        """
        self._session = session
        self._borrowed = session is not None
        self._validation = validation
        self._watch = watch

    def start(self, model: Any) -> Recorder:
        """Returns the recorder of a new run."""
        raise NotImplementedError

    def finish(self, stopped: bool) -> None:
        """Called when the run is over and the model is back.

        Args:
            stopped: Whether somebody else asked the fit to stop.
        """

    def note_batch_size(self, rows: int | None) -> None:
        """Called after the first step.

        Args:
            rows: Integer, how many samples its batch had, None where nobody
                knows.
        """

    # Keras calls the hooks below.

    def set_params(self, params: Any) -> None:
        """Keras calls this before any callback touches the model."""
        super().set_params(params)
        check_company(self, Sweep)
        self._watched = may_be_overruled(self)

    def on_train_begin(self, logs: Any = None) -> None:
        """Takes the snapshot and sets the first learning rate."""
        model = self.model
        if not self._borrowed:
            # A run that an exception ended has left its traces behind.
            self.restore()
        self._watched |= overrides(model, _TRAINING)
        self._thread = threading.get_ident()
        self._group: list[float] = []
        self._skipped = 0
        self._checked = False
        self._error: Exception | None = None
        session = self._session or Session(
            model, named_optimizers(model, self._optimizer)
        )
        self._plan_groups(model, session)
        recorder = self.start(model)
        if not session.is_open:
            self._open(model, session)
        self._rate = session.rate
        self._batch_loss = BatchLoss(model, self._monitor, session.loop)
        # On JAX `self.model` copies the whole state out of the running fit.
        self._apart = keras.backend.backend() != "jax" or (
            session.loop is not None
            and not (self._many or self._scales_loss or self._validation)
        )
        self._recorder = recorder
        self._lr = self._used_lr = recorder.lr
        self._rate.expect(recorder.lrs)
        self._rate.set(self._lr)
        self._new_epoch = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remembers that others may have set the learning rate here."""
        self._new_epoch = True

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Empties the running mean, so that the batch's own loss is logged."""
        if self._recorder is None:
            return
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                "the hooks are called from another thread: pass the callback "
                "in a list, `callbacks=[finder]`"
            )
        model = self._running_model()
        if self._new_epoch:
            # LearningRateScheduler and its like set it at epoch ends.
            self._rate.set(self._lr)
            self._new_epoch = False
        self._batch_loss.start_batch(model)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Records the loss and sets the next learning rate."""
        recorder = self._recorder
        if recorder is None or recorder.done or self._error:
            return
        model = self._running_model()
        try:
            if self._watched:
                self._check_rate()
            self._group.append(self._loss(model, logs))
            step_done = self._step_done()
        except (RuntimeError, TypeError, ValueError) as error:
            # Raised at the end of the fit, when the model is back: an
            # exception from here would skip every hook that puts it back.
            self._error = error
            model.stop_training = True
            return
        self._used_lr = self._lr
        if logs is not None:
            logs["learning_rate"] = self._lr
        if not step_done:
            return
        loss = self._loss_of_step(model)
        going_on = recorder.record(loss)
        if self._watch is not None:
            self._watch(self._lr, loss, not going_on)
        self._lr = recorder.lr
        if going_on:
            self._rate.set(self._lr)
        else:
            model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the learning rate of its last batch to the epoch's logs."""
        if logs is not None and self._recorder is not None:
            logs["learning_rate"] = self._used_lr

    def on_test_begin(self, logs: Any = None) -> None:
        """Cuts a validation after the end short: it would run in full."""
        recorder = self._recorder
        if recorder is not None and (recorder.done or self._error):
            self.model.stop_evaluating = True

    def on_train_end(self, logs: Any = None) -> None:
        """Puts the model back, then reports."""
        recorder = self._recorder
        if recorder is None:
            return
        stopped = bool(self.model.stop_training) and not recorder.done
        self._give_back()
        if self._error is not None:
            raise self._error
        self.finish(stopped)

    def restore(self) -> None:
        """Puts the model back as it was before the run.

        Keras calls no hook after an exception or Ctrl-C inside `fit`; then
        this is to be called by hand. Calling it again changes nothing.
        """
        interrupted = self._recorder is not None
        self._give_back()
        if interrupted:
            self.finish(stopped=True)

    def _running_model(self) -> Any:
        return self._model if self._apart else self.model

    def _open(self, model: Any, session: Session) -> None:
        # Elsewhere Keras has built all that there is to build by now.
        built = keras.backend.backend() != "tensorflow" or is_built(model)
        if not self._borrowed:
            self._session = session
        session.open(model, built=built)
        if not built:
            self._build_in_first_step(model, session)

    def _give_back(self) -> None:
        self._recorder = None
        # A fit that ends before its first step has not built the model.
        self._undo()
        self._undo = _nothing
        if self._session is None or self._borrowed:
            return
        # Before the first step nobody knows whether the run is a valid one.
        self._session.close(restore=self._restore_at_end or not self._checked)
        self._session = None

    def _build_in_first_step(self, model: Any, session: Session) -> None:
        """Builds a deferred model just before it trains, then copies it.

        TensorFlow's fit builds such a model only while it traces the first
        step, after every hook that a callback has. So the train function is
        one call longer, that first time.
        """
        train_function = model.train_function

        def undo() -> None:
            if model.train_function is first:
                model.train_function = train_function

        def first(iterator: Any) -> Any:
            undo()
            try:
                build_model(model, _symbolic_inputs(iterator.element_spec))
                session.copy(model)
            except Exception:
                self._recorder = None
                self.restore()
                raise
            return train_function(iterator)

        model.train_function = first
        self._undo = undo

    def _plan_groups(self, model: Any, session: Session) -> None:
        """Sets how many calls of the batch hooks make one step."""
        leaf = session.rate.leaves[0]
        per_update = leaf.gradient_accumulation_steps or 1
        self._per_call = getattr(model, "steps_per_execution", 1) or 1
        self._per_step = math.lcm(per_update, self._per_call) // self._per_call
        # Every batch counts in the private one; the public one, in newer
        # versions of Keras, counts updates.
        counter = getattr(leaf, "_iterations", leaf.iterations)
        iterations = int(keras.ops.convert_to_numpy(counter))
        self._phase = iterations % per_update if self._per_call == 1 else 0
        self._scales_loss = session.rate.scales_loss
        # With one optimizer there is no doubt which one trains.
        self._many = len(all_optimizers(model)) > 1
        self._updates = session.rate.updates()

    def _step_done(self) -> bool:
        """Returns whether the batch just trained completed an update."""
        if len(self._group) < self._per_step - self._phase:
            return False
        self._phase = 0
        if not self._checked:
            self._first_step_done()
        if not (self._restore_at_end or self._borrowed) and self._session:
            self._session.state = None
        return not self._scales_loss or self._updated()

    def _first_step_done(self) -> None:
        model = self.model  # on JAX this brings all variables up to date
        check_falls(model, self._monitor)
        if self._many:
            self._check_updates()
        self._checked = True
        if self._per_call == 1:
            self.note_batch_size(self._batch_loss.batch_size())

    def _updated(self) -> bool:
        updates = self._rate.updates()
        advanced = updates > self._updates
        self._updates = updates
        self._skipped = 0 if advanced else self._skipped + 1
        if self._skipped >= _MOST_SKIPPED:
            self._group[:] = [math.nan]
            return True
        if not advanced:
            # The learning rate was not used: it stays for the next batches.
            self._group.clear()
        return advanced

    def _check_updates(self) -> None:
        if self._scales_loss or self._rate.updates() > self._updates:
            return
        raise ValueError(
            "`optimizer` must be the one that trains, but it made no update. "
            f"Received: optimizer={self._optimizer!r}; the model has "
            f"{_optimizer_names(self.model)}"
        )

    def _loss(self, model: Any, logs: Mapping[str, Any] | None) -> float:
        value = (logs or {}).get(self._monitor)
        if value is None:
            raise ValueError(
                "`monitor` must be a key of the fit's logs, which are "
                f"{sorted(logs or {})}. Received: monitor={self._monitor!r}"
            )
        try:
            return float(value)
        except (TypeError, ValueError):
            raise TypeError(
                "`monitor` must name one number per batch. Received: "
                f"monitor={self._monitor!r}, which logs {value!r}"
            ) from None

    def _loss_of_step(self, model: Any) -> float:
        group = self._group
        loss = group[0] if len(group) == 1 else sum(group) / len(group)
        group.clear()
        if self._validation is not None and math.isfinite(loss):
            return self._validation(model)
        return loss

    def _check_rate(self) -> None:
        if self._apart and not getattr(self._model, "_jax_state_synced", True):
            return  # nobody has had a look at the variables
        found = self._rate.read()
        if not math.isclose(found, self._lr, rel_tol=1e-2, abs_tol=1e-37):
            raise RuntimeError(
                "something else set the learning rate during the range test, "
                f"to {found:g} where the test had set {self._lr:g}: leave "
                "that callback out of this fit"
            )


def _nothing() -> None:
    """Undoes nothing."""


def named_optimizers(model: Any, named: Any) -> list[Any]:
    """Returns the optimizers that a user's `optimizer=` stands for.

    Args:
        model: The Keras model.
        named: None, an optimizer, the name of an attribute of the model, or
            a list of optimizers.

    Raises:
        ValueError: It is none of these.
    """
    value = model.optimizer if named is None else named
    if isinstance(value, str):
        value = getattr(model, value, None)
    found = list(value) if isinstance(value, (list, tuple)) else [value]
    if not found:
        raise ValueError(
            f"`optimizer` must name at least one. Received: optimizer={named!r}"
        )
    for optimizer in found:
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise ValueError(
                "`optimizer` must be a Keras optimizer, the name of the "
                "model's attribute that holds one, or None for "
                f"`model.optimizer`. Received: optimizer={named!r}"
            )
        _find_parts(model, optimizer)
    return found


def _find_parts(model: Any, optimizer: Any) -> None:
    """Makes an optimizer that is several know of which it is made."""
    if optimizer.built or not hasattr(optimizer, "optimizers"):
        return
    # Given a function, Keras learns that weight by weight.
    if is_built(model):
        optimizer.build(model.trainable_variables)
    elif not optimizer.optimizers:
        raise ValueError(
            "`model` must be built for the range test of an optimizer that "
            "is made of several. Call it on one batch first, `model(x[:1])`. "
            f"Received: optimizer={optimizer!r}"
        )


def _optimizer_names(model: Any) -> str:
    names = [
        f"{name}={type(value).__name__}"
        for name, value in vars(model).items()
        if isinstance(value, keras.optimizers.Optimizer)
    ]
    return ", ".join(names)


def _symbolic_inputs(element_spec: Any) -> Any:
    import tensorflow as tf

    x = keras.utils.unpack_x_y_sample_weight(element_spec)[0]
    return tf.nest.map_structure(
        lambda spec: keras.KerasTensor(spec.shape, spec.dtype.name), x
    )
