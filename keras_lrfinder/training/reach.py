"""Everything that a model reaches and training can change.

The walk starts at the model and looks into whatever Keras, PyTorch modules
and TensorFlow modules are made of: their attributes, lists and dictionaries,
down to what holds numbers. What it finds is one of some kinds, and each kind
knows how its state is saved, put back and compared.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import io
import pickle
import sys
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_lrfinder.training import keras_internals as internals
from keras_lrfinder.training.learning_rate import host_copy
from keras_lrfinder.training.learning_rate import is_untouched

Children = Iterable[tuple[str, Any]]

_ATOMS = (type(None), bool, int, float, complex, str, bytes)
_BOXES = (dict, list, set, collections.deque)
# What is made of attributes that training sets.
_OF_KERAS = (
    keras.layers.Layer,
    keras.losses.Loss,
    keras.metrics.Metric,
    keras.optimizers.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
    keras.random.SeedGenerator,
)
_WELL_KNOWN = {"builtins", "jax", "jaxlib", "keras_lrfinder", "numpy"}
_WELL_KNOWN |= {"tensorflow", "torch", "wrapt", *sys.stdlib_module_names}
# A larger array is data rather than state, and a copy would be dear.
_LARGEST_ARRAY = 2**26


@dataclasses.dataclass(frozen=True)
class Kind:
    """How one kind of thing is saved, put back and compared."""

    save: Callable[[Any], Any]
    put_back: Callable[[Any, Any], None]
    same: Callable[[Any, Any], bool]
    children: Callable[[Any], Children] | None = None

    @property
    def is_number(self) -> bool:
        """Whether training moves it without anybody replacing it."""
        return self.children is None


@dataclasses.dataclass(frozen=True)
class Found:
    """One thing that the model reaches, and how the walk came to it."""

    path: str
    value: Any
    kind: Kind


def reach(*roots: Any) -> list[Found]:
    """Returns everything that a model, or the like, reaches, each once."""
    found: dict[int, Found] = {}
    # What is seen is kept, so that no id is used again during the walk.
    seen: dict[int, Any] = {}
    todo = [(type(root).__name__, root) for root in reversed(roots)]
    # Last: what the model itself reaches as well is not the user's alone.
    of_users: list[tuple[str, Any]] = []
    while todo or of_users:
        own = bool(todo)
        path, value = todo.pop() if own else of_users.pop()
        if isinstance(value, _ATOMS) or id(value) in seen:
            continue
        for one in (value, internals.array_within(value)):
            seen[id(one)] = one
        kind = _kind_of(value)
        if not own and kind in (_BOX, ITERATOR):
            kind = _FOREIGN_BOX if kind is _BOX else None
        children: Children = ()
        if kind is not None:
            found[id(value)] = Found(path, value, kind)
            children = kind.children(value) if kind.children else ()
        elif isinstance(value, tuple):
            children = _box_children(value)
        within = todo if own and kind is not _FOREIGN else of_users
        within += [(path + step, v) for step, v in children]
    # Where a wrapped array was met before the variable that wraps it.
    wrapped = {id(internals.array_within(f.value)) for f in found.values()}
    return [f for key, f in found.items() if key not in wrapped]


def _kind_of(value: Any) -> Kind | None:
    """Returns what kind of thing it is; None: nothing to save."""
    if internals.is_variable(value):
        return _VARIABLE
    for each in type(value).__mro__:
        package = each.__module__.partition(".")[0]
        kind = _BY_NAME.get(f"{package}.{each.__name__}")
        if kind is not None:
            return kind
    if isinstance(value, np.ndarray):
        is_plain = value.flags.writeable and value.dtype != object
        return _ARRAY if is_plain and value.nbytes <= _LARGEST_ARRAY else None
    if isinstance(value, _BOXES):
        return _BOX
    if isinstance(value, _OF_KERAS):
        return _OBJECT
    package = type(value).__module__.partition(".")[0]
    if isinstance(value, (type, io.IOBase)) or package == "keras":
        return None
    attributes = getattr(value, "__dict__", None)
    if package not in _WELL_KNOWN and isinstance(attributes, dict):
        # Of the user's own making: it may hold variables. Its attributes and
        # lists are its own business: files, threads, counts of calls, logs.
        return _FOREIGN
    return ITERATOR if isinstance(value, collections.abc.Iterator) else None


def _wrapper_children(value: Any) -> Children:
    # The container, and notes about it.
    wrapped = [("", v) for v in vars(value).values()]
    if type(value).__name__ != "ListWrapper":
        wrapped.append(("", value.__wrapped__))
    return wrapped


def _same_bits(a: Any, b: Any) -> bool:
    return bool(a.dtype == b.dtype and a.tobytes() == b.tobytes())


def _same_state(a: Any, b: Any) -> bool:
    return pickle.dumps(a) == pickle.dumps(b)


def _same_items(a: Any, b: Any) -> bool:
    return len(a) == len(b) and all(
        x is y or (isinstance(x, _ATOMS) and x == y) for x, y in zip(a, b)
    )


def _put_back_attributes(value: Any, saved: dict[str, Any]) -> None:
    # Not by setattr: neither Keras, TensorFlow nor PyTorch is to take notice.
    now = vars(value)
    if now.keys() != saved.keys() or any(now[k] is not saved[k] for k in saved):
        now.clear()
        now.update(saved)


def changes(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Returns which of two states of an object's attributes differ."""
    both = a.keys() & b.keys()
    changed = {name for name in both if not _same_items([a[name]], [b[name]])}
    return sorted(changed | (a.keys() ^ b.keys()))


