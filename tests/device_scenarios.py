"""Fits on several devices, in processes of their own.

The devices of a process cannot be changed once it has used them. So
`python device_scenarios.py <directory> <name> ...` runs some of these, each
in a folder of its own, and prints what each saw as a line of JSON;
`test_devices.py` starts them and judges.
"""

import functools
import json
import os
import sys

STEPS = 20


def report(**seen):
    """Prints what a test is to judge, as one line."""
    print(json.dumps(seen))


def lists(arrays):
    """Returns arrays as nested lists."""
    return [a.tolist() for a in arrays]


def find(net, directory, rate=None, **kwargs):
    """Runs `lr_find` on the problem of `reference.py`, reports it all."""
    import keras
    import reference

    from keras_lrfinder import lr_find

    x, y = reference.data(rows=64)
    before = lists(net.get_weights())
    finder = lr_find(
        net,
        x,
        y,
        batch_size=8,
        shuffle=False,
        probe=False,
        plot_dir=directory,
        **reference.RAMP,
        **kwargs,
    )
    back = lists(net.get_weights())
    used = net.optimizer._learning_rate
    if rate is None:
        restored = abs(float(keras.ops.convert_to_numpy(used)) - 0.01) < 1e-8
    else:
        restored = used is rate
    net.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    report(
        losses=finder.curve.losses.tolist(),
        before=before,
        back=back,
        rate_is_back=restored,
        after_a_fit=lists(net.get_weights()),
        files=sorted(os.listdir(directory)),
    )


