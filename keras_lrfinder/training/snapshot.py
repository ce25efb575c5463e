"""A Keras model and all that it reaches, exactly as they were before."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import sys
import threading
import warnings
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_lrfinder.arguments import check_flag
from keras_lrfinder.training import keras_internals as internals
from keras_lrfinder.training import reach
from keras_lrfinder.training.learning_rate import host_copy
from keras_lrfinder.training.train_function import set_steps_apart

Saved = list[tuple[reach.Found, Any]]

# What would use, or change, a model that is not put back yet.
_GUARDED = ["fit", "train_on_batch", "evaluate", "test_on_batch", "predict"]
_GUARDED += ["predict_on_batch", "compile", "set_weights", "load_weights"]
_GUARDED += ["save", "save_weights", "export"]


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

    One copy of the state is held in host memory until the end; on TensorFlow,
    on a CPU, only of what is trained meanwhile.

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
    state.begin()
    functions = internals.compiled_functions(model)
    traced = list(map(internals.times_traced, functions))
    # The copy keeps the model's own functions alive.
    set_steps_apart(model)
    if any(map(internals.draws_by_itself, functions)):
        forget_functions(model)
    try:
        yield
    finally:
        state.restore()
        # Before traces are forgotten, which a next call makes anew.
        changed = state.differences() if verify else []
        for function, times in zip(functions, traced):
            # A trace made since has what held then built in.
            if internals.times_traced(function) > times:
                getattr(function, "clear_cache", lambda: None)()
                forget_functions(model)
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

    Attributes:
        saved: What the model reached, and the state of each.
        later: Numbers that have come since, as they were when they came.
    """

    def __init__(self, model: Any, *others: Any) -> None:
        self._model = model
        found = reach.reach(model, *others, *_global_generators())
        iterators = [f.path for f in found if f.kind is reach.ITERATOR]
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
        self._draws = internals.global_seed_generator() is not None
        self._names = dict(internals.counts_of_names())
        self._seeds = contextlib.ExitStack()

    @property
    def has_new_generator(self) -> bool:
        """Whether Keras has made its global generator only since."""
        return not self._draws and internals.global_seed_generator() is not None

    def begin(self) -> None:
        """Has TensorFlow's eager ops draw from another stream until `end`."""
        self._seeds.callback(internals.draw_other_seeds())

    def end(self) -> None:
        """Takes back `begin`. Calling it again changes nothing."""
        self._seeds.close()

    def restore(self) -> None:
        """Puts everything back. May be called any number of times."""
        is_stale = any(
            getattr(each.value, "built", False)
            for each, saved in self.saved
            if isinstance(saved, dict) and not saved.get("built", True)
        )
        for each, saved in self.saved_objects():
            each.kind.put_back(each.value, saved)
        if is_stale:
            # They have variables built in that are gone.
            forget_functions(self._model)
        put_back_numbers(self.saved)
        self.end()
        if self.has_new_generator:
            internals.forget_global_seed_generator()
        names = internals.counts_of_names()
        names.clear()
        names.update(self._names)

    def extend(self) -> None:
        """Saves what has come since, for `rewind` alone: numbers, and counts.

        Python runs at every step, on PyTorch and eagerly: then layers and
        modules that are not Keras's may count their calls, and the like.
        """
        self.later += _states(self.new_numbers())
        if keras.backend.backend() != "torch" and not self._model.run_eagerly:
            return
        layers = internals.layers_of(self._model)
        own = [v for v in layers if not type(v).__module__.startswith("keras.")]
        modules = [getattr(layer, "module", None) for layer in layers]
        found = reach.reach(*own, *modules)
        self._counted = _states([f for f in found if not f.kind.is_number])

    def new_numbers(self) -> list[reach.Found]:
        """Returns the numbers that the model reaches only since."""
        known = {id(each.value) for each, _ in self.saved + self.later}
        return [
            each
            for each in reach.reach(self._model)
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
        if self.has_new_generator:
            # What was traced since may use it: it gets the seed of a new one.
            state = random.getstate()
            seed = host_copy(keras.random.SeedGenerator().state)
            internals.global_seed_generator().state.assign(seed)
            random.setstate(state)

    def differences(self) -> list[str]:
        """Returns where the model is not as it was."""
        changed = []
        for each, saved, now in changed_since(self.saved):
            names = reach.changes(now, saved) if isinstance(saved, dict) else []
            changed += [f"{each.path}.{n}" for n in names] or [each.path]
        return changed


def changed_since(saved: Saved) -> Iterator[tuple[reach.Found, Any, Any]]:
    """Yields what is not as it was: the thing, its state then, and now."""
    for each, before in saved:
        now = each.kind.save(each.value)
        if not each.kind.same(now, before):
            yield each, before, now


def _states(found: list[reach.Found]) -> Saved:
    return [(each, each.kind.save(each.value)) for each in found]


def put_back_numbers(saved: Saved) -> None:
    """Puts variables, arrays and generators back."""
    for each, value in saved:
        if each.kind.is_number:
            each.kind.put_back(each.value, value)


def forget_functions(model: Any) -> None:
    """Has Keras compile a model's functions anew when it needs them."""
    for name in internals.FUNCTIONS:
        # What a test has kept looks by itself whether it is still right.
        if not hasattr(vars(model).get(name), "resume"):
            vars(model)[name] = None


def _global_generators() -> list[Any]:
    """Returns every global random generator that a fit may draw from."""
    found: list[Any] = [
        # The functions' own objects, which have no other public name.
        getattr(random.getstate, "__self__", None),
        getattr(np.random.get_state, "__self__", None),
        internals.global_seed_generator(),
        internals.global_tensorflow_generator(),
    ]
    if keras.backend.backend() == "torch":
        torch = sys.modules["torch"]
        found += [torch.default_generator, *torch.cuda.default_generators]
    return found


# --- Cut off by an exception or Ctrl-C ---------------------------------------
# Keras calls no hook then, so the model stays as the last step left it. While
# a test runs, the methods of the model that would use such weights are guarded,
# and those that would change what is put back later: called from outside of
# that fit, they put the model back first, and say so.


@dataclasses.dataclass(frozen=True)
class _Guard:
    """Stands before a method of a model, as an attribute of its own."""

    model: Any
    name: str
    thread: int
    restore: Callable[[], None]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        restore_interrupted(self.model)
        method = getattr(type(self.model), self.name)
        return method(self.model, *args, **kwargs)


def guard(model: Any, restore: Callable[[], None]) -> None:
    """Guards a model in a `fit`, until `release` or its attributes' return."""
    thread = threading.get_ident()
    if not internals.is_fitting(model, thread):
        # A loop of the user's own calls the hooks, and `train_on_batch`.
        return
    for name in _GUARDED:
        if name not in vars(model) and hasattr(model, name):
            # Past Keras's `__setattr__`, which would track it.
            vars(model)[name] = _Guard(model, name, thread, restore)


def release(model: Any) -> None:
    """Takes the guards away. Calling it again changes nothing."""
    for name in _GUARDED:
        if isinstance(vars(model).get(name), _Guard):
            del vars(model)[name]


def restore_interrupted(model: Any) -> None:
    """Puts a model back whose range test was interrupted, and says so."""
    found = vars(model).get("fit")
    if not isinstance(found, _Guard):
        return
    if internals.is_fitting(model, found.thread):
        return
    release(model)
    found.restore()
    warnings.warn(
        "the range test before was interrupted, so the model still had the "
        "weights of its last step; it is put back as it was before the test, "
        "and what was set on its optimizer since is undone",
        UserWarning,
        stacklevel=3,
    )
