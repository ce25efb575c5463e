"""What is shown of a curve, and the pictures made without matplotlib."""

import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_lrfinder.drawing.sketch import html_card
from keras_lrfinder.drawing.sketch import svg_curve
from keras_lrfinder.drawing.sketch import text_plot
from keras_lrfinder.drawing.sketch import thin_out
from keras_lrfinder.drawing.sketch import view

SVG = "{http://www.w3.org/2000/svg}"
POINTS = st.lists(
    st.tuples(st.floats(min_value=1e-300, max_value=1e300), st.floats()),
    max_size=30,
)


def run(steps=200, height=1e5):
    """A descent from 2.3 to 0.3 at 1e-3, and a blow-up beyond 1."""
    lrs = np.geomspace(1e-6, 10.0, steps)
    losses = 0.3 + 2.0 / (1.0 + (lrs / 1e-3) ** 1.5)
    losses += np.random.default_rng(0).normal(0.0, 0.05, steps)
    return lrs, np.where(lrs > 1.0, losses + height * (lrs - 1.0), losses)


def path_points(path):
    """The coordinates in the data of a path."""
    pairs = re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path.get("d"))
    return np.array(pairs, dtype=float)


def parts(svg, tag):
    """All elements of one name."""
    return list(ET.fromstring(svg).iter(SVG + tag))


class TestView:
    @pytest.mark.parametrize("height", [10.0, 1e5, 1e200])
    def test_blow_up_does_not_flatten_the_descent(self, height):
        """The descent fills over half of the window, whatever follows."""
        shown = view(*run(height=height))

        assert 2.0 / (shown.high - shown.low) > 0.5
        assert shown.low < 0.35
        assert shown.high > 2.3

    def test_scale_of_the_losses_is_the_windows(self):
        """Losses times a thousand: limits times a thousand."""
        lrs, losses = run()
        one, many = view(lrs, losses), view(lrs, 1e3 * losses)

        assert many.low == pytest.approx(1e3 * one.low)
        assert many.high == pytest.approx(1e3 * one.high)

    def test_deep_descent_is_logarithmic(self):
        """A fall over decades is seen to its end."""
        lrs = np.geomspace(1e-6, 1.0, 200)
        shown = view(lrs, 1.0 / (1.0 + (lrs / 1e-4) ** 2))

        assert shown.log
        assert 0 < shown.low < 1e-7
        assert 1 < shown.high < 1e3

    def test_usual_descent_is_linear(self):
        """From 2.3 to 0.3 needs no logarithm."""
        assert not view(*run()).log

    def test_negative_losses_are_linear(self):
        """Where losses are negative a logarithm means nothing."""
        lrs, losses = run()
        shown = view(lrs, losses - 50.0)

        assert not shown.log
        assert shown.low == pytest.approx(view(lrs, losses).low - 50, rel=0.01)

    def test_rise_from_the_start_is_seen(self):
        """A test that only got worse shows how."""
        lrs = np.geomspace(1e-3, 10.0, 100)
        shown = view(lrs, 1.0 + lrs)

        assert shown.high > 2.0

    @pytest.mark.parametrize("loss", [0.0, 3.0, -3.0, 1e-300, 1e308])
    def test_constant_losses_have_a_window(self, loss):
        """Around them, and not empty."""
        shown = view(np.geomspace(1e-3, 1, 20), [loss] * 20)

        assert shown.low < shown.high

    @pytest.mark.filterwarnings("error")
    @settings(max_examples=100, deadline=None)
    @given(POINTS)
    def test_any_points_have_a_window(self, points):
        """Finite limits with room between, without a warning."""
        shown = view([lr for lr, _ in points], [y for _, y in points])

        assert math.isfinite(shown.low)
        assert math.isfinite(shown.high)
        assert shown.low < shown.high
        assert not shown.log or shown.low > 0


