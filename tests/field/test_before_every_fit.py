"""A suite of fits, with a range test before each of them and without."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


def begin(path, *options):
    """Starts the suite's fits in a process of its own."""
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-n", "0"),
        *("-p", "field.before_every_fit", "-p", "no:cacheprovider"),
        *(f"--fits-to={path}", *options, str(HERE / "suite_of_fits.py")),
    ]
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=HERE.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(process, path):
    """What these fits came to."""
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.thorough_on("jax", "torch")
def test_every_fit_ends_as_without_a_range_test(tmp_path):
    """The same histories and the same variables, bit for bit."""
    paths = tmp_path / "plain", tmp_path / "tested"
    running = [begin(paths[0]), begin(paths[1], "--range-tests")]
    plain, tested = map(end, running, paths)
    assert len(plain) >= 12
    assert tested == plain
