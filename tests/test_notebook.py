"""A curve in a notebook: an inline SVG, and the card around it."""

import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from descents import POINTS
from descents import run
from hypothesis import given
from hypothesis import settings

from keras_lrfinder.drawing.notebook import html_card
from keras_lrfinder.drawing.notebook import svg_curve
from keras_lrfinder.drawing.view import view

SVG = "{http://www.w3.org/2000/svg}"


def path_points(path):
    """The coordinates in the data of a path."""
    pairs = re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path.get("d"))
    return np.array(pairs, dtype=float)


def parts(svg, tag):
    """All elements of one name."""
    return list(ET.fromstring(svg).iter(SVG + tag))


class TestSVG:
    def test_raw_line_goes_through_every_point(self):
        """Its places are those of the formula for a log axis."""
        lrs, losses = run(100, height=0.0)
        shown = view(lrs, losses)
        raw = path_points(parts(svg_curve(lrs, losses), "path")[2])
        x = np.log10(lrs / lrs[0]) / 7.0 * 560
        y = (shown.high - losses) / (shown.high - shown.low) * 220

        np.testing.assert_allclose(np.stack([x, y], 1), raw, atol=0.06)

    def test_smooth_line_is_the_spline(self):
        """The second line is the one that `view` returns."""
        lrs, losses = run(100, height=0.0)
        shown = view(lrs, losses)
        line = path_points(parts(svg_curve(lrs, losses), "path")[3])
        y = (shown.high - shown.smooth) / (shown.high - shown.low) * 220

        np.testing.assert_allclose(y, line[:, 1], atol=0.06)

    def test_nan_breaks_the_line(self):
        """A gap, not a bridge: the pen is lifted."""
        lrs, losses = run(50)
        losses[20] = np.nan
        raw = parts(svg_curve(lrs, losses), "path")[2]

        assert raw.get("d").count("M") == 2

    def test_mark_and_band(self):
        """A labelled line at the suggestion, a band over its range."""
        svg = svg_curve(*run(), mark=1e-3, band=(1e-4, 1e-2))
        mark, band = parts(svg, "line")[0], parts(svg, "rect")[0]

        assert float(mark.get("x1")) == pytest.approx(3 / 7 * 560, abs=0.1)
        assert float(band.get("x")) == pytest.approx(2 / 7 * 560, abs=0.1)
        assert float(band.get("width")) == pytest.approx(160, abs=0.1)
        assert "0.001" in [text.text for text in parts(svg, "text")]

    def test_points(self):
        """A circle for each; one that ended nowhere at the upper edge."""
        points = [(1e-3, 1.0), (1.0, math.nan)]
        circles = parts(svg_curve(*run(), points=points), "circle")

        assert len(circles) == 2
        assert circles[1].get("cy") == "4.0"

    def test_text_takes_the_pages_colour(self):
        """Light and dark notebooks: every label is in currentColor."""
        texts = parts(svg_curve(*run()), "text")

        assert {"currentColor"} == {text.get("fill") for text in texts}

    def test_decades_are_labelled(self):
        """The LR axis is labelled by decades."""
        labels = [text.text for text in parts(svg_curve(*run()), "text")]

        assert {"1e-6", "1e-5", "1e-4", "1e-3", "0.01", "0.1"} < set(labels)

    def test_long_curves_make_small_pictures(self):
        """100,000 points: under 60 kB."""
        lrs, losses = run(100_000)

        svg = svg_curve(lrs, losses)

        assert len(svg) < 60_000

    def test_nothing_to_show_is_no_picture(self):
        """No finite loss: an empty string."""
        assert svg_curve([], []) == ""

    @pytest.mark.filterwarnings("error")
    @settings(max_examples=80, deadline=None)
    @given(POINTS)
    def test_any_points_make_valid_xml(self, points):
        """Finite coordinates in well-formed XML, always."""
        points.sort()
        svg = svg_curve([lr for lr, _ in points], [y for _, y in points])

        assert "nan" not in svg
        assert "inf" not in svg
        assert not svg or ET.fromstring(svg) is not None


class TestCard:
    def test_escapes_what_it_is_given(self):
        """A model's name is not markup."""
        card = html_card("<b>", [("a&b", "<script>")])

        assert "<script>" not in card
        assert "&lt;b&gt;" in card
        assert "a&amp;b" in card

    def test_holds_title_rows_and_picture(self):
        """All three, well formed."""
        svg = svg_curve(*run())
        card = html_card("title", [("name", 3)], svg)

        assert svg in card
        assert "name" in ET.tostring(ET.fromstring(card), encoding="unicode")


def test_layer_zero_stays_pure():
    """Neither curve nor keras nor matplotlib comes with it."""
    code = (
        "import sys, importlib.util as u; import types; "
        "p = types.ModuleType('keras_lrfinder'); "
        "p.__path__ = [u.find_spec('keras_lrfinder')"
        ".submodule_search_locations[0]]; "
        "sys.modules['keras_lrfinder'] = p; "
        "import keras_lrfinder.drawing.notebook; "
        "assert not {'keras', 'matplotlib', 'keras_lrfinder.analysis.curve'} "
        "& set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
