"""A finished test in words: one line, a summary, a notebook's card, tables."""

import dataclasses
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from keras_lrfinder import Curve
from keras_lrfinder import StopReason
from keras_lrfinder import Suggestion
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.pictures import report

CURVE = Curve(
    lrs=[1e-4, 1e-3, 1e-2, 1e-1],
    losses=[2.0, 1.5, 1.0, 9.0],
    stop_reason=StopReason.DIVERGED,
    steps=6,
    optimizer="adam",
)
EMPTY = Curve(lrs=[], losses=[], stop_reason=StopReason.OUT_OF_DATA)
FOUND = Suggestion(3e-3, 1e-3, 9e-3, "high", "default", "It <fell> & rose.")
PEAK = dataclasses.replace(FOUND, schedule="one_cycle", total_steps=900)
NONE = Suggestion.refused("default", "It never fell.")
RUNS = (
    Run(3e-3, 4, held_out=2).ended([2.0, 1.0, 0.5, 0.25, 0.3, 0.3]),
    Run(1e-3, 4).ended([2.0, 1.0, 0.5, 0.2567]),
    Run(3e-1, 4, held_out=2).ended([2.0, np.inf]),
    Run(2e-3, 900, "one_cycle", 2).ended([1.0] * 900 + [0.25, 0.25]),
)


def test_the_line_says_the_rate_its_range_and_how_sure_it_is():
    """What is sure needs no reason until it is asked for; what is not does."""
    assert report.line(CURVE, FOUND) == (
        "LRFinder: 3.0e-03 (high confidence in a range of x9, 1.0e-03 to "
        "9.0e-03); print the finder to see why"
    )
    low = dataclasses.replace(FOUND, confidence="low")
    assert report.line(CURVE, low) == (
        "LRFinder: 3.0e-03 (1.0e-03 to 9.0e-03, low confidence). It <fell> & "
        "rose. [the loss blew up after 4 of 6 steps, from 1.0e-04 to 1.0e-01]"
    )
    ended = {"steps": 4, "stop_reason": StopReason.COMPLETED}
    whole = dataclasses.replace(CURVE, **ended)
    assert "[all 4 steps ran, " in report.line(whole, low)


def test_the_summary_is_short_and_aligned():
    """Five lines, whose values begin in the same column.

    High confidence is in the range, not in the number.
    """
    rows = report.text_report(CURVE, FOUND).splitlines()
    assert len(rows) == 5
    for row in rows:
        assert re.match(r"\S.{12}  \S", row)
    assert rows[1].endswith(
        "high, of a range of x9: in 95 of 100 such tests the best one lies "
        "between 1.0e-03 and 9.0e-03"
    )


@pytest.mark.parametrize("words", [report.text_report, report.html_report])
def test_numbers_have_one_notation(words):
    """A learning rate is never written as a decimal."""
    said = re.sub("<svg.*</svg>", "", words(CURVE, PEAK, RUNS), flags=re.S)
    assert "3.0e-03, peak of one_cycle" in said
    assert not re.search(r"0\.00\d|\de-\d\b", said)


def test_runs_are_a_table():
    """What each was, its learning rate, its steps and where it ended."""
    assert report.run_rows(RUNS) == [
        ["run", "LR", "steps", "loss at the end"],
        ["probe", "3.0e-03", "4", "0.3 (held-out)"],
        ["probe", "1.0e-03", "4", "0.2567 (training)"],
        ["probe", "3.0e-01", "4", "blew up"],
        ["training", "2.0e-03, peak of one_cycle", "900", "0.25 (held-out)"],
    ]
    assert "probe     3.0e-01" in report.text_report(CURVE, FOUND, RUNS)


def test_without_a_learning_rate_the_summary_gives_the_reason():
    """The answer is none, and why."""
    text = report.text_report(CURVE, NONE)
    assert text.startswith("learning rate  none\n")
    assert "It never fell." in text
    assert "It never fell." in report.html_report(CURVE, NONE).split("<svg")[0]


def test_the_card_leads_with_answer_confidence_and_picture():
    """All else is folded away; what users may have written is no markup."""
    head, rest = report.html_report(CURVE, FOUND, RUNS).split("<details>")
    before, picture = head.split("<svg")
    assert "Learning rate: 3.0e-03" in before
    assert "Confidence: high, of a range of x9: in 95 of 100" in before
    assert "<path" in picture
    assert "It &lt;fell&gt; &amp; rose." in rest
    assert "blew up" in rest


def test_the_picture_of_the_card_takes_the_pages_ink():
    """For light and dark pages: no ground, no white, no black of its own."""
    card = report.html_report(CURVE, FOUND, RUNS)
    picture = card[card.index("<svg") : card.index("</svg>") + 6]
    inks = set(re.findall("#[0-9a-f]{6}|currentcolor", picture.lower()))
    assert "currentcolor" in inks
    assert not {"#000000", "#222222", "#012345"} & inks
    assert ET.fromstring(picture).get("style") == "width:100%;height:auto"
    assert "fill: #ffffff" not in picture
    assert len(card) < 100_000


def test_the_card_shows_runs_where_they_ended():
    """Not at the edge: the loss axis reaches down to them."""
    low = Run(1e-2, 4).ended([2.0, 1.0, 0.5, 0.01])
    with_run = report.html_report(CURVE, FOUND, [low])
    assert "that ended above" not in with_run
    assert report.html_report(CURVE, FOUND, [RUNS[2]]) != with_run


@pytest.mark.parametrize("found", [FOUND, NONE])
def test_a_test_without_a_step_has_a_summary_too(found):
    """No data at all is a result as well."""
    assert "no step ran: the data ran out" in report.text_report(EMPTY, found)
    assert "<svg" not in report.html_report(EMPTY, found)


def test_tables_are_aligned_and_escaped():
    """In a terminal by spaces, in a notebook by cells."""
    rows = [["", "LR"], ["adam", "<1e-3>"]]
    assert report.text_table(rows) == "      LR\nadam  <1e-3>"
    assert report.html_table(rows).count("<th") == 2
    assert "&lt;1e-3&gt;" in report.html_table(rows)
