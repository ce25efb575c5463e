"""A Keras model and all that it reaches, exactly as they were before."""

from __future__ import annotations

import contextlib
import random
import threading
import warnings
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_lrfinder.arguments import check_flag
from keras_lrfinder.training import keras_internals as internals
from keras_lrfinder.training.learning_rate import host_copy
from keras_lrfinder.training.reach import ITERATOR
from keras_lrfinder.training.reach import Found
from keras_lrfinder.training.reach import changes
from keras_lrfinder.training.reach import reach
from keras_lrfinder.training.train_function import set_steps_apart

Saved = list[tuple[Found, Any]]


@contextlib.contextmanager
def snapshot(
    model: Any, *optimizers: Any, verify: bool = False
) -> Iterator[None]:
    """Context manager: whatever happens inside, the model leaves as it came.

    Bit for bit: everything that the model reaches, which is its weights,
    BatchNorm statistics and seed generators, every optimizer's slots, step
    count, loss scale and learning rate (the very schedule object), metrics,
    what `compile` and `fit` set, the buffers of PyTorch modules, variables of
    TensorFlow that Keras does not list, counters and lists that layers keep;
    and the global random state of Python, NumPy, Keras and the backend. Also
    after an exception or Ctrl-C, which goes on to the caller.

    What was not there before is gone again: a model that had no weights yet
    gets its first ones anew, and compiles its training step anew.

    What lies outside the model does not come back: a generator stays
    consumed, a shuffled `tf.data.Dataset` object goes on in its order, files
    that callbacks wrote stay written, and so do the attributes of objects
    that are neither Keras's nor a module of PyTorch or TensorFlow.

    One copy of the state is held in host memory until the end.

    Args:
        model: A Keras model, built or not, compiled or not.
        *optimizers: Keras optimizers of a loop of your own, which the model
            does not hold.
        verify: Whether to compare at the end, and raise where something that
            the model reaches is not as it was.

    Raises:
        TypeError: `model` is no Keras model, one of `optimizers` no Keras
            optimizer, `verify` no truth value.
        RuntimeError: With `verify`, at the end; names what differs.

    Example:
        ```python
        with snapshot(model):
            model.fit(x, y, epochs=3)      # an experiment
        # the model is as it was before
        ```
    """
    check_model(model)
    for optimizer in optimizers:
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise TypeError(
                "`optimizers` must be Keras optimizers. "
                f"Received: {optimizer!r}"
            )
    check_flag("verify", verify)
    restore_interrupted(model)
    state = Snapshot(model, *optimizers)
    own = OwnFunctions(model)
    state.begin()
    # The copy keeps the model's own functions alive.
    set_steps_apart(model)
    own.set_aside()
    try:
        yield
    finally:
        state.restore()
        # Before traces are forgotten, which a next call makes anew.
        changed = state.differences() if verify else []
        own.forget_new_traces()
    if changed:
        raise RuntimeError(
            "the model is not as it was before; what could not be put back: "
            + ", ".join(changed)
        )


