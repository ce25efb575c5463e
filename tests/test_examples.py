"""Every example runs, small."""

import importlib.util
import pathlib

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


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Examples write where they are run: not into the checkout."""
    monkeypatch.chdir(tmp_path)


def last_line(capsys):
    return capsys.readouterr().out.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param("sgd", marks=pytest.mark.thorough_on("tensorflow")),
        pytest.param("momentum", marks=pytest.mark.thorough_on("tensorflow")),
        "adam",
    ],
)
def test_mnist_finds_a_rate_that_is_not_worse(optimizer, tmp_path):
    """With each optimizer the LR found is not worse than Keras's default."""
    found, default = load("mnist").main(
        ["--optimizer", optimizer, "--samples", "4000"]
    )

    assert found >= default


def test_mnist_writes_both_pictures(tmp_path, capsys):
    """Both jpgs can be opened, and the last line says where they are."""
    load("mnist").main(["--samples", "1600", "--output", "pictures"])

    for name in ("loss", "smooth_loss"):
        with Image.open(tmp_path / "pictures" / f"{name}.jpg") as picture:
            assert picture.format == "JPEG"
    assert last_line(capsys).startswith("Done")


def test_mnist_takes_a_file_in_the_layout_of_keras(tmp_path):
    """`--data` reads another npz."""
    with np.load(EXAMPLES / "data" / "mnist_sample.npz") as sample:
        np.savez(tmp_path / "mine.npz", **{k: sample[k][:1600] for k in sample})

    load("mnist").main(["--data", "mine.npz"])


def test_sample_is_balanced():
    """The bundled sample has equally many images of each digit."""
    with np.load(EXAMPLES / "data" / "mnist_sample.npz") as sample:
        train = np.bincount(sample["y_train"]).tolist()
        test = np.bincount(sample["y_test"]).tolist()

    assert (train, test) == ([1000] * 10, [200] * 10)


SMALL = {
    "custom_loop": ["--samples", "2000"],
    "one_cycle": ["--samples", "1000", "--epochs", "1"],
    "compare_batch_sizes": ["--samples", "1000", "--batch-sizes", "8", "32"],
    "gan": ["--samples", "6400"],
    "picture": ["--samples", "2000", "--output", "picture.png"],
    "gallery": ["--samples", "2000", "--folder", "images"],
}
MARKS = {
    "custom_loop": pytest.mark.backend("tensorflow"),
    "gan": pytest.mark.backend("tensorflow"),
    "gallery": pytest.mark.thorough_on("tensorflow"),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[MARKS[name]] if name in MARKS else [])
        for name in SMALL
    ],
)
def test_script_runs_and_says_that_it_is_done(name, capsys):
    """The example comes to its closing line."""
    load(name).main(SMALL[name])

    assert last_line(capsys).startswith("Done")


@pytest.mark.backend("tensorflow")
def test_gan_leaves_the_generator_alone(capsys):
    """Sweeping one optimizer does not move the other's learning rate."""
    load("gan").main(SMALL["gan"])

    assert "The generator still has 0.0002" in capsys.readouterr().out


def test_compare_batch_sizes_draws_every_curve(tmp_path):
    """Each batch size has a learning rate, and the picture is there."""
    found = load("compare_batch_sizes").main(SMALL["compare_batch_sizes"])

    assert all(found[size].lr for size in (8, 32))
    with Image.open(tmp_path / "batch_sizes.png") as picture:
        assert picture.width == 1200


def test_notebook_runs(tmp_path, backend, monkeypatch):
    """Every cell of the notebook runs."""
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
