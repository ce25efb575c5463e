"""What the package knows of the backends' private parts is still so.

One test for each function of `training/backend_internals.py`, named after it.
"""

import keras
import pytest
import tiny

from keras_lrfinder.training import backend_internals as internals


@pytest.mark.backend("tensorflow")
def test_plain_tensorflow():
    """The variable beneath has the same value, and a handle to assign to."""
    variable = keras.Variable(3.0)

    found = internals.plain_tensorflow(variable)

    assert float(found) == 3.0
    assert found.handle.dtype == "resource"


@pytest.mark.backend("tensorflow")
def test_is_tensorflow_wrapper():
    """TensorFlow wraps the optimizer's own list of variables."""
    optimizer = tiny.compiled().optimizer
    kinds = [v for v in vars(optimizer).values() if isinstance(v, list)]
    assert any(map(internals.is_tensorflow_wrapper, kinds))
    assert not internals.is_tensorflow_wrapper([])


@pytest.mark.backend("tensorflow")
def test_tensorflow_wrapper_children():
    """What is wrapped is found behind the wrapper."""
    optimizer = tiny.compiled().optimizer
    wrapped = next(
        v
        for v in vars(optimizer).values()
        if internals.is_tensorflow_wrapper(v) and len(v)
    )
    children = [v for _, v in internals.tensorflow_wrapper_children(wrapped)]
    assert any(isinstance(v, list) and len(v) == len(wrapped) for v in children)


def fitted(**kwargs):
    """A compiled model after an epoch."""
    model = tiny.compiled(**kwargs)
    tiny.fit(model, 1)
    return model


@pytest.mark.backend("tensorflow", "jax")
def test_compiled_functions():
    """Those of a fit, more after an evaluation, none before."""
    assert internals.compiled_functions(tiny.compiled()) == []
    model = fitted()
    of_fit = internals.compiled_functions(model)
    assert of_fit
    model.evaluate(*tiny.data(), verbose=0)
    of_both = internals.compiled_functions(model)
    assert {id(f) for f in of_fit} < {id(f) for f in of_both}


@pytest.mark.backend("tensorflow", "jax")
def test_times_traced():
    """Once more for another size of batches."""
    model = fitted()
    functions = internals.compiled_functions(model)
    before = sum(map(internals.times_traced, functions))
    x, y = tiny.data()
    model.fit(x, y, verbose=0, batch_size=tiny.BATCH)
    assert sum(map(internals.times_traced, functions)) == before
    model.fit(x, y, batch_size=3, verbose=0)
    assert sum(map(internals.times_traced, functions)) > before


@pytest.mark.backend("jax")
def test_times_traced_where_the_cache_of_jax_is_full(monkeypatch):
    """As in a process that has compiled thousands of functions."""
    from jax._src import pjit

    full = pjit.make_jit_cpp_cache(1)
    monkeypatch.setattr(pjit, "_get_cpp_global_cache", lambda _: full)
    test_times_traced()


@pytest.mark.backend("tensorflow")
@pytest.mark.parametrize("of_keras", [True, False])
def test_draws_by_itself(of_keras):
    """`tf.random` has ops with a state; dropout of Keras has none."""
    import tensorflow as tf

    class Noise(keras.layers.Layer):
        def call(self, x):
            return x + tf.random.normal(tf.shape(x))

    hidden = keras.layers.Dropout(0.5) if of_keras else Noise()
    last = keras.layers.Dense(tiny.CLASSES, activation="softmax")
    net = keras.Sequential([keras.Input((tiny.FEATURES,)), hidden, last])
    functions = internals.compiled_functions(fitted(model=net))

    assert any(map(internals.draws_by_itself, functions)) is not of_keras


@pytest.mark.backend("tensorflow")
def test_enter_other_seeds():
    """What is drawn from then on is not what would come next."""
    import tensorflow as tf

    tf.random.set_seed(3)
    first = tf.random.normal((5,)).numpy()
    tf.random.set_seed(3)

    entered = internals.enter_other_seeds()
    other = tf.random.normal((5,)).numpy()
    internals.leave_other_seeds(entered)

    assert (other != first).all()


@pytest.mark.backend("tensorflow")
def test_leave_other_seeds():
    """The numbers that come next come, whatever was drawn inside."""
    import tensorflow as tf

    def next_numbers(inside):
        tf.random.set_seed(3)
        tf.random.normal((2,))
        if inside:
            entered = internals.enter_other_seeds()
            tf.random.normal((7,))
            internals.leave_other_seeds(entered)
        return tf.random.normal((5,)).numpy().tolist()

    assert next_numbers(True) == next_numbers(False)


@pytest.mark.backend("tensorflow")
def test_global_tensorflow_generator():
    """The generator that TensorFlow itself returns."""
    import tensorflow as tf

    generator = tf.random.get_global_generator()

    assert internals.global_tensorflow_generator() is generator


FUNCTIONS = [
    name
    for name, value in vars(internals).items()
    if getattr(value, "__module__", None) == internals.__name__
    and not name.startswith("_")
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_a_test_that_names_it(name):
    """Which one fails says what a new version has changed."""
    assert f"test_{name}" in globals()
    assert internals.__dict__[name].__doc__
