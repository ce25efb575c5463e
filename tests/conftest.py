"""What all tests share: one backend, chosen outside; a seed; two marks.

`KERAS_BACKEND` chooses the backend, TensorFlow where it says nothing. Models
and data are in `tiny.py`.
"""

import gc
import os

# Before anything imports Keras.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import pytest

MARKS = {
    "backend(*names)": "runs only where Keras uses one of these backends",
    "keras(version)": "runs only with this version of Keras or a newer one",
    "thorough": "one of many like it: runs only with --thorough",
}


def pytest_addoption(parser):
    parser.addoption(
        "--thorough",
        action="store_true",
        help="run the full cross products as well (minutes more)",
    )


def pytest_configure(config):
    for name, meaning in MARKS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    # Compiling a tiny model anew takes JAX seconds, running it nothing.
    cache = getattr(config, "cache", None)
    if cache is not None:
        directory = str(cache.mkdir("jax"))
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", directory)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def pytest_collection_modifyitems(config, items):
    import keras

    backend = keras.backend.backend()
    version = _release(keras.__version__)
    for item in items:
        for mark in item.iter_markers("backend"):
            if backend not in mark.args:
                names = " or ".join(mark.args)
                item.add_marker(pytest.mark.skip(reason=f"needs {names}"))
        for mark in item.iter_markers("keras"):
            if version < _release(mark.args[0]):
                reason = f"needs Keras {mark.args[0]}"
                item.add_marker(pytest.mark.skip(reason=reason))
        if item.get_closest_marker("thorough") and not config.getoption(
            "--thorough"
        ):
            item.add_marker(pytest.mark.skip(reason="needs --thorough"))


def _release(version):
    return tuple(int(part) for part in version.split(".")[:2])


@pytest.fixture(scope="session")
def backend():
    """The name of the backend that Keras uses."""
    import keras

    return keras.backend.backend()


@pytest.fixture(autouse=True, scope="module")
def small_heap():
    """Spares garbage collections what is there for good.

    TensorFlow keeps something of every function it ever traced. After some
    hundred tests a collection would take a second, and many tests make one.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fresh_start():
    """Every test starts from the same seeds and with unused names."""
    import keras

    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(20170303)
    yield
    keras.backend.clear_session(free_memory=False)
