"""The global random state: Python's, NumPy's, Keras's and the backend's."""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np

from keras_lrfinder.training import backend_internals
from keras_lrfinder.training import keras_internals
from keras_lrfinder.training.variables import host_copy


class RandomState:
    """The state of every global random generator that a fit may draw from.

    Taken when made. From `begin` to `restore`, TensorFlow's eager ops draw
    from another stream.
    """

    def __init__(self) -> None:
        self._states = _current()
        self._names = dict(keras_internals.counts_of_names() or {})
        self._entered: Any = None

    def begin(self) -> None:
        """Leaves the seeds that come next to whoever comes next."""
        self._entered = self._entered or backend_internals.enter_other_seeds()

    def end(self) -> None:
        """Takes back `begin`. Calling it again changes nothing."""
        backend_internals.leave_other_seeds(self._entered)
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
            keras_internals.forget_global_seed_generator()
        names = keras_internals.counts_of_names()
        if names is not None and names != self._names:
            names.clear()
            names.update(self._names)

    def differences(self) -> list[str]:
        """Returns which of them are elsewhere now."""
        now = _current()
        return [
            f"the random state of {name}"
            for name, state in self._states.items()
            if _bits(now[name]) != _bits(state)
        ]

    def _put_back(self) -> None:
        states = self._states
        random.setstate(states["Python"])
        np.random.set_state(states["NumPy"])
        generator = keras_internals.global_seed_generator()
        if states["Keras"] is not None and generator is not None:
            generator.state.assign(states["Keras"])
        _restore_torch(states["PyTorch"])
        generator = backend_internals.global_tensorflow_generator()
        if states["TensorFlow"] is not None and generator is not None:
            generator.state.assign(states["TensorFlow"])


def _current() -> dict[str, Any]:
    of_keras = keras_internals.global_seed_generator()
    of_tensorflow = backend_internals.global_tensorflow_generator()
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
    generator = keras_internals.global_seed_generator()
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
    return state.tobytes() if hasattr(state, "tobytes") else _plain(state)


def _plain(state: Any) -> Any:
    return state.tolist() if hasattr(state, "tolist") else state
