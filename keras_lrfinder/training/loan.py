"""A model on loan: copied, swept, tried out, and given back as it came.

What was compiled for it meanwhile stays: the model's next `fit` finds it.
"""

from __future__ import annotations

import datetime
import sys
import threading
from typing import Any

import keras
import numpy as np

from keras_lrfinder.training import keras_internals as internals
from keras_lrfinder.training.learning_rate import SweptRate
from keras_lrfinder.training.learning_rate import all_optimizers
from keras_lrfinder.training.learning_rate import is_built
from keras_lrfinder.training.learning_rate import kind_of
from keras_lrfinder.training.learning_rate import named_optimizers
from keras_lrfinder.training.learning_rate import plain_settings
from keras_lrfinder.training.reach import Found
from keras_lrfinder.training.reach import changes
from keras_lrfinder.training.reach import reach
from keras_lrfinder.training.snapshot import OwnFunctions
from keras_lrfinder.training.snapshot import Saved
from keras_lrfinder.training.snapshot import Snapshot
from keras_lrfinder.training.snapshot import changed_since
from keras_lrfinder.training.snapshot import forget_functions
from keras_lrfinder.training.snapshot import put_back_numbers
from keras_lrfinder.training.snapshot import release
from keras_lrfinder.training.snapshot import restore_interrupted
from keras_lrfinder.training.train_function import JaxState
from keras_lrfinder.training.train_function import TrainFunction
from keras_lrfinder.training.train_function import renewed_train_function
from keras_lrfinder.version import __version__

# The attribute of a model that is on loan.
_MARK = "_range_test"


