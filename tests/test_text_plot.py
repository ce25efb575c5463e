"""A curve in plain ASCII."""

import math
import re

import numpy as np
import pytest
from descents import POINTS
from descents import run
from hypothesis import given
from hypothesis import settings

from keras_lrfinder.drawing.text_plot import text_plot


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