def check_model(model: Any) -> None:
    """Raises a `TypeError` where `model` is no Keras model."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a keras.Model of Keras 3. "
            f"Received: a {type(model).__name__} of {type(model).__module__}"
        )


class Snapshot:
    """A copy of all that training changes in a model. Taken when made.

    Args:
        model: The Keras model, from `Callback.model` inside a fit.
        *others: Optimizers that it does not hold.

    Attributes:
        saved: What the model reached, and the state of each.
        later: Numbers that have come since, as they were when they came.
    """

    def __init__(self, model: Any, *others: Any) -> None:
        self._model = model
        found = reach(model, *others)
        iterators = [each.path for each in found if each.kind is ITERATOR]
        if iterators:
            warnings.warn(
                "the model holds iterators; what is drawn from them during "
                f"the test cannot be put back: {', '.join(iterators)}",
                UserWarning,
                stacklevel=3,
            )
        self.saved = _states(found)
        self.later: Saved = []
        self._counted: Saved = []
        self.random = RandomState()

    def restore(self) -> None:
        """Puts everything back. May be called any number of times."""
        stale = self._was_built_since()
        for each, saved in self.saved:
            if not each.kind.is_number:
                each.kind.put_back(each.value, saved)
        if stale:
            # They have variables built in that are gone.
            forget_functions(self._model)
        put_back_numbers(self.saved)
        self.random.restore()

    def begin(self) -> None:
        """Keeps what is drawn from here on apart from what comes after."""
        self.random.begin()

    def give_up(self) -> None:
        """Ends what `begin` began, where nothing is to be put back."""
        self.random.end()

    def extend(self) -> None:
        """Saves what has come since, for `rewind` alone.

        That is numbers; and, where Python runs at every step, the attributes
        of layers and modules that are not Keras's, such as counts of calls.
        """
        self.later += _states(self.new_numbers())
        layers = _layers_run_by_python(self._model)
        self._counted = _states(
            each for each in reach(*layers) if not each.kind.is_number
        )

    def new_numbers(self) -> list[Found]:
        """Returns the numbers that the model reaches only since."""
        known = {id(each.value) for each, _ in self.saved + self.later}
        return [
            each
            for each in reach(self._model)
            if each.kind.is_number and id(each.value) not in known
        ]

    def saved_objects(self) -> Saved:
        """Returns of what was saved all but the numbers."""
        return [pair for pair in self.saved if not pair[0].kind.is_number]

    def state_of(self, value: Any) -> Any:
        """Returns the state that something had that the model reached."""
        return next(s for each, s in self.saved if each.value is value)

    def rewind(self) -> None:
        """Puts back what `extend` saved, and leaves what was built since."""
        for each, saved in self._counted:
            each.kind.put_back(each.value, saved)
        # Metrics made since have no value to go back to but the empty one.
        self._model.reset_metrics()
        put_back_numbers(self.saved + self.later)
        self.random.rewind()

    def differences(self) -> list[str]:
        """Returns where the model is not as it was."""
        changed = []
        for each, saved, now in changed_since(self.saved):
            if isinstance(saved, dict):
                changed += [f"{each.path}.{n}" for n in changes(now, saved)]
            else:
                changed.append(each.path)
        return changed + self.random.differences()

    def _was_built_since(self) -> bool:
        return any(
            not saved["built"] and getattr(each.value, "built", False)
            for each, saved in self.saved
            if isinstance(saved, dict) and "built" in saved
        )


def _layers_run_by_python(model: Any) -> list[Any]:
    """Returns the layers and modules whose Python code runs at every step.

    But for Keras's own, which keep nothing there that a step changes.
    """
    if keras.backend.backend() != "torch" and not model.run_eagerly:
        return []
    layers = internals.layers_of(model)
    modules = [getattr(layer, "module", None) for layer in layers]
    own = [v for v in layers if not type(v).__module__.startswith("keras.")]
    return own + [module for module in modules if module is not None]


def changed_since(saved: Saved) -> Iterator[tuple[Found, Any, Any]]:
    """Yields what is not as it was: the thing, its state then, and now."""
    for each, before in saved:
        now = each.kind.save(each.value)
        if not each.kind.same(now, before):
            yield each, before, now


def _states(found: Any) -> Saved:
    return [(each, each.kind.save(each.value)) for each in found]


def put_back_numbers(saved: Saved) -> None:
    """Puts variables, arrays and generators back."""
    for each, value in saved:
        if each.kind.is_number:
            each.kind.put_back(each.value, value)


# --- What was compiled -------------------------------------------------------


class OwnFunctions:
    """What a model has had compiled, and how often it was traced by now.

    Args:
        model: The Keras model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        functions = internals.compiled_functions(model)
        self._traced = [(f, internals.times_traced(f)) for f in functions]

    @property
    def draw(self) -> bool:
        """Whether they hold random ops with a state, of TensorFlow's own."""
        return any(internals.draws_by_itself(f) for f, _ in self._traced)

    def set_aside(self) -> None:
        """Has others compiled until the model's attributes are put back.

        Only where the state of their random ops would move on.
        """
        if self.draw:
            forget_functions(self._model)

    def forget_new_traces(self) -> None:
        """Forgets traces made since: they have what held then built in."""
        for function, count in self._traced:
            if internals.times_traced(function) <= count:
                continue
            if keras.backend.backend() == "jax":
                function.clear_cache()
            else:
                forget_functions(self._model)


def forget_functions(model: Any) -> None:
    """Has Keras make and compile a model's functions anew when it needs them.

    Past Keras's own `__setattr__`, which need not know. What a test has kept
    looks by itself whether it is still right.
    """
    for name in internals.FUNCTIONS:
        if not hasattr(vars(model).get(name), "resume"):
            vars(model)[name] = None


# --- Random states -----------------------------------------------------------


