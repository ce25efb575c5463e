"""Tasks made ready to be trained; `tasks.py` has their names."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.quality import data as sources
from benchmarks.quality import nets
from benchmarks.quality.optimizers import OPTIMIZERS


@dataclass(frozen=True)
class Problem:
    """A task made ready.

    Attributes:
        data: `train`, `reserved` and `test`, each arrays by name.
        init: From a seed to parameters and statistics.
        loss: From parameters, statistics, a batch, a key and `train` to the
            mean loss and new statistics.
    """

    data: dict[str, dict[str, np.ndarray]]
    init: Callable
    loss: Callable


def classifier(x, y, train, sizes, forward, norms=None, layer_norms=None):
    """Labels from logits: `forward(params, stats, x, key, train, new)`."""
    norms = norms or {}

    def init(seed):
        rng = np.random.default_rng(seed)
        params = nets.dense_params(rng, sizes)
        params |= nets.norm_params({**norms, **(layer_norms or {})})
        return params, nets.norm_stats(norms)

    def loss(p, stats, batch, key, train):
        new = dict(stats)
        logits = forward(p, stats, batch["x"], key, train, new)
        return nets.cross_entropy(logits, batch["y"]), new

    return Problem(sources.split({"x": x, "y": y}, train), init, loss)


def plain(sizes: dict[str, tuple[int, int]], activation=jax.nn.relu):
    """Dense layers one after the other."""

    def forward(p, stats, x, key, train, new):
        names = list(sizes)
        for name in names[:-1]:
            x = activation(nets.dense(p, name, x))
        return nets.dense(p, names[-1], x)

    return forward


def softmax_digits() -> Problem:
    """Softmax regression."""
    sizes = {"out": (64, 10)}
    return classifier(*sources.digits(), 1_024, sizes, plain(sizes))


def mlp_digits() -> Problem:
    """One hidden layer."""
    sizes = {"a": (64, 32), "out": (32, 10)}
    return classifier(*sources.digits(), 1_024, sizes, plain(sizes))


def noisy_digits() -> Problem:
    """A fifth of the labels are wrong, in every part of the data."""
    x, y = sources.digits()
    rng = np.random.default_rng(3)
    y = np.where(rng.random(len(y)) < 0.2, rng.integers(0, 10, len(y)), y)
    sizes = {"a": (64, 32), "b": (32, 32), "out": (32, 10)}
    made = plain(sizes, jnp.tanh)
    return classifier(x, y.astype("int32"), 1_024, sizes, made)


def cnn_norm() -> Problem:
    """Convolutions, batch normalisation, and shifted pictures."""
    x, y = sources.small_mnist()
    sizes = {"a": (9, 8), "b": (32, 12), "out": (48, 10)}

    def forward(p, stats, x, key, train, new):
        x = x[..., None]
        if train:
            by = jax.random.randint(key, (2,), -1, 2)
            x = jnp.roll(x, by, (1, 2))
        x = nets.dense(p, "a", nets.patches(x))
        x = jax.nn.relu(nets.batch_norm(p, stats, "a", x, train, new))
        # The second kernel has the size of its stride: nothing overlaps.
        x = x.reshape(-1, 2, 2, 2, 2, 8).transpose(0, 1, 3, 2, 4, 5)
        x = nets.dense(p, "b", x.reshape(-1, 4, 32))
        x = jax.nn.relu(nets.batch_norm(p, stats, "b", x, train, new))
        return nets.dense(p, "out", x.reshape(-1, 48))

    return classifier(x, y, 4_096, sizes, forward, norms={"a": 8, "b": 12})


def residual() -> Problem:
    """Four residual blocks with batch normalisation."""
    x, y = sources.small_mnist()
    norms = dict.fromkeys("abcd", 20)
    sizes = {"in": (49, 20), **dict.fromkeys(norms, (20, 20)), "out": (20, 10)}

    def forward(p, stats, x, key, train, new):
        x = nets.dense(p, "in", x.reshape(-1, 49))
        for name in norms:
            y = nets.batch_norm(p, stats, name, x, train, new)
            x = x + nets.dense(p, name, jax.nn.relu(y))
        return nets.dense(p, "out", x)

    return classifier(x, y, 4_096, sizes, forward, norms=norms)


def transformer() -> Problem:
    """Sequences of symbols, one block with layer normalisation."""
    x, y = sources.weighted_majority()
    sizes = {"embedding": (12, 12), "place": (6, 12)}
    sizes |= {**nets.block_sizes("block", 12, 24), "out": (12, 4)}
    layer_norms = {"block_before": 12, "block_after": 12, "last": 12}

    def forward(p, stats, x, key, train, new):
        x = nets.embed(p, x, 12) + p["place_kernel"]
        x = nets.layer_norm(p, "last", nets.block(p, "block", x))
        return nets.dense(p, "out", x.mean(1))

    return classifier(x, y, 5_000, sizes, forward, layer_norms=layer_norms)


def vision() -> Problem:
    """A vision transformer: four pieces of a digit, one block."""
    x, y = sources.digits()
    x = x.reshape(-1, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(-1, 4, 16)
    sizes = {"piece": (16, 12), "place": (4, 12)}
    sizes |= {**nets.block_sizes("block", 12, 24), "out": (12, 10)}
    layer_norms = {"block_before": 12, "block_after": 12, "last": 12}

    def forward(p, stats, x, key, train, new):
        x = nets.dense(p, "piece", x) + p["place_kernel"]
        x = nets.layer_norm(p, "last", nets.block(p, "block", x))
        return nets.dense(p, "out", x.mean(1))

    return classifier(x, y, 1_024, sizes, forward, layer_norms=layer_norms)


def tabular() -> Problem:
    """Batch normalisation and dropout on columns."""
    sizes = {"a": (20, 32), "b": (32, 16), "out": (16, 2)}
    norms = {"in": 20, "a": 32}

    def forward(p, stats, x, key, train, new):
        x = nets.batch_norm(p, stats, "in", x, train, new)
        x = nets.dense(p, "a", x)
        x = jax.nn.relu(nets.batch_norm(p, stats, "a", x, train, new))
        x = nets.dropout(key, x, 0.3, train)
        x = jax.nn.relu(nets.dense(p, "b", x))
        return nets.dense(p, "out", x)

    return classifier(*sources.tabular(), 4_096, sizes, forward, norms)


def language() -> Problem:
    """The next character of text too long to memorise."""
    x, y = sources.windows()
    letters = sources.LETTERS
    sizes = {"embedding": (letters, 8), "a": (64, 48), "out": (48, letters)}

    def forward(p, stats, x, key, train, new):
        x = nets.embed(p, x, letters)
        x = jnp.tanh(nets.dense(p, "a", x.reshape(len(x), -1)))
        return nets.dense(p, "out", x)

    return classifier(x, y, 38_000, sizes, forward)


def regression(arrays, train, sizes, loss, layer_norms=None) -> Problem:
    """A loss without statistics."""

    def init(seed):
        rng = np.random.default_rng(seed)
        params = nets.dense_params(rng, sizes)
        return params | nets.norm_params(layer_norms or {}), {}

    def kept(p, stats, batch, key, train):
        return loss(p, batch, key, train), stats

    return Problem(sources.split(arrays, train), init, kept)


def plain_regression(x, y, train, sizes, error, activation=jax.nn.relu):
    """Dense layers, and the mean `error` of what they are off by."""
    forward = plain(sizes, activation)

    def loss(p, batch, key, train):
        said = forward(p, {}, batch["x"], key, train, {})
        return jnp.mean(error(said - batch["y"]))

    return regression({"x": x, "y": y}, train, sizes, loss)


def fourier() -> Problem:
    """Fixed random frequencies, one hidden layer."""
    x, y = sources.waves()
    turn = np.random.default_rng(4).normal(size=(2, 24)).astype("float32") * 4
    sizes = {"a": (48, 24), "out": (24, 1)}

    def loss(p, batch, key, train):
        z = batch["x"] @ turn
        z = jnp.concatenate([jnp.sin(z), jnp.cos(z)], -1)
        z = jax.nn.relu(nets.dense(p, "a", z))
        return jnp.mean((nets.dense(p, "out", z) - batch["y"]) ** 2)

    return regression({"x": x, "y": y}, 5_000, sizes, loss)


def density() -> Problem:
    """Mean and deviation by likelihood: a loss that becomes negative."""
    x, y = sources.uneven()
    sizes = {"a": (5, 24), "b": (24, 24), "out": (24, 2)}
    forward = plain(sizes, jnp.tanh)

    def loss(p, batch, key, train):
        z = forward(p, {}, batch["x"], key, train, {})
        deviation = jnp.clip(z[:, 1:], -6, 6)
        error = (batch["y"] - z[:, :1]) * jnp.exp(-deviation)
        return jnp.mean(deviation + 0.5 * jnp.clip(error**2, 0, 1e6))

    return regression({"x": x, "y": y}, 4_096, sizes, loss)


def contrastive() -> Problem:
    """Two damaged views of a picture find each other in their batch."""
    x, _ = sources.small_mnist()
    sizes = {"a": (49, 32), "out": (32, 12)}

    def loss(p, batch, key, train):
        x = batch["x"].reshape(len(batch["x"]), -1)
        views = []
        for k in jax.random.split(key):
            hide, noise = jax.random.split(k)
            z = x * jax.random.bernoulli(hide, 0.7, x.shape)
            z = z + 0.1 * jax.random.normal(noise, x.shape)
            z = nets.dense(p, "out", jax.nn.relu(nets.dense(p, "a", z)))
            size = jnp.sqrt(jnp.sum(z * z, -1, keepdims=True) + 1e-6)
            views.append(z / size)
        return nets.cross_entropy(
            views[0] @ views[1].T / 0.2, jnp.arange(len(x))
        )

    return regression({"x": x}, 5_000, sizes, loss)


def denoising() -> Problem:
    """A picture from its noisy half."""
    x, _ = sources.digits()
    sizes = {"a": (64, 32), "b": (32, 12), "c": (12, 32), "out": (32, 64)}

    def loss(p, batch, key, train):
        x = batch["x"]
        hide, noise = jax.random.split(key)
        z = x * jax.random.bernoulli(hide, 0.7, x.shape)
        z = z + 0.2 * jax.random.normal(noise, x.shape)
        for name in "abc":
            z = jax.nn.relu(nets.dense(p, name, z))
        return jnp.mean((jax.nn.sigmoid(nets.dense(p, "out", z)) - x) ** 2)

    return regression({"x": x}, 1_024, sizes, loss)


def taught() -> Problem:
    """A network that learns another one's answers: a loss without a floor."""
    sizes = {"a": (6, 32), "b": (32, 32), "out": (32, 2)}
    return plain_regression(
        *sources.taught(), 4_096, sizes, jnp.square, jnp.tanh
    )


