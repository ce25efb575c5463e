"""A finished test in words: one line, a summary, a notebook's card."""

import numpy as np

from keras_lrfinder import Curve
from keras_lrfinder import StopReason
from keras_lrfinder import Suggestion
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.pictures.report import html_report
from keras_lrfinder.pictures.report import line
from keras_lrfinder.pictures.report import text_report

CURVE = Curve(
    lrs=[1e-4, 1e-3, 1e-2, 1e-1],
    losses=[2.0, 1.5, 1.0, 9.0],
    stop_reason=StopReason.DIVERGED,
    steps=6,
    optimizer="adam",
)
FOUND = Suggestion(3e-3, 1e-3, 9e-3, "high", "default", "it <fell>")
NONE = Suggestion(None, None, None, "none", "default", "it never fell")
GOOD = Probe(
    3e-3, np.array([2.0, 1.0, 0.5, 0.25]), 0.3, 2.0, "reserved samples"
)
BLOWN = Probe(3e-1, np.array([2.0, np.inf]))


def test_the_line_says_what_happened_and_what_to_do():
    """Stop reason, steps and learning rate stand on one line."""
    said = line(CURVE, FOUND)
    assert "\n" not in said
    assert "the loss blew up after 4 of 6 steps" in said
    assert "3.00e-03" in said


def test_the_summary_is_aligned():
    """All values of the summary begin in the same column."""
    rows = text_report(CURVE, FOUND, [GOOD]).splitlines()
    column = len("learning rate  ")
    for row in rows:
        assert row[column - 2 : column] == "  "
        assert row[column] != " "


def test_the_summary_names_each_probe_and_its_loss():
    """A probe is its learning rate, its steps and its held-out loss."""
    text = text_report(CURVE, FOUND, [GOOD, BLOWN])
    assert "3.00e-03 for 4 steps: held-out loss 0.3" in text
    assert "3.00e-01 for 2 steps: blew up" in text


def test_without_a_learning_rate_the_summary_gives_the_reason():
    """The answer is none, and why."""
    text = text_report(CURVE, NONE, [])
    assert "none to suggest" in text
    assert "it never fell" in text


def test_a_notebook_s_card_escapes_what_users_may_have_written():
    """A reason is text, not markup."""
    card = html_report(CURVE, FOUND, [GOOD, BLOWN])
    assert "it &lt;fell&gt;" in card
    assert "<svg" in card


def test_a_test_without_a_step_has_a_summary_too():
    """No data at all is a result as well."""
    empty = Curve(lrs=[], losses=[], stop_reason=StopReason.OUT_OF_DATA)
    assert "no step" in text_report(empty, NONE, [])
    assert "<svg" not in html_report(empty, NONE, [])