class RandomState:
    """The state of every global random generator that a fit may draw from.

    Taken when made. From `begin` to `restore`, TensorFlow's eager ops draw
    from another stream.
    """

    def __init__(self) -> None:
        self._states = _random_states()
        self._names = dict(internals.counts_of_names() or {})
        self._entered: Any = None

    @property
    def has_new_generator(self) -> bool:
        """Whether Keras has made its global generator only since."""
        now = internals.global_seed_generator()
        return self._states["Keras"] is None and now is not None

    def begin(self) -> None:
        """Leaves the seeds that come next to whoever comes next."""
        self._entered = self._entered or internals.enter_other_seeds()

    def end(self) -> None:
        """Takes back `begin`. Calling it again changes nothing."""
        internals.leave_other_seeds(self._entered)
        self._entered = None

    def rewind(self) -> None:
        """Puts every generator back to where it was, for another run."""
        self._put_back()
        if self._states["Keras"] is None:
            _start_keras_generator()

    def restore(self) -> None:
        """Puts every generator back, and takes away what was made since."""
        self._put_back()
        self.end()
        if self._states["Keras"] is None:
            internals.forget_global_seed_generator()
        names = internals.counts_of_names()
        if names is not None and names != self._names:
            names.clear()
            names.update(self._names)

    def differences(self) -> list[str]:
        """Returns which of them are elsewhere now."""
        now = _random_states()
        return [
            f"the random state of {name}"
            for name, state in self._states.items()
            if _bits(now[name]) != _bits(state)
        ]

    def _put_back(self) -> None:
        states = self._states
        random.setstate(states["Python"])
        np.random.set_state(states["NumPy"])
        generator = internals.global_seed_generator()
        if states["Keras"] is not None and generator is not None:
            generator.state.assign(states["Keras"])
        _restore_torch(states["PyTorch"])
        generator = internals.global_tensorflow_generator()
        if states["TensorFlow"] is not None and generator is not None:
            generator.state.assign(states["TensorFlow"])


def _random_states() -> dict[str, Any]:
    of_keras = internals.global_seed_generator()
    of_tensorflow = internals.global_tensorflow_generator()
    return {
        "Python": random.getstate(),
        "NumPy": np.random.get_state(),
        "Keras": None if of_keras is None else host_copy(of_keras.state),
        "PyTorch": _torch_state(),
        "TensorFlow": of_tensorflow and np.array(of_tensorflow.state.numpy()),
    }


def _start_keras_generator() -> None:
    """Gives a generator made since the seed that it would get if made now.

    For another run it stays, as what was traced since may use it.
    """
    generator = internals.global_seed_generator()
    if generator is None:
        return
    python = random.getstate()
    generator.state.assign(host_copy(keras.random.SeedGenerator().state))
    random.setstate(python)


def _torch_state() -> Any:
    if keras.backend.backend() != "torch":
        return None
    import torch

    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return torch.get_rng_state(), cuda


def _restore_torch(state: Any) -> None:
    if state is None:
        return
    import torch

    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])


def _bits(state: Any) -> Any:
    if isinstance(state, (tuple, list)):
        return [_bits(part) for part in state]
    if hasattr(state, "tobytes"):
        return state.tobytes()
    return state.tolist() if hasattr(state, "tolist") else state


# --- Cut off by an exception or Ctrl-C ---------------------------------------
# Keras calls no hook then, so the model stays as the last step left it. While
# a test runs, the methods of the model that would use such weights are guarded,
# and those that would change what is put back later: called from outside of
# that fit, they put the model back first, and say so.

_GUARDED = (
    "fit",
    "train_on_batch",
    "evaluate",
    "test_on_batch",
    "predict",
    "predict_on_batch",
    "compile",
    "set_weights",
    "load_weights",
    "save",
    "save_weights",
    "export",
)


class _Guard:
    """Stands before a method of a model, as an attribute of its own."""

    def __init__(
        self, model: Any, name: str, restore: Callable[[], None]
    ) -> None:
        self._model = model
        self._name = name
        self.restore = restore
        self._thread = threading.get_ident()

    @property
    def is_within(self) -> bool:
        """Whether the fit that was guarded still runs, in its thread."""
        return internals.is_fitting(self._model, self._thread)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        restore_interrupted(self._model)
        method = getattr(type(self._model), self._name)
        return method(self._model, *args, **kwargs)


def guard(model: Any, restore: Callable[[], None]) -> None:
    """Guards a model until `release`, or until its attributes come back.

    Args:
        model: The Keras model, in a `fit`.
        restore: Function that puts it back.
    """
    if not internals.is_fitting(model, threading.get_ident()):
        # A loop of the user's own calls the hooks, and `train_on_batch`.
        return
    for name in _GUARDED:
        if name not in vars(model) and hasattr(model, name):
            # Past Keras's `__setattr__`, which would track it.
            vars(model)[name] = _Guard(model, name, restore)


def release(model: Any) -> None:
    """Takes the guards away. Calling it again changes nothing."""
    for name in _GUARDED:
        if isinstance(vars(model).get(name), _Guard):
            del vars(model)[name]


def restore_interrupted(model: Any) -> None:
    """Puts a model back whose range test was interrupted, and says so."""
    found = vars(model).get("fit")
    if not isinstance(found, _Guard) or found.is_within:
        return
    release(model)
    found.restore()
    release(model)
    warnings.warn(
        "the range test before was interrupted, so the model still had the "
        "weights of its last step; it is put back as it was before the test, "
        "and what was set on its optimizer since is undone",
        UserWarning,
        stacklevel=3,
    )