def forecast() -> Problem:
    """The next value of a series, by a gated recurrent unit."""
    x, y = sources.series()
    sizes = {**nets.recurrent_sizes("unit", 1, 12), "out": (12, 1)}

    def loss(p, batch, key, train):
        z = nets.recurrent(p, "unit", batch["x"])
        return jnp.mean((nets.dense(p, "out", z) - batch["y"]) ** 2)

    return regression({"x": x, "y": y}, 5_000, sizes, loss)


def ratings() -> Problem:
    """Embeddings of users and items, their product and their biases."""
    user, item, y = sources.ratings()

    def init(seed):
        rng = np.random.default_rng(seed)
        shapes = {"user": 200, "item": 150}
        return {
            # The last column is a bias; Keras's embeddings begin like this.
            f"{name}_embedding": rng.uniform(-0.05, 0.05, (n, 9)).astype("f4")
            for name, n in shapes.items()
        }, {}

    def loss(p, stats, batch, key, train):
        def row(name, count):
            hot = jax.nn.one_hot(batch[name], count)
            return hot @ p[f"{name}_embedding"]

        a, b = row("user", 200), row("item", 150)
        said = jnp.sum(a[:, :-1] * b[:, :-1], -1) + a[:, -1] + b[:, -1]
        return jnp.mean((said - batch["y"]) ** 2), stats

    arrays = {"user": user, "item": item, "y": y}
    return Problem(sources.split(arrays, 20_000), init, loss)


