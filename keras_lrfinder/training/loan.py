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
from keras_lrfinder.training import learning_rate as rates
from keras_lrfinder.training import reach
from keras_lrfinder.training import snapshot
from keras_lrfinder.training.snapshot import Snapshot
from keras_lrfinder.training.train_function import JaxState
from keras_lrfinder.training.train_function import TrainFunction
from keras_lrfinder.training.train_function import renewed_train_function
from keras_lrfinder.version import __version__

# The attribute of a model that is on loan.
_MARK = "_range_test"


class Loan:
    """Snapshot, learning rate and train function of a model: one lifetime.

    It begins when made, and ends with `close`.

    Args:
        model: The compiled Keras model.
        optimizer: Which of its optimizers to sweep, as the user named it.
        restore: Whether weights and all else come back at the end. The
            learning rate, or schedule object, does in any case.
        before: `Snapshot` of the model, where there is one already.
        is_several: Whether it is for several fits, each of which ends with
            `rewind`, or for the one that runs.

    Attributes:
        per_update: Integer, how many batches make up an update.
        is_valid: Whether a first step has shown that the run can be.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any = None,
        *,
        restore: bool = True,
        before: Snapshot | None = None,
        is_several: bool = True,
    ) -> None:
        snapshot.restore_interrupted(model)
        check_free(model)
        _check_strategy(model)
        self.model = model
        self._restore = restore
        if rates.is_built(model):
            check_trainable(model)
        self._before: Snapshot | None = before or Snapshot(model)
        self.optimizers = rates.named_optimizers(model, optimizer)
        swept = self.optimizers
        others = [o for o in rates.all_optimizers(model) if o not in swept]
        self.rate = rates.SweptRate(swept, others)
        self.per_update: int = max(
            leaf.gradient_accumulation_steps or 1 for leaf in self.rate.leaves
        )
        self.train_function = TrainFunction(model)
        self.jax_state: JaxState | None = None
        self.is_valid = False
        self._is_several = is_several
        self._is_open = False
        # Random ops of TensorFlow's own keep a state within the function.
        functions = internals.compiled_functions(model)
        self._is_new = any(map(internals.draws_by_itself, functions))
        self._thread = threading.get_ident()
        self._epoch: Any = None
        self._resumed: KeptStep | None = None
        self._per_call: int | None = None
        # Last: what is refused draws nothing.
        self._begin(self._before)

    @property
    def is_running(self) -> bool:
        """Whether the test goes on, and was not cut off."""
        return self._is_several or internals.is_fitting(
            self.model, self._thread
        )

    def facts(self) -> dict[str, Any]:
        """Returns what a later reader of the curve needs to know of it."""
        backend = keras.backend.backend()
        version = getattr(sys.modules.get(backend), "__version__", "")
        now = datetime.datetime.now(datetime.timezone.utc)
        return {
            "optimizer": rates.kind_of(self.optimizers),
            "hyperparameters": rates.plain_settings(self.rate.leaves[0]),
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

    def open(self) -> None:
        """Makes the learning rate assignable, in `on_train_begin`."""
        self._epoch = internals.running_epoch()
        if self._is_open:
            return
        self._is_open = True
        function, model = self.train_function, self.model
        on_tensorflow = keras.backend.backend() == "tensorflow"
        # Elsewhere Keras has built all that there is to build by now.
        is_late = on_tensorflow and not rates.is_built(model)
        if not is_late:
            self._build_and_copy()
        self._is_new |= self.rate.hold(model)
        function.install(renew=self._is_new or self._per_call is not None)
        if is_late and self._is_several:
            function.is_needed = True
            function.first = self._build_late
        elif on_tensorflow and not is_late:
            function.first = lambda it: internals.build_metrics(model, it)
        if keras.backend.backend() == "jax":
            self._enter_state()

    def rewind(self) -> None:
        """Goes back to before the first step, without building anew."""
        if self._before is not None and self._restore:
            self._before.rewind()

    def has_moved(self) -> bool:
        """Returns whether weights are not what they were, or may not stay."""
        assert self._before is not None
        weights = {id(weight) for weight in self.model.trainable_variables}
        saved = self._before.saved + self._before.later
        now = snapshot.changed_since(
            [pair for pair in saved if id(pair[0].value) in weights]
        )
        return self.rate.averages or any(True for _ in now)

    def stand_still(self, callback: keras.callbacks.Callback) -> None:
        """Has no optimizer move a weight from the next step on."""
        stops, state = self.rate.what_stops(), self.jax_state
        if state is not None and state.reaches(stops):
            for variable in stops:
                state.empty(variable)
        else:
            # On JAX this brings them up to date, and has the fit read them.
            _ = callback.model
            for variable in stops:
                variable.assign(np.zeros(variable.shape))
        self.rate.set(0.0)

    def close(self) -> None:
        """Gives everything back. Calling it again changes nothing."""
        before, self._before = self._before, None
        if before is None:
            return
        model = self.model
        self._close_epoch()
        snapshot.release(model)
        if self._per_call is not None:
            model.steps_per_execution = self._per_call
        goes_back = self._restore or not self.is_valid
        step = self._step_to_keep(before) if goes_back else None
        self.train_function.give_back()
        if goes_back:
            before.restore()
        else:
            before.end()
        vars(model).pop(_MARK, None)
        self.rate.release()
        if step is not None:
            vars(model)["train_function"] = step
        self.jax_state = self._resumed = None
        self._is_several = False

    def _close_epoch(self) -> None:
        epoch, self._epoch = self._epoch, None
        internals.close_epoch(epoch)

    def _begin(self, before: Snapshot) -> None:
        model = self.model
        before.begin()
        vars(model)[_MARK] = self
        step = vars(model).get("train_function")
        if isinstance(step, KeptStep) and step.resume():
            self._resumed = step
        if not self._is_several:
            return
        if self._is_new:
            snapshot.forget_functions(model)
        # Every step is to have a learning rate of its own.
        per_call = getattr(model, "steps_per_execution", 1)
        if per_call is not None and per_call > 1:
            self._per_call = per_call
            model.steps_per_execution = 1

    def _enter_state(self) -> None:
        state = JaxState(self.model)
        if state.reaches(self.rate.variables):
            self.jax_state = state
            self.rate.assign_by(state.assigner)
            self.train_function.edit = state.edited
            self.train_function.is_needed = True

    def _build_late(self, iterator: Any) -> None:
        # TensorFlow's fit builds such a model only while it traces the first
        # step, after every hook that a callback has.
        self.model(internals.inputs_of(iterator)[0])
        self._build_and_copy()

    def _build_and_copy(self) -> None:
        """Builds the optimizers, and copies what there is to go back to."""
        check_trainable(self.model)
        optimizers = rates.all_optimizers(self.model)
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
        if (
            keras.backend.backend() == "torch"
            or before.state_of(model).get("train_function") is not None
            or self._is_new
            or not self._is_open
            or before.has_new_generator
        ):
            return None
        functions = internals.compiled_functions(model, ("train_function",))
        if not functions or any(map(internals.draws_by_itself, functions)):
            return None
        built = _built_by_fit(model, before)
        if built is None or not all(map(_is_constant, before.later)):
            return None
        # With several steps a call it has one built in: what was built stays.
        function = None if self._per_call else self.train_function.inner
        return KeptStep(model, function, before, built)


class KeptStep:
    """A training step that was compiled in a test, for the next `fit`.

    It lies in the place of the model's train function; the model itself, with
    its optimizer, is as it was before the test. Called for the first time it
    looks whether that is still so. If it is, what the step was traced with
    (`built`: things, then and now) comes back, as it was when it was new; if
    not, the step is traced anew, as it would have been without a test.
    """

    def __init__(
        self,
        model: Any,
        function: Any,
        before: Snapshot,
        built: list[tuple[reach.Found, Any, Any]],
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
            id(each.value): now for each, _, now in built if is_jax
        }
        self._built = [(each, now) for each, _, now in built if not is_jax]
        self._numbers = [] if is_jax else before.later

    def __call__(self, *args: Any) -> Any:
        """Keras calls this for the first step of the next fit."""
        if not self.resume() or self.inner is None:
            renewed_train_function(self._model)
        return self._model.train_function(*args)

    def resume(self) -> bool:
        """Gives the model its step again, and what that was traced with.

        Returns whether it does. Otherwise it has none.
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
        snapshot.put_back_numbers(self._numbers)
        if self._built:
            model.reset_metrics()
        vars(model)["train_function"] = self.inner
        return True

    def _is_current(self) -> bool:
        """Whether a step traced now would be the same."""
        return all(v.trainable == flag for v, flag in self._trainable) and all(
            self._may_change(each, then, now)
            for each, then, now in snapshot.changed_since(self._found)
        )

    def _may_change(self, each: reach.Found, then: Any, now: Any) -> bool:
        if each.value is self._model:
            return _set_by_fit(now, then)
        if id(each.value) not in self._tolerated:
            return False
        if not isinstance(then, dict):
            return True
        ours = reach.changes(self._tolerated[id(each.value)], then)
        return set(reach.changes(now, then)) <= set(ours)


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


def _is_constant(saved: tuple[reach.Found, Any]) -> bool:
    """Returns whether a slot was made without a look at the weights."""
    each, state = saved
    if not internals.is_variable(each.value):
        return False
    return state[0].size == 1 or not any(state[0].strides)


def _set_by_fit(now: dict[str, Any], then: dict[str, Any]) -> bool:
    return set(reach.changes(now, then)) <= {*internals.SET_BY_FIT, _MARK}


def _built_by_fit(
    model: Any, before: Snapshot
) -> list[tuple[reach.Found, Any, Any]] | None:
    """Returns what has changed in things that a fit of Keras builds.

    None where other things have changed too: what a step traced anew would
    have changed once more, nobody knows.
    """
    compiled = internals.made_by_compile(model)
    parts = reach.reach(*rates.all_optimizers(model), *compiled)
    of_keras = {id(each.value) for each in parts}
    built = []
    for each, then, now in snapshot.changed_since(before.saved_objects()):
        if each.value is model:
            if not _set_by_fit(now, then):
                return None
        elif id(each.value) not in of_keras:
            return None
        built.append((each, then, now))
    metrics = {id(each.value) for each in reach.reach(*compiled)}
    if all(id(each.value) in metrics for each in before.new_numbers()):
        return built
    return None
