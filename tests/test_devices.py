"""Several devices: the curve of one device, and everything put back.

The fits are in `device_scenarios.py`, in a process for all that a backend has
of them.
"""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import reference

TESTS = pathlib.Path(__file__).parent
BATCH, ROWS = 8, 64
ON_TWO_DEVICES = {
    "tensorflow": ["mirrored", "mirrored_schedule", "multi_worker"],
    "jax": ["data_parallel", "data_parallel_schedule"],
}


def run(directory, *names):
    """Runs scenarios in a process with two devices; returns what they saw."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": keras.backend.backend(),
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run(
        [sys.executable, TESTS / "device_scenarios.py", directory, *names],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = [s for s in done.stdout.splitlines() if s[:1] in "{["]
    return dict(zip(names, map(json.loads, seen), strict=True))


@pytest.fixture(scope="module")
def on_two_devices(tmp_path_factory):
    """What every scenario of this backend with two devices saw."""
    names = ON_TWO_DEVICES[keras.backend.backend()]
    return run(tmp_path_factory.mktemp("devices"), *names)


def arrays(nested):
    return [np.array(a) for a in nested]


def source():
    return reference.batches(*reference.data(ROWS), BATCH)


def assert_measured(seen):
    """Asserts that curve and next fit are what one device would show."""
    before = arrays(seen["before"])
    losses, _ = reference.train(before, source(), reference.ramp())
    np.testing.assert_allclose(seen["losses"], losses, rtol=1e-5)
    assert seen["back"] == seen["before"]
    assert seen["rate_is_back"]
    _, weights = reference.train(before, source(), [0.01] * 8)
    reference.assert_same_weights(arrays(seen["after_a_fit"]), weights)


MIRRORED = [
    pytest.mark.backend("tensorflow"),
    # Keras 3.3 reduces no gradients here: each replica trains by itself, on
    # its part of the batch, and the loss of the first one is logged.
    pytest.mark.keras("3.4"),
]
PARALLEL = [pytest.mark.backend("jax")]


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param("mirrored", marks=MIRRORED),
        pytest.param("mirrored_schedule", marks=MIRRORED),
        pytest.param("data_parallel", marks=PARALLEL),
        pytest.param("data_parallel_schedule", marks=PARALLEL),
    ],
)
def test_two_devices_measure_what_one_does(scenario, on_two_devices):
    """They share each batch: same curve, same model afterwards."""
    seen = on_two_devices[scenario]
    assert_measured(seen)
    assert seen["files"] == ["loss.jpg", "smooth_loss.jpg"]


@pytest.mark.backend("tensorflow")
def test_mirrored_strategy_sets_the_rate_on_every_replica(on_two_devices):
    """Each copy of the learning rate is that of the ramp."""
    rates = np.array(on_two_devices["mirrored"]["rates"])
    assert rates.shape == (reference.STEPS, 2)
    for replica in rates.T:
        np.testing.assert_allclose(replica, reference.ramp(), rtol=1e-6)


@pytest.mark.backend("tensorflow")
def test_multi_worker_strategy_is_refused(on_two_devices):
    """Keras 3's own fit fails there, so the error says what to do."""
    seen = on_two_devices["multi_worker"]
    assert len(seen["errors"]) == 2
    for error in seen["errors"]:
        assert "is not supported" in error
        assert "MirroredStrategy" in error
    assert seen["back"] == seen["before"]


def two_ranks(directory):
    """What both of two processes saw; only the first one writes files."""
    first, second = run(directory, "two_processes")["two_processes"]
    assert first.pop("files") == ["loss.jpg", "smooth_loss.jpg"]
    assert second.pop("files") == []
    assert first == second
    assert first["back"] == first["before"]
    return first


@pytest.mark.keras("3.10")
@pytest.mark.backend("jax")
def test_two_processes_measure_what_one_does(tmp_path):
    """Each has half of every batch; curve, answer and model are one."""
    seen = two_ranks(tmp_path)
    assert_measured(seen)
    assert seen["lr"] is not None
    assert seen["probes"]


@pytest.mark.backend("torch")
def test_ddp_ranks_measure_what_one_process_does_and_stop_together(tmp_path):
    """Losses are averaged over the ranks before any of them decides."""
    seen = two_ranks(tmp_path)
    count = len(seen["losses"])
    lrs = np.geomspace(reference.START, 30.0, 20)[:count]
    losses, _ = reference.train(arrays(seen["before"]), source(), lrs)
    np.testing.assert_allclose(seen["lrs"], lrs, rtol=1e-12)
    np.testing.assert_allclose(seen["losses"], losses, rtol=1e-3)
    assert seen["reason"] == "DIVERGED"
    assert count < 20
