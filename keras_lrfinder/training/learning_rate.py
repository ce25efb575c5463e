"""Which optimizers there are, and the learning rate that each of them has.

A learning rate can be a variable, a `LearningRateSchedule` or a callable.
This module knows all three, so that nothing else has to. It also reads and
writes single variables quickly, from inside a running fit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_lrfinder.training import keras_internals as internals
from keras_lrfinder.training.keras_internals import learning_rate_of

Assigner = Callable[[float], Any]

_MOST_EXPECTED = 10_000


def leaves_of(optimizers: Sequence[Any]) -> list[Any]:
    """Returns the optimizers that hold a learning rate of their own.

    One that scales the loss stands for its inner one, one made of several
    for all of these.
    """
    leaves: list[Any] = []
    for optimizer in optimizers:
        inner = getattr(optimizer, "inner_optimizer", None)
        parts = [inner] if inner else getattr(optimizer, "optimizers", None)
        leaves += leaves_of(parts) if parts else [optimizer]
    return leaves


def all_optimizers(model: Any) -> list[Any]:
    """Returns every optimizer that `model` holds, its own one first."""
    found = [getattr(model, "optimizer", None), *vars(model).values()]
    optimizers = {
        id(value): value
        for value in found
        if isinstance(value, keras.optimizers.Optimizer)
    }
    return list(optimizers.values())


def named_optimizers(model: Any, named: Any) -> list[Any]:
    """Returns the optimizers that a user's `optimizer=` stands for.

    Raises a `ValueError` where it is neither None, an optimizer, the name of
    an attribute of the model, nor a list of optimizers.
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


def kind_of(optimizers: list[Any]) -> str:
    """Returns the kind of optimizers, in small letters: "adam", "adam+sgd"."""
    names = (type(leaf).__name__.lower() for leaf in leaves_of(optimizers))
    return "+".join(dict.fromkeys(names))


def check_kind(optimizers: list[Any], tested: str) -> None:
    """Raises where a learning rate was not found for optimizers like these.

    `tested` is the kind that was tested, as from `kind_of`, or `""`.
    """
    found = kind_of(optimizers)
    if tested and found != tested:
        raise ValueError(
            "`model` must have the kind of optimizer that was tested, "
            f"{tested}: its learning rate says nothing of another. "
            f"Received: {found}"
        )


def plain_settings(optimizer: Any) -> dict[str, Any]:
    """Returns the numbers and strings that an optimizer was made with."""
    # Not `get_config`: it fails for a schedule that cannot be serialised.
    return {
        name: value
        for name, value in vars(optimizer).items()
        if not name.startswith("_")
        and name not in ("name", "built")
        and isinstance(value, (bool, int, float, str))
    }


def is_built(model: Any) -> bool:
    """Returns whether all weights of the model exist.

    A model whose class only ties other models together, as a GAN's, may
    never be called itself: it is built when its parts are.
    """
    parts = internals.layers_of(model)
    return all(part.built for part in parts) if parts else bool(model.built)


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


class SweptRate:
    """Sets one learning rate on some optimizers, and gives it back.

    Between `hold` and `release` every optimizer has a plain variable for a
    learning rate. `release` puts the very object back that was there.

    Args:
        optimizers: The optimizers to sweep, as the user named them.
        others: Those that train the model beside them.
    """

    def __init__(self, optimizers: list[Any], others: list[Any]) -> None:
        self.leaves = leaves_of(optimizers)
        self._others = leaves_of(others)
        self.scales_loss = any(
            hasattr(optimizer, "inner_optimizer") for optimizer in optimizers
        )
        self._originals = [learning_rate_of(leaf) for leaf in self.leaves]
        self._initial: list[Any] = [
            host_copy(original) if hasattr(original, "assign") else None
            for original in self._originals
        ]
        self.variables: list[Any] = []
        self._assigns: list[Assigner] = []

    def updates(self) -> int:
        """Returns how many updates the optimizers have made so far."""
        counts = [leaf.iterations for leaf in self.leaves]
        return sum(int(keras.ops.convert_to_numpy(c)) for c in counts)

    def hold(self, model: Any) -> bool:
        """Makes the learning rate assignable, whatever it was.

        Returns whether a training step that was traced before has another
        learning rate built in.
        """
        pairs = zip(self.leaves, self._originals)
        self.variables = [
            held if hasattr(held, "assign") else _own_variable(model, leaf)
            for leaf, held in pairs
        ]
        self.assign_by(assigner)
        self.read = reader(self.variables[0])
        return any(value is None for value in self._initial)

    def assign_by(self, assigner_of: Callable[[Any], Assigner]) -> None:
        """Uses this way to assign numbers to a variable."""
        self._assigns = [assigner_of(v) for v in self.variables]

    def set(self, lr: float) -> None:
        """Sets the learning rate of the next update."""
        for assign in self._assigns:
            assign(lr)

    @property
    def averages(self) -> bool:
        """Whether averages of the weights may take the weights' place."""
        return any(
            getattr(leaf, "use_ema", False) and leaf.ema_overwrite_frequency
            for leaf in [*self.leaves, *self._others]
        )

    def what_stops(self) -> list[Any]:
        """Returns what else is to be 0 for all weights to stand still.

        That is the learning rates of the others, but for schedules, and the
        slots of all.
        """
        held = [learning_rate_of(leaf) for leaf in self._others]
        stops = [rate for rate in held if hasattr(rate, "assign")]
        for leaf in [*self.leaves, *self._others]:
            stops += internals.slots_of(leaf)
        return stops

    def release(self) -> None:
        """Puts every learning rate back. Calling it again changes nothing."""
        if not self.variables:
            return
        for leaf, original, value in zip(
            self.leaves, self._originals, self._initial
        ):
            if learning_rate_of(leaf) is not original:
                internals.set_learning_rate(leaf, original)
            if value is not None:
                original.assign(value)
        self.variables, self._assigns = [], []