def friedman() -> Problem:
    """Little and noisy data: what is learnt well is soon memorised."""
    sizes = {"a": (10, 32), "b": (32, 32), "out": (32, 1)}
    return plain_regression(*sources.friedman(), 512, sizes, jnp.square)


def reviews() -> Problem:
    """The mean of word vectors; so few texts that they are memorised."""
    x, y = sources.reviews()
    sizes = {"embedding": (200, 12), "a": (12, 16), "out": (16, 2)}

    def forward(p, stats, x, key, train, new):
        x = nets.embed(p, x, 200).mean(1)
        return nets.dense(p, "out", jax.nn.relu(nets.dense(p, "a", x)))

    return classifier(x, y, 1_024, sizes, forward)


def deep() -> Problem:
    """Eight layers without normalisation."""
    sizes = {"in": (64, 24), **dict.fromkeys("abcdef", (24, 24))}
    sizes["out"] = (24, 10)
    return classifier(*sources.digits(), 1_024, sizes, plain(sizes))


def rare() -> Problem:
    """One in twenty samples is of the class that is sought; dropout."""
    sizes = {"a": (15, 32), "b": (32, 16), "out": (16, 2)}

    def forward(p, stats, x, key, train, new):
        x = nets.dropout(key, jax.nn.relu(nets.dense(p, "a", x)), 0.2, train)
        return nets.dense(p, "out", jax.nn.relu(nets.dense(p, "b", x)))

    return classifier(*sources.rare(), 8_000, sizes, forward)


