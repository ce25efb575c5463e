"""One line that says how far a test is: terminal, file, notebook."""

import contextlib
import io
import itertools
import types

import pytest

from keras_lrfinder.training import progress


class Terminal(io.StringIO):
    """What a terminal is sent; `shown` is what has stood on its line."""

    def isatty(self):
        return True

    @property
    def shown(self):
        return [text.rstrip() for text in self.getvalue().split("\r")[1::2]]


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand, in place of the module's."""
    hand = types.SimpleNamespace(now=0.0, monotonic=lambda: hand.now)
    monkeypatch.setattr(progress, "time", hand)
    return hand


def job(clock, verbose=1, compiles=0.0, ends=True):
    """A ramp and one of two probes of 8 steps, which each begin slowly."""
    shown = progress.Progress(verbose)
    for name, after in (("ramp", 16), ("probe 1 of 2 at 1.7e-02", 8)):
        shown.begin(name, 8, after)
        for i in range(8):
            clock.now += 0.5 if i else 0.5 + compiles
            shown.step(1e-3, 2.0)
    if ends:
        shown.close()
        shown.close()


def on_terminal(act, *args, **kwargs):
    """Returns what a terminal has shown, of something that is done."""
    with contextlib.redirect_stdout(Terminal()) as terminal:
        act(*args, **kwargs)
    return terminal.shown


def test_a_line_names_the_run_and_its_step(clock):
    """Not the learning rate of the moment; at the end it is taken away, once.

    What is printed afterwards stays.
    """
    shown = on_terminal(job, clock)
    assert "ramp, step 3 of 8, loss 2" in shown
    probe = "probe 1 of 2 at 1.7e-02, step 8 of 8, loss 2, 4 s left"
    assert shown[-2:] == [probe, ""]
    assert shown.count("") == 1


def test_no_time_is_told_until_it_is_known(clock):
    """The first steps, and what is compiled, tell none."""
    shown = on_terminal(job, clock, compiles=80.0, ends=False)
    left = [text.partition("loss 2, ")[2] for text in shown]
    steps = [*range(18, 15, -1), *range(15, 7, -1)]
    assert left[:6] == [""] * 6  # the name, and five steps
    told = [text for text in left if text]
    assert told == [f"{0.5 * n:.0f} s left" for n in steps]


def test_a_step_that_is_compiled_anew_does_not_count(clock):
    """One of them may take as long as the first."""

    def ramp():
        shown = progress.Progress(1)
        shown.begin("ramp", 100)
        for i in range(50):
            clock.now += 40.0 if i == 7 else 0.1
            shown.step(1e-3, 2.0)

    assert on_terminal(ramp)[-1].endswith(", 5 s left")


def test_a_narrow_terminal_shows_one_line(clock, monkeypatch):
    """A line that is wrapped could not be written over."""
    monkeypatch.setenv("COLUMNS", "20")
    assert max(map(len, on_terminal(job, clock))) == 19


def test_a_file_has_one_line(capsys, clock):
    """What begins, and how long it may be."""
    job(clock)
    assert capsys.readouterr().out == "ramp, 8 steps, then up to 16 more\n"


def test_nothing_is_shown_unasked(clock, capsys):
    """With `verbose=0`."""
    assert on_terminal(job, clock, 0) == []
    job(clock, 0)
    assert capsys.readouterr().out == ""


CELL = """
import time
from keras_lrfinder.training.progress import Progress
shown = Progress(1)
for name in ("ramp", "probe 1 of 1 at 1e-2"):
    shown.begin(name, 5, 0)
    for step in range(5):
        time.sleep(0.11)
        shown.step(1e-3, 2.0)
shown.close()
print("done")
"""


def test_a_saved_notebook_has_no_trace_of_it():
    """Only what is printed at the end."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    nbclient.NotebookClient(book, timeout=120).execute()
    outputs = book.cells[0].outputs
    said = [out.get("text") or out["data"]["text/plain"] for out in outputs]
    assert "".join(itertools.chain(*said)) == "done\n"