@functools.cache
def two_cpus():
    """Makes TensorFlow see two CPUs, and returns them."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    return ["cpu:0", "cpu:1"]


def mirrored(directory):
    """MirroredStrategy on two logical CPUs."""
    import keras
    import reference
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(two_cpus())
    with strategy.scope():
        net = reference.model(keras.optimizers.SGD(0.01))
    find(net, directory)


def mirrored_schedule(directory):
    """The same with a schedule, of constant value, fitted before."""
    import keras
    import reference
    import tensorflow as tf

    rate = keras.optimizers.schedules.ExponentialDecay(0.01, 100, 1.0)
    strategy = tf.distribute.MirroredStrategy(two_cpus())
    with strategy.scope():
        net = reference.model(keras.optimizers.SGD(rate))
    x, y = reference.data(rows=64)
    net.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    find(net, directory, rate)


def mirrored_replicas(directory):
    """Reports the learning rate on every replica in every step."""
    import keras
    import reference
    import tensorflow as tf

    from keras_lrfinder import LRFinder

    strategy = tf.distribute.MirroredStrategy(two_cpus())
    with strategy.scope():
        net = reference.model(keras.optimizers.SGD(0.01))
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            variable = self.model.optimizer._learning_rate.value
            values = strategy.experimental_local_results(variable)
            seen.append([float(v) for v in values])

    x, y = reference.data(rows=64)
    finder = LRFinder(**reference.RAMP)
    net.fit(
        x,
        y,
        batch_size=8,
        epochs=3,
        verbose=0,
        callbacks=[finder, Watch()],
    )
    report(rates=seen)


def multi_worker(directory):
    """MultiWorkerMirroredStrategy, of one worker."""
    import keras
    import reference
    import tensorflow as tf

    from keras_lrfinder import LRFinder
    from keras_lrfinder import lr_find

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        net = reference.model(keras.optimizers.SGD(0.01))
    x, y = reference.data(rows=64)
    before = lists(net.get_weights())
    errors = []
    finder = LRFinder(**reference.RAMP)
    for run in (
        lambda: lr_find(net, x, y, batch_size=8, **reference.RAMP),
        lambda: net.fit(x, y, batch_size=8, callbacks=[finder], verbose=0),
    ):
        try:
            run()
        except ValueError as error:
            errors.append(str(error))
    report(errors=errors, before=before, back=lists(net.get_weights()))


def data_parallel(directory):
    """DataParallel on two virtual CPUs of JAX."""
    import keras
    import reference

    keras.distribution.set_distribution(keras.distribution.DataParallel())
    net = reference.model(keras.optimizers.SGD(0.01))
    find(net, directory)


def data_parallel_schedule(directory):
    """The same with a schedule, of constant value, fitted before."""
    import keras
    import reference

    keras.distribution.set_distribution(keras.distribution.DataParallel())
    rate = keras.optimizers.schedules.ExponentialDecay(0.01, 100, 1.0)
    net = reference.model(keras.optimizers.SGD(rate))
    x, y = reference.data(rows=64)
    net.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    find(net, directory, rate)


def two_processes(directory):
    """JAX over two processes: the same script in each, half of each batch."""
    import socket
    import subprocess

    with socket.socket() as free:
        free.bind(("localhost", 0))
        meeting = f"localhost:{free.getsockname()[1]}"
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, directory, "jax_rank"],
            env={
                **os.environ,
                "XLA_FLAGS": "",
                "MEETING": meeting,
                "RANK": str(rank),
            },
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
    report(
        ranks=[json.loads(text.splitlines()[-1]) for text in said],
        files=[
            sorted(os.listdir(path)) if os.path.exists(path) else []
            for path in (
                os.path.join(directory, "jax_rank", f"plots{r}") for r in (0, 1)
            )
        ],
    )


def jax_rank(directory):
    """One of the two processes."""
    import jax

    rank = int(os.environ["RANK"])
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(os.environ["MEETING"], 2, rank)
    import keras
    import numpy as np
    import reference

    from keras_lrfinder import lr_find

    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
    net = reference.model(keras.optimizers.SGD(0.01))
    x, y = reference.data(rows=64)
    mine = [
        part[4 * rank : 4 * rank + 4] for part in np.split(np.arange(64), 8)
    ]
    x, y = x[np.concatenate(mine)], y[np.concatenate(mine)]
    before = lists(net.get_weights())
    finder = lr_find(
        net,
        x,
        y,
        batch_size=4,
        shuffle=False,
        plot_dir=os.path.join(directory, f"plots{rank}"),
        **reference.RAMP,
    )
    # The usual test as well, which has an answer and probes.
    found = lr_find(net, x, y, batch_size=4, verbose=0)
    back = lists(net.get_weights())
    net.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    report(
        losses=finder.curve.losses.tolist(),
        lr=found.suggestion.lr,
        reason=found.suggestion.reason,
        probes=[float(run.final_loss) for run in found.runs],
        before=before,
        back=back,
        after_a_fit=lists(net.get_weights()),
    )


def ddp(directory):
    """DistributedDataParallel: two processes, a loop of one's own."""
    import torch

    context = torch.multiprocessing.get_context("spawn")
    ranks = [
        context.Process(target=ddp_rank, args=(rank, directory))
        for rank in (0, 1)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(timeout=90)
        rank.kill()  # one that waits for another that has died
    seen, files = [], []
    for rank in (0, 1):
        with open(os.path.join(directory, f"rank{rank}.json")) as file:
            seen.append(json.load(file))
        with open(os.path.join(directory, f"files{rank}.json")) as file:
            files.append(json.load(file))
    exits = [rank.exitcode for rank in ranks]
    report(ranks=seen, files=files, exits=exits)


def ddp_rank(rank, directory):
    """One of the two processes: half of each batch, gradients averaged."""
    import keras
    import reference
    import torch

    from keras_lrfinder import LRFinder
    from keras_lrfinder import RangeTest
    from keras_lrfinder import snapshot

    meeting = f"file://{directory}/meeting"
    torch.distributed.init_process_group(
        "gloo", meeting, rank=rank, world_size=2
    )
    net = reference.model()
    before = lists(net.get_weights())
    parallel = torch.nn.parallel.DistributedDataParallel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    x, y = reference.data(rows=64)
    # Divergence by what one rank sees is a decision of both.
    test = RangeTest(reference.START, 30.0, STEPS)
    with snapshot(net):
        for part_x, part_y, _ in reference.batches(x, y, 8):
            mine = slice(4 * rank, 4 * rank + 4)
            optimizer.param_groups[0]["lr"] = test.lr
            optimizer.zero_grad()
            found = parallel(torch.tensor(part_x[mine]))
            wanted = torch.tensor(part_y[mine])
            loss = torch.mean((found - wanted) ** 2)
            loss.backward()
            optimizer.step()
            mean = loss.detach().clone()
            torch.distributed.all_reduce(mean)
            if not test.record(mean / 2):
                break
    plots = os.path.join(directory, f"plots{rank}")
    finder = LRFinder(**reference.RAMP, plot_dir=plots)
    net.fit(x, y, batch_size=8, epochs=3, callbacks=[finder], verbose=0)
    with open(os.path.join(directory, f"files{rank}.json"), "w") as file:
        json.dump(os.listdir(plots), file)
    seen = {
        "losses": test.curve.losses.tolist(),
        "lrs": test.curve.lrs.tolist(),
        "reason": test.curve.stop_reason.name,
        "before": before,
        "back": lists(net.get_weights()),
        "backend": keras.backend.backend(),
    }
    with open(os.path.join(directory, f"rank{rank}.json"), "w") as file:
        json.dump(seen, file)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    for name in sys.argv[2:]:
        folder = os.path.join(sys.argv[1], name)
        os.makedirs(folder, exist_ok=True)
        globals()[name](folder)
