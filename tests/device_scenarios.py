"""Fits on several devices, in processes of their own.

The devices of a process cannot be changed once it has used them. So
`python device_scenarios.py <directory> <name> ...` runs some of these, each
in a folder of its own, and prints what each saw as a line of JSON;
`test_devices.py` starts them and judges.
"""

import functools
import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import reference

from keras_lrfinder import LRFinder
from keras_lrfinder import RangeTest
from keras_lrfinder import lr_find
from keras_lrfinder import snapshot

RANK = int(os.environ.get("RANK", 0))
MEETING = os.environ.get("MEETING")
DATA = reference.data(rows=64)
FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}
HALF = slice(4 * RANK, 4 * RANK + 4)  # of a batch


def lists(arrays):
    """Returns arrays as nested lists."""
    return [a.tolist() for a in arrays]


def files(directory):
    """Returns the names of what is in a directory."""
    path = pathlib.Path(directory)
    return sorted(p.name for p in path.iterdir()) if path.exists() else []


def model(schedule=False):
    """Returns the network of `reference.py`; its rate is 0.01 at any step."""
    rate = 0.01
    if schedule:
        rate = keras.optimizers.schedules.ExponentialDecay(0.01, 100, 1.0)
    return reference.model(keras.optimizers.SGD(rate))


def seen_of(net, plots, data=DATA, callbacks=(), **fit):
    """Runs `lr_find`, and a fit after it; returns what both have left."""
    before, rate = lists(net.get_weights()), net.optimizer._learning_rate
    fit = {**FIT, **fit}
    finder = lr_find(
        net,
        *data,
        **fit | reference.RAMP,
        probe=False,
        plot_dir=plots,
        callbacks=list(callbacks),
    )
    is_back = net.optimizer._learning_rate is rate
    if not callable(rate):
        number = float(keras.ops.convert_to_numpy(rate))
        is_back = is_back and abs(number - 0.01) < 1e-8
    back = lists(net.get_weights())
    net.fit(*data, **fit)
    return {
        "losses": finder.curve.losses.tolist(),
        "before": before,
        "back": back,
        "rate_is_back": is_back,
        "after_a_fit": lists(net.get_weights()),
        "files": files(plots),
    }


# TensorFlow.


@functools.cache
def two_replicas():
    """Makes TensorFlow see two CPUs, and mirrors on them."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    return tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"])


def mirrored(directory):
    """The learning rate on every replica in every step, too."""
    strategy, rates = two_replicas(), []
    with strategy.scope():
        net = model()

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            variable = self.model.optimizer._learning_rate.value
            values = strategy.experimental_local_results(variable)
            rates.append([float(v) for v in values])

    return {**seen_of(net, directory, callbacks=[Watch()]), "rates": rates}


def mirrored_schedule(directory):
    """With a schedule, fitted before."""
    with two_replicas().scope():
        net = model(schedule=True)
    net.fit(*DATA, **FIT)
    return seen_of(net, directory)


def multi_worker(directory):
    """MultiWorkerMirroredStrategy, of one worker."""
    import tensorflow as tf

    with tf.distribute.MultiWorkerMirroredStrategy().scope():
        net = model()
    before, errors = lists(net.get_weights()), []
    finder = LRFinder(**reference.RAMP)
    for run in (
        lambda: lr_find(net, *DATA, **FIT | reference.RAMP),
        lambda: net.fit(*DATA, **FIT, callbacks=[finder]),
    ):
        try:
            run()
        except ValueError as error:
            errors.append(str(error))
    return {
        "errors": errors,
        "before": before,
        "back": lists(net.get_weights()),
    }


# JAX.


def data_parallel(directory):
    """DataParallel on two virtual CPUs."""
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    return seen_of(model(), directory)


def data_parallel_schedule(directory):
    """With a schedule, fitted before."""
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    net = model(schedule=True)
    net.fit(*DATA, **FIT)
    return seen_of(net, directory)


# Two processes, each with half of every batch.


def two_processes(directory):
    """Runs the scenario `rank_on_<backend>` twice; returns what each saw."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meeting = f"localhost:{free.getsockname()[1]}"
    name = f"rank_on_{keras.backend.backend()}"
    shared = {**os.environ, "XLA_FLAGS": "", "MEETING": meeting}
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, directory, name],
            env={**shared, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        said = [rank.communicate(timeout=100)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()  # one that waits for another that has died
    return [json.loads(text.splitlines()[-1]) for text in said]


def rank_on_jax(directory):
    """The usual test, which has an answer and probes, and then a ramp."""
    import jax

    # Before Keras makes an array.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(MEETING, 2, RANK)
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
    net = model()
    mine = [part[HALF] for part in np.split(np.arange(64), 8)]
    data = [array[np.concatenate(mine)] for array in DATA]
    before = lists(net.get_weights())
    found = lr_find(net, *data, batch_size=4, verbose=0)
    plots = os.path.join(directory, f"plots{RANK}")
    return {
        **seen_of(net, plots, data, batch_size=4),
        "before": before,
        "lr": found.suggestion.lr,
        "reason": found.suggestion.reason,
        "probes": [float(run.final_loss) for run in found.runs],
    }


def rank_on_torch(directory):
    """DistributedDataParallel in a loop of one's own, then the callback."""
    import torch

    torch.distributed.init_process_group(
        "gloo", f"tcp://{MEETING}", rank=RANK, world_size=2
    )
    net = model()
    before = lists(net.get_weights())
    parallel = torch.nn.parallel.DistributedDataParallel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    # Divergence by what one rank sees is a decision of both.
    test = RangeTest(reference.START, 30.0, 20)
    with snapshot(net):
        for x, y, _ in reference.batches(*DATA, 8):
            optimizer.param_groups[0]["lr"] = test.lr
            optimizer.zero_grad()
            found = parallel(torch.tensor(x[HALF]))
            loss = torch.mean((found - torch.tensor(y[HALF])) ** 2)
            loss.backward()
            optimizer.step()
            mean = loss.detach().clone()
            torch.distributed.all_reduce(mean)
            if not test.record(mean / 2):
                break
    plots = os.path.join(directory, f"plots{RANK}")
    finder = LRFinder(**reference.RAMP, plot_dir=plots)
    net.fit(*DATA, **FIT, epochs=3, callbacks=[finder])
    torch.distributed.destroy_process_group()
    return {
        "losses": test.curve.losses.tolist(),
        "lrs": test.curve.lrs.tolist(),
        "reason": test.curve.stop_reason.name,
        "before": before,
        "back": lists(net.get_weights()),
        "files": files(plots),
    }


if __name__ == "__main__":
    for scenario in sys.argv[2:]:
        folder = os.path.join(sys.argv[1], scenario)
        os.makedirs(folder, exist_ok=True)
        print(json.dumps(globals()[scenario](folder)), flush=True)
