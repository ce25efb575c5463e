"""A suite of fits, with a range test before each of them and without."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


def fits(chosen, path, *options):
    """What the suite's fits came to, in a process of its own."""
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-n", "0"),
        *("-p", "field.before_every_fit", "-p", "no:cacheprovider"),
        *(f"--fits-to={path}", "--thorough", *options, "-k", chosen),
        str(HERE / "suite_of_fits.py"),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.thorough_on("jax", "torch")
@pytest.mark.parametrize("chosen", ["test_optimizer", "not test_optimizer"])
def test_every_fit_ends_as_without_a_range_test(chosen, tmp_path):
    """The same histories and the same variables, bit for bit."""
    plain = fits(chosen, tmp_path / "plain")
    tested = fits(chosen, tmp_path / "tested", "--range-tests")
    assert len(plain) >= 12
    assert tested == plain