def _own_variable(model: Any, optimizer: Any) -> Any:
    """Gives an optimizer that holds a schedule a variable for it instead.

    On JAX it becomes an attribute, so that it joins `optimizer.variables`: a
    variable outside of them is a constant to a compiled step. Elsewhere it
    must not: on TensorFlow, untracking a variable leaves an optimizer that
    can never be saved again.
    """
    # Where the model's own variables are, on all devices.
    strategy = getattr(model, "distribute_strategy", None)
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        variable = keras.Variable(
            0.0, trainable=False, dtype="float32", name="learning_rate"
        )
    if keras.backend.backend() == "jax":
        internals.set_learning_rate(optimizer, variable)
    else:
        optimizer.learning_rate = _Held(variable)
    return variable


class _Held(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that returns the value of a variable at every step."""

    def __init__(self, variable: Any) -> None:
        self._variable = variable

    def __call__(self, step: Any) -> Any:
        return self._variable

    def get_config(self) -> dict[str, Any]:
        return {"learning_rate": float(self._variable)}


def apply_learning_rate(model: Any, optimizers: list[Any], value: Any) -> None:
    """Sets what optimizers of a model train with, for good.

    A number where an optimizer holds one is assigned to it. Whatever else
    takes the place of what it holds is a schedule: the one given, or for a
    number one of Keras's own that is constant. The model can be saved,
    checkpointed and exported as before. The next `fit` traces its train
    function anew, as the old one has what was there before built in; a
    `tf.function` of the user's own has it as well.
    """
    schedule = value
    if not callable(value):
        # Not a variable: the optimizer would have one more than in the files
        # that were saved before, and on TensorFlow one that is taken away
        # again leaves an optimizer that can never be saved. Not a class of
        # ours: a saved model would need it to be imported.
        schedule = keras.optimizers.schedules.ExponentialDecay(
            value, decay_steps=1, decay_rate=1.0, name="constant"
        )
    for leaf in leaves_of(optimizers):
        if schedule is not value and hasattr(learning_rate_of(leaf), "assign"):
            leaf.learning_rate = value
            continue
        leaf.learning_rate = schedule
        internals.mend_lists_of(leaf)
        model.train_function = None


# --- Single variables, of shape () -------------------------------------------


def assigner(variable: Any, expected: Sequence[float] = ()) -> Assigner:
    """Returns what assigns a number, `expected` or not, to a variable."""
    if keras.backend.backend() == "torch":
        # Keras's assign makes a tensor of the number first. On a GPU that is
        # a copy from the host, which waits for the step; a fill does not.
        return lambda number: variable.value.data.fill_(number)
    value = internals.plain_tensorflow(variable)
    if value is None:
        return variable.assign  # type: ignore[no-any-return]
    # Keras's assign takes some 40 µs (scopes, shape checks): with three a
    # step more than a small model's step may cost. The public op beneath
    # takes 5, and making its tensor 12, unless it is made beforehand. A
    # variable on several devices needs Keras's way.
    import tensorflow as tf

    assign, handle, dtype = (
        tf.raw_ops.AssignVariableOp,
        value.handle,
        value.dtype,
    )
    numbers = list(dict.fromkeys(expected))[:_MOST_EXPECTED]
    tensors = tf.unstack(tf.constant(numbers, dtype)) if numbers else []
    ready = dict(zip(numbers, tensors))

    def assign_number(number: float) -> None:
        tensor = ready.get(number)
        if tensor is None:
            tensor = tf.constant(number, dtype)
        assign(resource=handle, value=tensor)

    return assign_number


def emptier(variables: list[Any]) -> Callable[[], None]:
    """Returns a function that sets scalar variables to zero."""
    assigns = [assigner(variable, (0.0,)) for variable in variables]

    def assign_zeros() -> None:
        for assign in assigns:
            assign(0.0)

    return assign_zeros


def reader(variable: Any) -> Callable[[], float]:
    """Returns a function that reads a scalar variable as a float."""
    value = internals.plain_tensorflow(variable)
    if value is None:
        return lambda: float(keras.ops.convert_to_numpy(variable))
    import tensorflow as tf

    read, handle, dtype = tf.raw_ops.ReadVariableOp, value.handle, value.dtype
    return lambda: float(read(resource=handle, dtype=dtype))


def host_copy(variable: Any) -> Any:
    """Returns the value of a variable, as an array that stays as it is."""
    # On several devices its value is not one array: Keras knows which to take.
    on_tensorflow = keras.backend.backend() == "tensorflow"
    value = internals.plain_tensorflow(variable)
    if value is not None:
        # No copy, on a CPU: TensorFlow makes one before it writes into what
        # somebody has read. What is never trained costs nothing.
        return np.asarray(value.read_value())
    # Of a variable itself Keras makes a copy of a copy on PyTorch.
    array = keras.ops.convert_to_numpy(
        variable if on_tensorflow else variable.value
    )
    # It may be a view, which changes as training goes on.
    return array if array.flags.owndata else array.copy()


def is_untouched(variable: Any, array: Any) -> bool:
    """Returns whether what `host_copy` returned is still the variable's own."""
    value = internals.plain_tensorflow(variable)
    if value is None or "CPU" not in value.device:
        return False
    now = np.asarray(value.read_value())
    return bool(now.ctypes.data == array.ctypes.data)
