"""The outcome benchmark: its loop against Keras, its figures by hand."""

import keras
import numpy as np
import pytest

jax = pytest.importorskip("jax")

from benchmarks.outcome import fit  # noqa: E402
from benchmarks.outcome import loop  # noqa: E402
from benchmarks.outcome import readings  # noqa: E402
from benchmarks.outcome import simulate  # noqa: E402
from benchmarks.outcome.optimizers import OPTIMIZERS  # noqa: E402
from benchmarks.outcome.recording import Target  # noqa: E402
from benchmarks.outcome.recording import load  # noqa: E402
from benchmarks.outcome.tasks import TASKS  # noqa: E402
from keras_lrfinder.analysis import default_rule  # noqa: E402
from keras_lrfinder.analysis import probes  # noqa: E402
from keras_lrfinder.analysis import schedule_factors  # noqa: E402
from keras_lrfinder.analysis import search  # noqa: E402

pytestmark = pytest.mark.backend("jax")
STEPS = 20


def keras_optimizer(name, lr):
    """Keras's own optimizer of that name."""
    kind, arguments = OPTIMIZERS[name].keras
    return getattr(keras.optimizers, kind)(learning_rate=lr, **arguments)


def small_model():
    """An embedding, a matrix, biases: all that Muon treats unlike."""
    return keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(6, 4),
            keras.layers.Flatten(),
            keras.layers.Dense(5, "tanh"),
            keras.layers.Dense(2),
        ]
    )


def pure_loss(params, x, y):
    """The same network and loss in plain JAX."""
    z = params["embedding"][x].reshape(len(x), -1)
    z = jax.numpy.tanh(z @ params["a_kernel"] + params["a_bias"])
    z = z @ params["b_kernel"] + params["b_bias"]
    return jax.numpy.mean((z - y) ** 2)


@pytest.mark.backend("jax")
@pytest.mark.keras("3.10")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_ends_with_the_weights_of_keras(name):
    """Twenty steps from the same weights end where Keras's own end."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 6, (STEPS, 8, 3))
    y = rng.normal(size=(STEPS, 8, 2)).astype("float32")
    model = small_model()
    names = ["embedding", "a_kernel", "a_bias", "b_kernel", "b_bias"]
    params = {
        n: jax.numpy.array(v.numpy())
        for n, v in zip(names, model.trainable_variables)
    }
    lr = 0.03
    model.compile(keras_optimizer(name, lr), "mse")
    ours = OPTIMIZERS[name]
    slots = ours.init(params)
    update = jax.jit(ours.update)
    for step in range(STEPS):
        model.train_on_batch(x[step], y[step])
        grads = jax.grad(pure_loss)(params, x[step], y[step])
        params, slots = update(params, grads, slots, step, lr)
    for n, v in zip(names, model.trainable_variables):
        expected = np.asarray(v.numpy())
        size = np.abs(expected).max()
        np.testing.assert_allclose(params[n], expected, atol=1e-4 * size)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_default_learning_rate_is_that_of_keras(name):
    """What a refusal is charged is Keras's default."""
    kind, arguments = OPTIMIZERS[name].keras
    optimizer = getattr(keras.optimizers, kind, None)
    if optimizer is None:
        pytest.skip(f"this Keras has no {kind}")
    expected = float(optimizer(**arguments).learning_rate)
    assert OPTIMIZERS[name].default == pytest.approx(expected)


def test_statistics_taken_anew_are_means_over_eight_batches():
    """Those of the inputs, for a network that first normalises them."""
    task = next(task for task in TASKS if task.name == "tabular")
    trainer = loop.Trainer(task, "sgd")
    order = loop.batches(trainer.count, trainer.batch, 8, 3)
    state = trainer.start([3], 1)[0]
    renew = loop.renewer(task.make)
    found = renew(state, trainer.data["train"], order[None])
    seen = trainer.problem.data["train"]["x"][order]
    for name, expected in (
        ("in_mean", seen.mean(1).mean(0)),
        ("in_variance", seen.var(1).mean(0)),
    ):
        np.testing.assert_allclose(
            found[name][0, 0], expected, rtol=1e-4, atol=1e-5
        )


def test_constants_are_those_that_were_fitted():
    """The package has what `benchmarks/outcome/constants.json` says."""
    fitted = fit.read()[""]
    assert fitted.factors == schedule_factors.FACTORS
    assert fitted.search == search.CONSTANTS


def test_readings_of_probes_are_those_that_were_fitted():
    """The package has what `benchmarks/outcome/probing.json` says."""
    fitted = readings.read()[""]
    assert fitted.readings == probes.READINGS
    assert fitted.raised == default_rule.RAISED
    assert fitted.rule == default_rule.DEFAULT_RULE


def test_namesakes_in_the_other_benchmark_are_left_out_too():
    """What is judged has constants that saw no family of that name."""
    both = {"tabular", "finetuning"}
    assert both <= set(readings.read())
    assert readings.left_out("tabular") == readings.read()["tabular"]
    assert readings.left_out("vision") == readings.read()["image"]
    assert readings.left_out("graph") == readings.read()[""]


def test_whole_trainings_are_read_where_they_were_recorded():
    """The package's own class, on runs that ended as the recording says."""
    cell = next(c for c in load(unseen=True) if c.name == "denoising-adam")
    target = Target("one_cycle", 500)
    made = simulate.rehearsed(cell, 0, target, 3, readings.SHIPPED)
    trained = made.probes[-3:]
    ends = simulate.ends(cell, 0, target)
    for run in trained:
        place = np.flatnonzero(np.isclose(cell.x, np.log10(run.lr)))
        assert run.held_out == ends[place]
    said = made.suggestion()
    assert (said.schedule, said.total_steps) == ("one_cycle", 500)