class Loan:
    """Snapshot, learning rate and train function of a model: one lifetime.

    As a context manager it lasts for several runs, each of which ends with
    `rewind`; else it lasts for one, from `open` to `close`.

    Args:
        model: The compiled Keras model.
        optimizer: Which of its optimizers to sweep, as the user named it.
        restore: Whether weights and all else come back at the end. The
            learning rate, or schedule object, does in any case.
        before: `Snapshot` of the model, where there is one already.

    Attributes:
        model: The model.
        optimizers: List of the optimizers that are swept.
        rate: `SweptRate`.
        per_update: Integer, how many batches make up an update.
        train_function: `TrainFunction`.
        jax_state: `JaxState` of the running fit, or None.
        is_valid: Whether a first step has shown that the run can be.

    Raises:
        RuntimeError: The model is on loan already.
        ValueError: It has no such optimizer, or no weights to train.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any = None,
        *,
        restore: bool = True,
        before: Snapshot | None = None,
    ) -> None:
        restore_interrupted(model)
        check_free(model)
        _check_strategy(model)
        self.model = model
        self._restore = restore
        if is_built(model):
            check_trainable(model)
        self._before: Snapshot | None = before or Snapshot(model)
        self.optimizers = named_optimizers(model, optimizer)
        self._draws = OwnFunctions(model).draw
        self.rate = SweptRate(
            self.optimizers,
            [o for o in all_optimizers(model) if o not in self.optimizers],
        )
        self.per_update: int = max(
            leaf.gradient_accumulation_steps or 1 for leaf in self.rate.leaves
        )
        self.train_function = TrainFunction(model)
        self.jax_state: JaxState | None = None
        self.is_valid = False
        self._epoch: Any = None
        self._resumed: KeptStep | None = None
        self._is_open = self._swaps = self._several = False
        self._per_call: int | None = None
        self._thread = threading.get_ident()

    @property
    def is_running(self) -> bool:
        """Whether the test goes on, and was not cut off."""
        return self._several or internals.is_fitting(self.model, self._thread)

    @property
    def why_not_judged(self) -> str:
        """Why no loss can be taken while the weights stand still, or ""."""
        moving = self.rate.moving
        if not moving:
            return ""
        return f"{', '.join(moving)} moves the weights at any learning rate"

    def facts(self) -> dict[str, Any]:
        """Returns what a later reader of the curve needs to know of it."""
        backend = keras.backend.backend()
        version = getattr(sys.modules.get(backend), "__version__", "")
        now = datetime.datetime.now(datetime.timezone.utc)
        return {
            "optimizer": kind_of(self.optimizers),
            "hyperparameters": plain_settings(self.rate.leaves[0]),
            "environment": {
                "date": now.isoformat(timespec="seconds"),
                "keras_lrfinder": __version__,
                "keras": keras.__version__,
                "backend": backend,
                backend: str(version),
                "model": str(self.model.name),
            },
        }

    def fit(self, **kwargs: Any) -> Any:
        """Calls the model's own `fit`, past whoever logs every fit."""
        try:
            return internals.plain_fit(self.model)(**kwargs)
        finally:
            self._close_epoch()

    def __enter__(self) -> Loan:
        self._several = True
        self._begin()
        if self._draws:
            forget_functions(self.model)
        # Every step is to have a learning rate of its own.
        per_call = getattr(self.model, "steps_per_execution", 1)
        if per_call is not None and per_call > 1:
            self._per_call = per_call
            self.model.steps_per_execution = 1
            self.train_function.leave_to_keras()
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def open(self, model: Any) -> None:
        """Makes the learning rate assignable, in the first `on_train_begin`.

        Args:
            model: The model, from `Callback.model`.
        """
        self._epoch = internals.running_epoch()
        if self._is_open:
            return
        self._is_open = True
        if not self._several:
            self._begin()
        # Elsewhere Keras has built all that there is to build by now.
        on_tensorflow = keras.backend.backend() == "tensorflow"
        if not on_tensorflow or is_built(model):
            self._build_and_copy()
            if on_tensorflow and internals.lacks_metrics(model):
                self.train_function.before_first_step(
                    lambda it: internals.build_metrics(model, it)
                )
        elif self._several:
            self.train_function.is_needed = True
            self.train_function.before_first_step(self._build_late)
        self._swaps = self.rate.hold(model)
        if self._swaps or self._draws:
            self.train_function.renew()
        if keras.backend.backend() == "jax":
            self._enter_state(model)

    def rewind(self) -> None:
        """Goes back to before the first step, without building anew."""
        if self._before is not None and self._restore:
            self._before.rewind()

    def stand_still(self, callback: keras.callbacks.Callback) -> None:
        """Has no optimizer move a weight from the next step on."""
        others, slots = self.rate.what_stops()
        state = self.jax_state
        if state is not None and all(map(state.reaches, others + slots)):
            state.empty(others + slots)
        else:
            # On JAX this brings them up to date, and has the fit read them.
            _ = callback.model
            for variable in others + slots:
                variable.assign(np.zeros(variable.shape))
        self.rate.set(0.0)

    def close(self) -> None:
        """Gives everything back. Calling it again changes nothing."""
        before, self._before = self._before, None
        if before is None:
            return
        self._close_epoch()
        release(self.model)
        if self._per_call is not None:
            self.model.steps_per_execution = self._per_call
        goes_back = self._restore or not self.is_valid
        step = self._step_to_keep(before) if goes_back else None
        self.train_function.give_back()
        if goes_back:
            before.restore()
        else:
            before.give_up()
        vars(self.model).pop(_MARK, None)
        self.rate.release()
        if step is not None:
            vars(self.model)["train_function"] = step
        self._per_call = self.jax_state = self._resumed = None
        self._several = False

    def _close_epoch(self) -> None:
        epoch, self._epoch = self._epoch, None
        internals.close_epoch(epoch)

    def _begin(self) -> None:
        # Not when made: what is refused before the first step draws nothing.
        assert self._before is not None
        self._before.begin()
        vars(self.model)[_MARK] = self
        step = vars(self.model).get("train_function")
        if isinstance(step, KeptStep) and step.resume():
            self._resumed = step

    def _enter_state(self, model: Any) -> None:
        state = JaxState(model)
        if all(map(state.reaches, self.rate.variables)):
            self.jax_state = state
            self.rate.assign_by(state.assigner)
            self.train_function.edit_each(state.edited)

    def _build_late(self, iterator: Any) -> None:
        # TensorFlow's fit builds such a model only while it traces the first
        # step, after every hook that a callback has.
        self.model(internals.inputs_of(iterator)[0])
        self._build_and_copy()

    def _build_and_copy(self) -> None:
        """Builds the optimizers, and copies what there is to go back to."""
        check_trainable(self.model)
        optimizers = all_optimizers(self.model)
        for optimizer in optimizers:
            if optimizer.built:
                continue
            if len(optimizers) == 1:
                # Keras would do it within the first step, out of sight.
                with keras.name_scope(optimizer.name, caller=optimizer):
                    optimizer.build(self.model.trainable_variables)
            else:
                # Which weights are this one's only its first step tells.
                internals.after_build(optimizer, self._extend)
        self._extend()

    def _extend(self) -> None:
        if self._before is not None:
            self._before.extend()

    def _step_to_keep(self, before: Snapshot) -> KeptStep | None:
        """Returns the compiled step, where it can be the next fit's."""
        if self._resumed is not None:
            return self._resumed
        model = self.model
        backend = keras.backend.backend()
        was_traced = before.state_of(model).get("train_function") is not None
        if (
            backend == "torch"
            or was_traced
            or self._swaps
            or self._draws
            or not self._is_open
            or before.random.has_new_generator
        ):
            return None
        functions = internals.compiled_functions(model, ("train_function",))
        if not functions or any(map(internals.draws_by_itself, functions)):
            return None
        built = _built_by_fit(model, before)
        if built is None or not all(map(_is_constant, before.later)):
            return None
        function = self.train_function.inner or model.train_function
        if self._per_call is not None:
            function = None  # it has one step per call built in
        return KeptStep(model, function, before, built)