def _box_items(box: Any) -> list[Any]:
    if isinstance(box, dict):
        return [x for item in dict.items(box) for x in item]
    # A set that was filled again has another order.
    return sorted(box, key=id) if isinstance(box, set) else list(box)


def _put_back_items(box: Any, saved: list[Any]) -> None:
    if _same_items(_box_items(box), saved):
        return
    # By the plain type's methods: those of Keras's own lists track.
    plain: Any = next(kind for kind in _BOXES if isinstance(box, kind))
    plain.clear(box)
    if plain is dict:
        dict.update(box, zip(saved[::2], saved[1::2]))
    elif plain is set:
        set.update(box, saved)
    else:
        plain.extend(box, saved)


def _box_children(box: Any) -> Children:
    pairs = dict.items(box) if isinstance(box, dict) else enumerate(box)
    return [(f"[{key!r}]", value) for key, value in pairs]


def _put_back_tensor(tensor: Any, saved: Any) -> None:
    if tensor.shape == saved.shape:
        tensor.detach().copy_(saved)
    else:
        tensor.data = saved.clone()


def _same_tensors(a: Any, b: Any) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    uint8 = sys.modules["torch"].uint8
    bits = [t.cpu().contiguous().view(-1).view(uint8) for t in (a, b)]
    return bool((bits[0] == bits[1]).all())


def _variable_state(variable: Any) -> tuple[Any, bool]:
    # `layer.trainable = …` writes into the layer's variables as well.
    value = host_copy(variable)
    if value.size > 1:
        raw = value.reshape(-1, 1).view(np.uint8)
        # Slots that are still empty need no memory.
        if (raw[-1] == raw[0]).all() and (raw == raw[0]).all():
            value = np.broadcast_to(value.reshape(-1)[0], value.shape)
    return value, variable.trainable


def _put_back_variable(variable: Any, saved: tuple[Any, bool]) -> None:
    value, trainable = saved
    if not is_untouched(variable, value):
        variable.assign(np.ascontiguousarray(value).reshape(value.shape))
    if variable.trainable != trainable:
        variable.trainable = trainable


_VARIABLE = Kind(
    _variable_state,
    _put_back_variable,
    lambda a, b: _same_bits(a[0], b[0]) and a[1] == b[1],
)
_RAW_VARIABLE = Kind(
    lambda v: np.array(v.numpy()), lambda v, saved: v.assign(saved), _same_bits
)
_TENSOR = Kind(
    lambda tensor: tensor.detach().clone(), _put_back_tensor, _same_tensors
)
_ARRAY = Kind(np.copy, np.copyto, _same_bits)
_RANDOM = Kind(lambda g: g.getstate(), lambda g, s: g.setstate(s), _same_state)
_NUMPY_GENERATOR = Kind(
    lambda g: g.bit_generator.state,
    lambda g, s: setattr(g.bit_generator, "state", s),
    _same_state,
)
_NUMPY_RANDOM = Kind(
    lambda g: g.get_state(), lambda g, s: g.set_state(s), _same_state
)
_TORCH_GENERATOR = dataclasses.replace(_NUMPY_RANDOM, same=_same_tensors)
_OBJECT = Kind(
    lambda value: dict(vars(value)),
    _put_back_attributes,
    lambda a, b: not changes(a, b),
    lambda value: [(f".{k}", v) for k, v in vars(value).items()],
)
_WRAPPER = dataclasses.replace(_OBJECT, children=_wrapper_children)
_BOX = Kind(_box_items, _put_back_items, _same_items, _box_children)
_FOREIGN = dataclasses.replace(_OBJECT, put_back=lambda value, saved: None)
_FOREIGN_BOX = dataclasses.replace(_BOX, put_back=lambda value, saved: None)
# What was drawn from it is gone: there is no state to save.
ITERATOR = dataclasses.replace(
    _FOREIGN, save=lambda value: {}, children=lambda value: ()
)
# By package and class, for it may not be installed, or not be exported.
_BY_NAME = {
    # TensorFlow's proxies of lists and dictionaries, which take the place of
    # attributes. They pass for what they wrap, but are emptied and filled by
    # their own attributes only.
    "tensorflow.ListWrapper": _WRAPPER,
    "tensorflow._DictWrapper": _WRAPPER,
    "tensorflow.Variable": _RAW_VARIABLE,
    "torch.Tensor": _TENSOR,
    "random.Random": _RANDOM,
    "numpy.Generator": _NUMPY_GENERATOR,
    "numpy.RandomState": _NUMPY_RANDOM,
    "torch.Generator": _TORCH_GENERATOR,
    "keras.OptimizerMap": _OBJECT,
    "keras.Tracker": _OBJECT,
    "tensorflow.Generator": _OBJECT,
    "tensorflow.Module": _OBJECT,
    "torch.Module": _OBJECT,
}