def robust() -> Problem:
    """The mean absolute error, where some targets are far off."""
    sizes = {"a": (5, 32), "b": (32, 32), "out": (32, 1)}
    return plain_regression(*sources.outliers(), 4_096, sizes, jnp.abs)


def variational() -> Problem:
    """A variational autoencoder: summed pixels and the divergence."""
    x, _ = sources.small_mnist()
    sizes = {"a": (49, 32), "code": (32, 8), "b": (4, 32), "out": (32, 49)}

    def loss(p, batch, key, train):
        x = batch["x"].reshape(len(batch["x"]), -1)
        code = nets.dense(p, "code", jax.nn.relu(nets.dense(p, "a", x)))
        mean, log = code[:, :4], jnp.clip(code[:, 4:], -20, 20)
        z = mean + jnp.exp(log / 2) * jax.random.normal(key, mean.shape)
        z = nets.dense(p, "out", jax.nn.relu(nets.dense(p, "b", z)))
        pixels = jnp.sum(jax.nn.softplus(z) - x * z, -1)
        far = jnp.sum(jnp.exp(log) + mean**2 - 1 - log, -1) / 2
        return jnp.mean(pixels + far)

    return regression({"x": x}, 5_000, sizes, loss)


def physics() -> Problem:
    """A damped swing: the equation's residual and the start."""
    t = np.random.default_rng(5).uniform(0, 4, (5_000, 1)).astype("float32")
    sizes = {"a": (1, 24), "b": (24, 24), "out": (24, 1)}

    def loss(p, batch, key, train):
        def u(t):
            z = jnp.tanh(nets.dense(p, "a", t))
            return nets.dense(p, "out", jnp.tanh(nets.dense(p, "b", z)))

        def du(t):
            return jax.jvp(u, (t,), (jnp.ones_like(t),))

        (value, slope), (_, bend) = jax.jvp(
            du, (batch["t"],), (jnp.ones_like(batch["t"]),)
        )
        rest = jnp.mean((bend + 0.4 * slope + 4 * value) ** 2)
        at, going = du(jnp.zeros((1, 1)))
        return rest + 10 * jnp.sum((at - 1) ** 2 + going**2)

    return regression({"t": t}, 4_096, sizes, loss)


def graph() -> Problem:
    """Two rounds of messages between nodes, then their sum."""
    x, mean, y = sources.graphs()
    sizes = {"a": (8, 12), "b": (24, 12), "c": (12, 12), "out": (12, 1)}

    def loss(p, batch, key, train):
        z = batch["x"]
        for name in "ab":
            near = jnp.sum(batch["mean"][..., None] * z[:, None], 2)
            z = jnp.concatenate([z, near], -1)
            z = jax.nn.relu(nets.dense(p, name, z))
        z = jax.nn.relu(nets.dense(p, "c", z)).sum(1)
        return jnp.mean((nets.dense(p, "out", z) - batch["y"]) ** 2)

    return regression({"x": x, "mean": mean, "y": y}, 3_200, sizes, loss)


