"""Several devices: the curve of one device, and everything put back.

The fits are in `device_scenarios.py`, a process for each.
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


@pytest.fixture
def run(tmp_path):
    """Runs a scenario in a process with two devices."""

    def scenario(name):
        environment = {
            **os.environ,
            "KERAS_BACKEND": keras.backend.backend(),
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        done = subprocess.run(
            [sys.executable, TESTS / "device_scenarios.py", name, tmp_path],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return scenario


def arrays(nested):
    return [np.array(a) for a in nested]


def source():
    return reference.batches(*reference.data(ROWS), BATCH)


def assert_as_on_one_device(seen):
    """Asserts what one device would have shown."""
    before = arrays(seen["before"])
    losses, _ = reference.train(before, source(), reference.ramp())
    np.testing.assert_allclose(seen["losses"], losses, rtol=1e-5)
    assert seen["back"] == seen["before"]
    assert seen["rate_is_back"]
    _, weights = reference.train(before, source(), [0.01] * 8)
    reference.assert_same_weights(arrays(seen["after_a_fit"]), weights)
    assert seen["files"] == ["loss.jpg", "smooth_loss.jpg"]


# Keras 3.3 reduces no gradients here: each replica trains by itself, on its
# part of the batch, and the loss of the first one is logged.
@pytest.mark.keras("3.4")
@pytest.mark.backend("tensorflow")
@pytest.mark.parametrize("scenario", ["mirrored", "mirrored_schedule"])
def test_mirrored_strategy_measures_what_one_device_does(scenario, run):
    """Two replicas share each batch: same curve, same model afterwards."""
    assert_as_on_one_device(run(scenario))


@pytest.mark.backend("tensorflow")
def test_mirrored_strategy_sets_the_rate_on_every_replica(run):
    """Each copy of the learning rate is that of the ramp."""
    rates = np.array(run("mirrored_replicas")["rates"])
    assert rates.shape == (reference.STEPS, 2)
    for replica in rates.T:
        np.testing.assert_allclose(replica, reference.ramp(), rtol=1e-6)


@pytest.mark.backend("tensorflow")
def test_multi_worker_strategy_is_refused(run):
    """Keras 3's own fit fails there, so the error says what to do."""
    seen = run("multi_worker")
    assert len(seen["errors"]) == 2
    for error in seen["errors"]:
        assert "is not supported" in error
        assert "MirroredStrategy" in error
    assert seen["back"] == seen["before"]


@pytest.mark.backend("jax")
@pytest.mark.parametrize("name", ["data_parallel", "data_parallel_schedule"])
def test_data_parallel_measures_what_one_device_does(name, run):
    """Two devices share each batch: same curve, same model afterwards."""
    assert_as_on_one_device(run(name))


@pytest.mark.keras("3.10")
@pytest.mark.backend("jax")
def test_two_processes_measure_what_one_does(run):
    """Each has half of every batch; curve, answer and model are one."""
    seen = run("two_processes")
    first, second = seen["ranks"]
    assert first == second
    before = arrays(first["before"])
    losses, _ = reference.train(before, source(), reference.ramp())
    np.testing.assert_allclose(first["losses"], losses, rtol=1e-5)
    assert first["lr"] is not None
    assert first["probes"]
    assert first["back"] == first["before"]
    _, weights = reference.train(before, source(), [0.01] * 8)
    reference.assert_same_weights(arrays(first["after_a_fit"]), weights)
    assert seen["files"] == [["loss.jpg", "smooth_loss.jpg"], []]


@pytest.mark.backend("torch")
def test_ddp_ranks_measure_what_one_process_does_and_stop_together(run):
    """Losses are averaged over the ranks before any of them decides."""
    seen = run("ddp")
    assert seen["exits"] == [0, 0]
    first, second = seen["ranks"]
    assert first == second
    count = len(first["losses"])
    lrs = np.geomspace(reference.START, 30.0, 20)[:count]
    losses, _ = reference.train(arrays(first["before"]), source(), lrs)
    np.testing.assert_allclose(first["lrs"], lrs, rtol=1e-12)
    np.testing.assert_allclose(first["losses"], losses, rtol=1e-3)
    assert first["reason"] == "DIVERGED"
    assert count < 20
    assert first["back"] == first["before"]
    written, nothing = seen["files"]
    assert sorted(written) == ["loss.jpg", "smooth_loss.jpg"]
    assert nothing == []
