"""Every example runs, small."""

import importlib.util
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


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs an example; returns what it returned, said and wrote."""

    def example(name, *arguments):
        # Examples write where they are run: not into the checkout.
        monkeypatch.chdir(tmp_path)
        returned = load(name).main(arguments)
        return returned, capsys.readouterr().out.strip(), tmp_path

    return example


@pytest.mark.thorough_on("jax", "torch")
def test_mnist_finds_a_rate_that_is_not_worse(run, tmp_path):
    """Than Keras's default, on data of the user's own; both pictures open."""
    path = tmp_path / "mine.npz"
    with np.load(EXAMPLES / "data" / "mnist_sample.npz") as sample:
        np.savez(path, **{k: sample[k][:1600] for k in sample})
    short = ["--batch-size", "32", "--epochs", "2"]
    (found, default), said, folder = run(
        "mnist", "--data", str(path), "--output", "pictures", *short
    )
    assert found >= default
    for name in ("loss", "smooth_loss"):
        with Image.open(folder / "pictures" / f"{name}.jpg") as picture:
            assert picture.format == "JPEG"
    assert said.splitlines()[-1].startswith("Done")


@pytest.mark.thorough_on("tensorflow", "jax")
@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_mnist_finds_one_with_other_optimizers(optimizer, run):
    """Likewise, on the data that lie beside the example."""
    arguments = ["--optimizer", optimizer, "--samples", "4000"]
    (found, default), _, _ = run("mnist", *arguments)
    assert found >= default


def test_sample_is_balanced():
    """The bundled sample has equally many images of each digit."""
    with np.load(EXAMPLES / "data" / "mnist_sample.npz") as sample:
        train, test = (np.bincount(sample[k]) for k in ("y_train", "y_test"))
    assert (train.tolist(), test.tolist()) == ([1000] * 10, [200] * 10)


TENSORFLOW = pytest.mark.backend("tensorflow")
# How each is run here, and where.
SMALL = {
    "custom_loop": (["--samples", "2000"], TENSORFLOW),
    "next_training": (
        ["--samples", "320", "--epochs", "1"],
        pytest.mark.thorough_on("tensorflow", "jax"),
    ),
    "one_cycle": (["--samples", "1000", "--epochs", "1"], ()),
    "compare_batch_sizes": (["--samples", "1000", "--sizes", "8", "32"], ()),
    "gan": (["--samples", "6400"], TENSORFLOW),
    "picture": (["--samples", "2000", "--output", "picture.png"], ()),
    "gallery": (
        ["--samples", "1300", "--folder", "images"],
        pytest.mark.thorough_on("tensorflow", "jax"),
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=marks) for n, (_, marks) in SMALL.items()]
)
def test_script_runs_and_says_that_it_is_done(name, run):
    """The example comes to its closing line."""
    returned, said, folder = run(name, *SMALL[name][0])
    assert said.splitlines()[-1].startswith("Done")
    if name in SEEN:
        SEEN[name](returned, said, folder)


def custom_loop(suggestion, said, _):
    """It answers by probes, and the training after it begins from scratch."""
    assert suggestion.lr > 0
    assert len(re.findall(r"^60 steps at ", said, re.M)) == 3
    # -log(1 / 10) = 2.3
    assert float(re.search(r"fell from ([\d.]+)", said)[1]) > 2.0


def gan(_, said, __):
    """Sweeping one optimizer does not move the other's learning rate."""
    assert "The generator still has 0.0002" in said


def compare_batch_sizes(found, _, folder):
    """Each batch size has a learning rate, and the picture is there."""
    assert [suggestion.lr is not None for suggestion in found] == [True, True]
    with Image.open(folder / "batch_sizes.png") as picture:
        assert picture.width == 1200


SEEN = {f.__name__: f for f in (custom_loop, gan, compare_batch_sizes)}


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