class TestThinOut:
    def test_short_curves_stay_whole(self):
        """Up to two points a cell nothing is left out, NaNs included."""
        lrs, losses = run(200)
        losses[7] = np.nan
        found = thin_out(lrs, losses, 100)

        np.testing.assert_array_equal(lrs, found[0])
        np.testing.assert_array_equal(losses, found[1])

    def test_every_cell_keeps_its_extremes(self):
        """Lowest and highest of each cell, found one cell at a time."""
        lrs, losses = run(5000)
        found = thin_out(lrs, losses, 50)
        share = np.log(lrs / lrs[0]) / np.log(lrs[-1] / lrs[0])
        cell = np.minimum((share * 50).astype(int), 49)
        expected = sorted(
            chosen
            for c in range(50)
            for chosen in {losses[cell == c].min(), losses[cell == c].max()}
        )

        assert expected == sorted(found[1].tolist())

    def test_order_is_kept(self):
        """Points stay in the order of their LRs, each with its loss."""
        lrs, losses = run(5000)
        x, y = thin_out(lrs, losses, 50)

        assert np.all(np.diff(x) > 0)
        assert np.isin(y, losses).all()


class TestText:
    @pytest.mark.parametrize(
        ("width", "height"), [(30, 8), (72, 16), (100, 40)]
    )
    def test_fits_into_its_size(self, width, height):
        """So many lines, none longer, no space at any end."""
        lines = text_plot(*run(), width, height, "title").split("\n")

        assert height == len(lines)
        assert max(map(len, lines)) <= width
        assert all(line == line.rstrip() for line in lines)

    def test_is_ascii(self):
        """Any terminal and any log can show it."""
        assert text_plot(*run()).isascii()

    def test_line_goes_down_and_up(self):
        """The stars start high, are low right of the middle, and end high."""
        rows = text_plot(*run(), width=80, height=20).split("\n")
        stars = [
            (column, row)
            for row, line in enumerate(rows)
            for column, sign in enumerate(line)
            if sign == "*"
        ]
        bottom = max(row for _, row in stars)
        lowest = np.mean([column for column, row in stars if row == bottom])

        assert 40 < lowest < 72
        assert min(row for column, row in stars if column < 20) < bottom - 8
        assert min(row for column, row in stars if column > lowest) == 0

    def test_decades_are_where_they_belong(self):
        """The label of a decade stands under its place on the log axis."""
        lines = text_plot(*run(), width=82, height=16).split("\n")
        rule, names = lines[-2], lines[-1]
        start = rule.index("+") + 1

        for match in re.finditer(r"\S+", names):
            place = np.log10(float(match[0]) / 1e-6) / 7.0 * 70
            middle = (match.start() + match.end() - 1) / 2
            assert abs(middle - start - place) <= 1.0

    def test_mark_points_at_its_lr(self):
        """The suggestion is an arrow under the axis."""
        rule = text_plot(*run(), width=82, mark=1e-2).split("\n")[-2]

        assert round(4 / 7 * 70) == rule.index("^") - rule.index("+") - 1

    def test_title_is_the_first_line(self):
        """A title, cut to the width."""
        first = text_plot(*run(), 40, title="t" * 99).split("\n")[0]

        assert first == "t" * 40

    def test_nothing_to_show_is_said(self):
        """No finite loss: words instead of a plot."""
        assert "no finite loss" in text_plot([1.0], [math.nan])

    @pytest.mark.parametrize(("width", "height"), [(29, 16), (72, 7)])
    def test_refuses_to_be_tiny(self, width, height):
        """Below a certain size there is no plot."""
        with pytest.raises(ValueError, match="must be at least 30"):
            text_plot(*run(), width, height)

    @pytest.mark.filterwarnings("error")
    @settings(max_examples=80, deadline=None)
    @given(POINTS)
    def test_any_points_are_drawn(self, points):
        """No curve breaks it."""
        points.sort()
        text = text_plot([lr for lr, _ in points], [y for _, y in points])

        assert max(map(len, text.split("\n"))) <= 72


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

    def test_smooth_line_can_be_given(self):
        """A line of the caller's own takes the spline's place."""
        lrs, losses = run(50, height=0.0)
        svg = svg_curve(lrs, losses, np.full(50, 1.0))
        line = path_points(parts(svg, "path")[3])

        assert len(set(line[:, 1].tolist())) == 1

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
        "import keras_lrfinder.drawing.sketch; "
        "assert not {'keras', 'matplotlib', 'keras_lrfinder.analysis.curve'} "
        "& set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
