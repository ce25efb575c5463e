"""What all tests share: one backend, chosen outside; a seed; the marks.

`KERAS_BACKEND` chooses the backend, TensorFlow where it says nothing. Every
test runs on every backend it is for. Of the cases of a test with parameters
each is dealt to one backend, so that the backends together run them all:
`--thorough` runs all of them here. `tests/field` runs where it is named.
"""

import collections
import gc
import os
import pathlib

# Before anything imports Keras.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# There is a process for every core, and the models are tiny: more threads
# only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import pytest

# How long a case takes on each: TensorFlow traces, JAX compiles.
BACKENDS = {"torch": 1, "jax": 2, "tensorflow": 3}
MARKS = {
    "backend(*names)": "runs only where Keras uses one of these backends",
    "keras(version)": "runs only with this version of Keras or a newer one",
    "thorough": "one of many like it: runs only with --thorough",
    "thorough_on(*names)": "likewise on these backends; on others always",
}


OPTIONS = {
    "--thorough": "run the full cross products as well (minutes more)",
    "--fits": "leave out the files that no backend can change",
}


def pytest_addoption(parser):
    for name, meaning in OPTIONS.items():
        parser.addoption(name, action="store_true", help=meaning)
    parser.addoption(
        "--outcomes",
        metavar="FILE",
        help="append the names of tests that ran, and of those skipped",
    )


# What no backend can change. CI runs these files once.
PURE = """
    arguments benchmark_cost curve package pictures posterior range_test report
    runs search suggestions
"""
PURE = {f"test_{name}.py" for name in PURE.split()}


def pytest_ignore_collect(collection_path, config):
    """Leaves out the pure files for --fits, and what must be named."""
    if config.getoption("--fits") and collection_path.name in PURE:
        return True
    if collection_path.name == "field":
        named = (str(arg).partition("::")[0] for arg in config.args)
        return not any("field" in pathlib.Path(n).parts for n in named) or None
    return None


def pytest_configure(config):
    for name, meaning in MARKS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    # It runs each program for milliseconds and compiles it for a second.
    if not config.getoption("--thorough"):
        os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    # Compiling a tiny model anew takes JAX seconds, running it nothing.
    cache = getattr(config, "cache", None)
    if cache is not None:
        directory = str(cache.mkdir("jax"))
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", directory)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def pytest_collection_modifyitems(config, items):
    """Leaves out what another backend, or `--thorough`, is there for."""
    import keras

    backend = keras.backend.backend()
    version = _release(keras.__version__)
    dealt = {} if config.getoption("--thorough") else _dealt(items)
    left_out = []
    for item in items:
        runs_here = all(
            backend in mark.args for mark in item.iter_markers("backend")
        ) and all(
            version >= _release(mark.args[0])
            for mark in item.iter_markers("keras")
        )
        if runs_here and backend in dealt.get(item, BACKENDS):
            continue
        thorough = runs_here and backend not in _backends(item)
        _outcomes[item.nodeid] = "thorough" if thorough else "skipped"
        left_out.append(item)
    items[:] = [item for item in items if item not in set(left_out)]
    config.hook.pytest_deselected(items=left_out)


def _backends(item):
    """The backends that a test is for, without `--thorough`."""
    if item.get_closest_marker("thorough"):
        return []
    names = list(BACKENDS)
    for mark in item.iter_markers("backend"):
        names = [name for name in names if name in mark.args]
    for mark in item.iter_markers("thorough_on"):
        names = [name for name in names if name not in mark.args]
    return names


def _cost(name, hand):
    """When a backend would be done with one case more; then how many it has."""
    return (len(hand) + 1) * BACKENDS[name], len(hand)


def _dealt(items):
    """The backends that each test runs on, by test."""
    cases = collections.defaultdict(list)
    for item in items:
        cases[item.nodeid.partition("[")[0]].append(item)
    dealt = {}
    for same in cases.values():
        hands = {name: [] for name in BACKENDS}
        for item in same:
            names = _backends(item)
            dealt[item] = names if item.path.name in PURE else []
            if names and not dealt[item]:
                hands[min(names, key=lambda n: _cost(n, hands[n]))].append(item)
        for name, hand in hands.items():
            mine = [item for item in same if name in _backends(item)]
            for item in hand or mine[:1]:
                dealt[item].append(name)
    return dealt


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report):
    """Writes down what ran, for CI to find what never does."""
    if report.when == "call" or report.skipped:
        _outcomes[report.nodeid] = "skipped" if report.skipped else "ran"


def pytest_collectreport(report):
    """Likewise for a file that skips itself whole."""
    if report.skipped:
        _outcomes[report.nodeid] = "skipped"


_outcomes = {}


def pytest_sessionfinish(session):
    """Appends them to the file: what ran, and, of one worker, what did not."""
    path = session.config.getoption("--outcomes")
    worker = getattr(session.config, "workerinput", {}).get("workerid", "gw0")
    if path and worker == "gw0":
        with open(path, "a", encoding="utf-8") as file:
            for name, outcome in _outcomes.items():
                file.write(f"{outcome}\t{name}\n")


def _release(version):
    return tuple(int(part) for part in version.split(".")[:2])


@pytest.fixture(scope="session")
def backend():
    """The name of the backend that Keras uses."""
    import keras

    return keras.backend.backend()


@pytest.fixture
def xy():
    """The data of the loop in NumPy."""
    import reference

    return reference.data()


@pytest.fixture
def net():
    """Its model, in Keras."""
    import reference

    return reference.model()


@pytest.fixture
def losses(net, xy):
    """Those of its ramp over batches of eight."""
    import reference

    source = reference.batches(*xy, 8)
    return reference.train(net.get_weights(), source, reference.ramp())[0]


@pytest.fixture(autouse=True)
def fresh_start():
    """Every test starts from the same seeds and with unused names."""
    import keras

    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(20170303)
    # TensorFlow keeps something of every function that it ever traced: a
    # collection that scans all of it takes longer than a test.
    gc.freeze()
    yield
    keras.backend.clear_session(free_memory=False)
