"""A Keras model and all that it reaches, exactly as they were before."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import keras

from keras_lrfinder.arguments import check_flag
from keras_lrfinder.training.interrupted import restore_interrupted
from keras_lrfinder.training.keras_internals import layers_run_by_python
from keras_lrfinder.training.keras_internals import set_steps_apart
from keras_lrfinder.training.own_functions import OwnFunctions
from keras_lrfinder.training.own_functions import forget_functions
from keras_lrfinder.training.random_state import RandomState
from keras_lrfinder.training.reach import ITERATOR
from keras_lrfinder.training.reach import Found
from keras_lrfinder.training.reach import changes
from keras_lrfinder.training.reach import reach


@contextlib.contextmanager
def snapshot(model: Any, *, verify: bool = False) -> Iterator[None]:
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
        verify: Whether to compare at the end, and raise where something that
            the model reaches is not as it was.

    Raises:
        TypeError: `model` is no Keras model, `verify` no truth value.
        RuntimeError: With `verify`, at the end; names what differs.

    Example:
        ```python
        with snapshot(model):
            model.fit(x, y, epochs=3)      # an experiment
        # the model is as it was before
        ```
    """
    check_model(model)
    check_flag("verify", verify)
    restore_interrupted(model)
    state = Snapshot(model)
    own = OwnFunctions(model)
    state.begin()
    # The copy keeps the model's own functions alive.
    set_steps_apart(model)
    own.set_aside()
    try:
        yield
    finally:
        state.restore()
        own.forget_new_traces()
    if verify and (changed := state.differences()):
        raise RuntimeError(
            "the model is not as it was before; what could not be put back: "
            + ", ".join(changed)
        )


def check_model(model: Any) -> None:
    """Raises a `TypeError` where `model` is no Keras model."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a keras.Model of Keras 3. "
            f"Received: model={model!r} of {type(model).__module__}"
        )


def _announce(iterators: list[str]) -> None:
    if iterators:
        warnings.warn(
            "the model holds iterators; what is drawn from them during the "
            f"test cannot be put back: {', '.join(iterators)}",
            UserWarning,
            stacklevel=4,
        )


class Snapshot:
    """A copy of all that training changes in a model. Taken when made.

    Args:
        model: The Keras model, from `Callback.model` inside a fit.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        found = reach(model)
        _announce([each.path for each in found if each.kind is ITERATOR])
        self._saved = [(each, each.kind.save(each.value)) for each in found]
        self._later: list[tuple[Found, Any]] = []
        self._counted: list[tuple[Found, Any]] = []
        self._random = RandomState()

    def restore(self) -> None:
        """Puts everything back. May be called any number of times."""
        stale = self._was_built_since()
        for each, saved in self._saved:
            if not each.kind.is_number:
                each.kind.put_back(each.value, saved)
        if stale:
            # They have variables built in that are gone.
            forget_functions(self._model)
        self._put_back_numbers(self._saved)
        self._random.restore()

    def begin(self) -> None:
        """Keeps what is drawn from here on apart from what comes after."""
        self._random.begin()

    def give_up(self) -> None:
        """Ends what `begin` began, where nothing is to be put back."""
        self._random.end()

    def extend(self) -> None:
        """Saves what has come since, for `rewind` alone.

        That is numbers; and, where Python runs at every step, the attributes
        of layers and modules that are not Keras's, such as counts of calls.
        """
        known = {id(each.value) for each, _ in self._saved + self._later}
        self._later += [
            (each, each.kind.save(each.value))
            for each in reach(self._model)
            if each.kind.is_number and id(each.value) not in known
        ]
        self._counted = [
            (each, each.kind.save(each.value))
            for layer in layers_run_by_python(self._model)
            for each in reach(layer)
            if not each.kind.is_number
        ]

    def rewind(self) -> None:
        """Puts back what `extend` saved, and leaves what was built since."""
        for each, saved in self._counted:
            each.kind.put_back(each.value, saved)
        # Metrics made since have no value to go back to but the empty one.
        self._model.reset_metrics()
        self._put_back_numbers(self._saved + self._later)
        self._random.rewind()

    def differences(self) -> list[str]:
        """Returns where the model is not as it was."""
        changed = []
        for each, saved in self._saved:
            now = each.kind.save(each.value)
            if each.kind.same(now, saved):
                continue
            if isinstance(saved, dict):
                changed += [f"{each.path}.{n}" for n in changes(now, saved)]
            else:
                changed.append(each.path)
        return changed + self._random.differences()

    def _was_built_since(self) -> bool:
        return any(
            not saved["built"] and getattr(each.value, "built", False)
            for each, saved in self._saved
            if isinstance(saved, dict) and "built" in saved
        )

    def _put_back_numbers(self, saved: list[tuple[Found, Any]]) -> None:
        for each, value in saved:
            if each.kind.is_number:
                each.kind.put_back(each.value, value)
