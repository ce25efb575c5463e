"""Every example runs, small."""

import contextlib
import functools
import importlib.util
import io
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def load(name):
    """Imports an example as a module of its own."""
    path = EXAMPLES / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs an example, once; returns what it returned, said and wrote."""

    @functools.cache
    def example(name, *arguments):
        # Examples write where they are run: not into the checkout.
        folder, said = tmp_path_factory.mktemp(name), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(said),
        ):
            patch.chdir(folder)
            returned = load(name).main(arguments)
        return returned, said.getvalue().strip().splitlines(), folder

    return example


@pytest.fixture(scope="module")
def mnist(run, tmp_path_factory):
    """The example on MNIST, on data of the user's own."""
    path = tmp_path_factory.mktemp("data") / "mine.npz"
    with np.load(EXAMPLES / "data" / "mnist_sample.npz") as sample:
        np.savez(path, **{k: sample[k][:3200] for k in sample})
    return run("mnist", "--data", str(path), "--output", "pictures")


@pytest.mark.thorough_on("jax", "torch")
def test_mnist_finds_a_rate_that_is_not_worse(mnist):
    """One-cycle with what was found is not worse than Keras's default."""
    (found, default), _, _ = mnist
    assert found >= default


@pytest.mark.thorough_on("tensorflow")
@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_mnist_finds_one_with_other_optimizers(optimizer, run):
    """Likewise, on the data that lie beside the example."""
    arguments = ["--optimizer", optimizer, "--samples", "4000"]
    (found, default), _, _ = run("mnist", *arguments)
    assert found >= default


@pytest.mark.thorough_on("jax", "torch")
def test_mnist_writes_both_pictures(mnist):
    """Both jpgs can be opened, and the last line says where they are."""
    _, said, folder = mnist
    for name in ("loss", "smooth_loss"):
        with Image.open(folder / "pictures" / f"{name}.jpg") as picture:
            assert picture.format == "JPEG"
    assert said[-1].startswith("Done")


def test_sample_is_balanced():
    """The bundled sample has equally many images of each digit."""
    with np.load(EXAMPLES / "data" / "mnist_sample.npz") as sample:
        train = np.bincount(sample["y_train"]).tolist()
        test = np.bincount(sample["y_test"]).tolist()

    assert (train, test) == ([1000] * 10, [200] * 10)


SMALL = {
    "custom_loop": ["--samples", "2000"],
    "next_training": ["--samples", "320", "--epochs", "1"],
    "one_cycle": ["--samples", "1000", "--epochs", "1"],
    "compare_batch_sizes": ["--samples", "1000", "--sizes", "8", "32"],
    "gan": ["--samples", "6400"],
    "picture": ["--samples", "2000", "--output", "picture.png"],
    "gallery": ["--samples", "2000", "--folder", "images"],
}
MARKS = {
    "custom_loop": pytest.mark.backend("tensorflow"),
    "gan": pytest.mark.backend("tensorflow"),
    "gallery": pytest.mark.thorough_on("tensorflow", "jax"),
    "next_training": pytest.mark.thorough_on("tensorflow", "torch"),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[MARKS[name]] if name in MARKS else [])
        for name in SMALL
    ],
)
def test_script_runs_and_says_that_it_is_done(name, run):
    """The example comes to its closing line."""
    _, said, _ = run(name, *SMALL[name])
    assert said[-1].startswith("Done")


@pytest.mark.backend("tensorflow")
def test_custom_loop_is_left_as_it_was_until_it_trains(run):
    """It answers by probes, and the training after it begins from scratch."""
    suggestion, said, _ = run("custom_loop", *SMALL["custom_loop"])
    probes = [line for line in said if line.startswith("60 steps at ")]
    began = re.search(r"fell from ([\d.]+)", "\n".join(said))
    assert suggestion.lr > 0
    assert len(probes) == 3
    assert float(began[1]) > 2.0  # -log(1 / 10) = 2.3


@pytest.mark.backend("tensorflow")
def test_gan_leaves_the_generator_alone(run):
    """Sweeping one optimizer does not move the other's learning rate."""
    _, said, _ = run("gan", *SMALL["gan"])
    assert any("The generator still has 0.0002" in line for line in said)


def test_compare_batch_sizes_draws_every_curve(run):
    """Each batch size has a learning rate, and the picture is there."""
    name = "compare_batch_sizes"
    found, _, folder = run(name, *SMALL[name])
    assert [suggestion.lr is not None for suggestion in found] == [True, True]
    with Image.open(folder / "batch_sizes.png") as picture:
        assert picture.width == 1200


@pytest.mark.thorough_on("tensorflow", "jax")
def test_notebook_runs(tmp_path, backend, monkeypatch):
    """Every cell of the notebook runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    pytest.importorskip("nbclient")
    notebook = load("run_notebook").main(["--output", "executed.ipynb"])

    counts = [c.execution_count for c in notebook.cells if "outputs" in c]
    assert counts == list(range(1, len(counts) + 1))


def test_notebook_is_committed_with_its_outputs():
    """A reader on a code host sees results, a picture, and no warnings."""
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    outputs = [o for c in notebook.cells for o in c.get("outputs", [])]

    assert any("image/png" in o.get("data", {}) for o in outputs)
    assert all(o.get("name") != "stderr" for o in outputs)
    assert all(
        c.execution_count for c in notebook.cells if c.cell_type == "code"
    )


def test_every_script_is_tested():
    """No example is left out of this file."""
    assert set(SCRIPTS) == {"mnist", "run_notebook", *SMALL}