@functools.cache
def _pretrained(seed: int, steps: int = 600):
    """A network that tells digits apart, trained by plain Adam."""
    problem, adam = mlp_digits(), OPTIMIZERS["adam"]
    params, stats = problem.init(seed + 1_000)
    order = np.random.default_rng(seed).integers(0, 1_024, (steps, 32))
    data = problem.data["train"]

    def step(carry, inputs):
        params, slots = carry
        number, which = inputs
        batch = {k: jnp.asarray(v)[which] for k, v in data.items()}
        grads = jax.grad(lambda p: problem.loss(p, stats, batch, None, True)[0])
        return adam.update(params, grads(params), slots, number, 3e-3), None

    start = params, adam.init(params)
    (params, _), _ = jax.jit(
        lambda s: jax.lax.scan(step, s, (np.arange(steps), order))
    )(start)
    return jax.device_get(params)


def finetuning() -> Problem:
    """A trained network, digits that lie on their side, little data."""
    x, y = sources.digits()
    x = x.reshape(-1, 8, 8).transpose(0, 2, 1).reshape(-1, 64)
    sizes = {"a": (64, 32), "out": (32, 10)}
    problem = classifier(x, y, 640, sizes, plain(sizes))

    def init(seed):
        # Four networks: which one depends on the seed.
        return _pretrained(seed % 4), {}

    return Problem(problem.data, init, problem.loss)


def poisson() -> Problem:
    """Counts: the likelihood of an exponential rate."""
    x, y = sources.counts()
    sizes = {"a": (8, 32), "b": (32, 16), "out": (16, 1)}
    forward = plain(sizes)

    def loss(p, batch, key, train):
        rate = jnp.clip(forward(p, {}, batch["x"], key, train, {}), -20, 10)
        # With the part that depends on the targets alone: never negative.
        y = batch["y"]
        least = y - y * jnp.log(jnp.maximum(y, 1.0))
        return jnp.mean(jnp.exp(rate) - y * rate - least)

    return regression({"x": x, "y": y}, 4_096, sizes, loss)


def multilabel() -> Problem:
    """Eight answers of yes or no at once."""
    x, y = sources.signs()
    sizes = {"a": (12, 48), "out": (48, 8)}
    forward = plain(sizes, jax.nn.gelu)

    def loss(p, batch, key, train):
        z = forward(p, {}, batch["x"], key, train, {})
        return jnp.mean(jax.nn.softplus(z) - batch["y"] * z)

    return regression({"x": x, "y": y}, 4_096, sizes, loss)


def ranking() -> Problem:
    """Which of two is preferred: the logistic loss of their difference."""
    x = sources.preferred()
    sizes = {"a": (7, 24), "b": (24, 24), "out": (24, 1)}
    forward = plain(sizes, jnp.tanh)

    def loss(p, batch, key, train):
        z = forward(p, {}, batch["x"], key, train, {})[..., 0]
        return jnp.mean(jax.nn.softplus(z[:, 1] - z[:, 0]))

    return regression({"x": x}, 5_000, sizes, loss)


def sines() -> Problem:
    """A sine without noise: a loss that falls and falls."""
    sizes = {"a": (8, 64), "b": (64, 64), "out": (64, 1)}
    return plain_regression(*sources.sines(), 5_000, sizes, jnp.square)


def scales() -> Problem:
    """Targets of sizes 1, 100 and 10,000, none of them scaled."""
    sizes = {"a": (10, 32), "b": (32, 32), "out": (32, 3)}
    return plain_regression(*sources.scales(), 4_096, sizes, jnp.square)


def weighted() -> Problem:
    """One in a hundred is sought, and weighs a hundred times as much."""
    x, y = sources.hundredth()
    sizes = {"a": (12, 32), "b": (32, 16), "out": (16, 1)}
    forward = plain(sizes)

    def loss(p, batch, key, train):
        z, y = forward(p, {}, batch["x"], key, train, {})[:, 0], batch["y"]
        return jnp.mean((1 + 99 * y) * (jax.nn.softplus(z) - y * z))

    return regression({"x": x, "y": y}, 11_000, sizes, loss)