class KeptStep:
    """A training step that was compiled in a test, for the next `fit`.

    It lies in the place of the model's train function; the model itself, with
    its optimizer, is as it was before the test. Called for the first time it
    looks whether that is still so. If it is, what the step was traced with
    comes back, as it was when it was new; if not, the step is traced anew, as
    it would have been without a test.

    Args:
        model: The Keras model.
        function: The model's train function, traced; None to make it anew.
        before: `Snapshot` of the model before the test.
        built: What the fit of the test has built: things, then and now.
    """

    def __init__(
        self,
        model: Any,
        function: Any,
        before: Snapshot,
        built: list[tuple[Found, Any, Any]],
    ) -> None:
        self._model = model
        self.inner = function
        self._found = before.saved_objects()
        self._trainable = [
            (each.value, each.value.trainable)
            for each, _ in before.saved
            if internals.is_variable(each.value)
        ]
        # On JAX a step has no variables built in, and Keras builds its own
        # before the first one: with the random numbers that it draws for it.
        is_jax = keras.backend.backend() == "jax"
        self._tolerated = {
            id(each.value): (each, then, now)
            for each, then, now in (built if is_jax else [])
        }
        self._built: Saved = [
            (each, now) for each, _, now in ([] if is_jax else built)
        ]
        self._numbers: Saved = [] if is_jax else before.later

    def __call__(self, *args: Any) -> Any:
        """Keras calls this for the first step of the next fit."""
        model = self._model
        if not self.resume() or model.train_function is None:
            renewed_train_function(model)
        return model.train_function(*args)

    def resume(self) -> bool:
        """Gives the model its step again, and what that was traced with.

        Returns:
            Whether it does. Otherwise it has none.
        """
        model = self._model
        if not self._is_current():
            vars(model)["train_function"] = None
            return False
        for each, state in self._built:
            if each.value is model:
                vars(model)["_called"] = state["_called"]
            else:
                each.kind.put_back(each.value, state)
        put_back_numbers(self._numbers)
        if self._built:
            model.reset_metrics()
        vars(model)["train_function"] = self.inner
        return True

    def _is_current(self) -> bool:
        """Whether a step traced now would be the same."""
        return all(v.trainable == flag for v, flag in self._trainable) and all(
            self._may_change(each, then, now)
            for each, then, now in changed_since(self._found)
        )

    def _may_change(self, each: Found, then: Any, now: Any) -> bool:
        if each.value is self._model:
            return _set_by_fit(now, then)
        if id(each.value) not in self._tolerated:
            return False
        if not isinstance(then, dict):
            return True
        ours = changes(self._tolerated[id(each.value)][2], then)
        return set(changes(now, then)) <= set(ours)


def check_free(model: Any) -> None:
    """Raises a `RuntimeError` where a test of the model is running."""
    loan = vars(model).get(_MARK)
    if loan is not None and loan.is_running:
        raise RuntimeError(
            "a range test of this model is running, in another thread or "
            "around this call: wait until it has ended"
        )


def _check_strategy(model: Any) -> None:
    """Raises a `ValueError` where Keras's own `fit` cannot run."""
    strategy = type(getattr(model, "distribute_strategy", None)).__name__
    if "MultiWorker" in strategy or "CollectiveAllReduce" in strategy:
        raise ValueError(
            f"{strategy} is not supported: Keras 3's own `fit` fails under "
            "it. Run the range test on one worker, under MirroredStrategy "
            "or none."
        )


def check_trainable(model: Any) -> None:
    """Raises a `ValueError` where there is nothing to train."""
    own = internals.is_overridden(model, ("train_step", "make_train_function"))
    if not own and not model.trainable_variables:
        raise ValueError(
            "`model` must have trainable weights: at any learning rate it "
            "stays as it is. Set `layer.trainable = True` where layers are "
            f"frozen, then compile it anew. Received: model={model!r}"
        )


def _is_constant(saved: tuple[Found, Any]) -> bool:
    """Returns whether a slot was made without a look at the weights."""
    each, state = saved
    if not internals.is_variable(each.value):
        return False
    return state[0].size == 1 or not any(state[0].strides)


def _set_by_fit(now: dict[str, Any], then: dict[str, Any]) -> bool:
    return set(changes(now, then)) <= {*internals.SET_BY_FIT, _MARK}


def _built_by_fit(
    model: Any, before: Snapshot
) -> list[tuple[Found, Any, Any]] | None:
    """Returns what has changed in things that a fit of Keras builds.

    None where other things have changed too: what a step traced anew would
    have changed once more, nobody knows.
    """
    compiled = internals.made_by_compile(model)
    parts = reach(*all_optimizers(model), *compiled)
    of_keras = {id(each.value) for each in parts}
    built = []
    for each, then, now in changed_since(before.saved_objects()):
        if each.value is model:
            if not _set_by_fit(now, then):
                return None
        elif id(each.value) not in of_keras:
            return None
        built.append((each, then, now))
    metrics = {id(each.value) for each in reach(*compiled)}
    if all(id(each.value) in metrics for each in before.new_numbers()):
        return built
    return None
