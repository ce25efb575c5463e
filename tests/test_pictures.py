"""Pictures, measured where they are drawn: boxes, ticks, lines and files."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import textwrap
import warnings

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from keras_lrfinder import Curve
from keras_lrfinder import StopReason
from keras_lrfinder import Suggestion
from keras_lrfinder import plot_curves
from keras_lrfinder import suggest
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.pictures.plotting import new_axes
from keras_lrfinder.pictures.plotting import plot_curve
from keras_lrfinder.pictures.plotting import save_plots
from keras_lrfinder.pictures.view import smooth_line
from keras_lrfinder.pictures.view import view

SURE = Suggestion(1e-3, 3e-4, 3e-3, "high", "default", "Seen.")
UNSURE = dataclasses.replace(SURE, confidence="low", reason="Few samples.")
NONE = Suggestion.refused("default", "The loss never fell: raise `end_lr`.")
PEAK = dataclasses.replace(SURE, schedule="one_cycle", total_steps=900)


def descent(lrs, middle=1e-3):
    """A loss from 2.3 to 0.3, halfway at `middle`."""
    return 0.3 + 2.0 / (1.0 + (lrs / middle) ** 1.5)


def measured(steps=200, noise=0.05, shift=0.0, middle=1e-3, **fields):
    """A descent, and a blow-up beyond an LR of 1."""
    lrs = fields.pop("lrs", np.geomspace(1e-6, 10.0, steps))
    losses = descent(lrs, middle) + shift
    losses += np.random.default_rng(0).normal(0.0, noise, len(lrs))
    losses = np.where(lrs > 1.0, losses + 1e4 * (lrs - 1.0), losses)
    fields = {"stop_reason": StopReason.DIVERGED, "optimizer": "adam"} | fields
    return Curve(lrs=lrs, losses=losses, **fields)


def of(losses):
    """A curve of these losses."""
    return Curve(np.geomspace(1e-6, 1.0, 300)[: len(losses)], losses)


def run(lr, loss, steps=60, schedule="constant"):
    """A run that ended at `loss` on held-out batches."""
    made = Run(lr, steps, schedule, held_out=3)
    return made.ended([2.0] * steps + [loss] * 3)


PROBES = (run(1e-3, 0.9), run(1e-2, 0.2), run(0.3, np.nan), run(0.5, 1e9))
NOISE = np.random.default_rng(1).normal(2.3, 0.02, 100)
DEEP = np.exp(10.0 * NOISE - 23.0) * np.geomspace(1.0, 1e-5, 100)
KINDS = {
    "good": measured(),
    "100 steps": measured(100),
    "noisy": measured(noise=0.4),
    "falling": measured(lrs=np.geomspace(1e-6, 2e-3, 80)),
    "nan": of([*descent(np.geomspace(1e-6, 1.0, 300))[:200], np.nan]),
    "only nan": of([np.nan] * 3),
    "empty": of([]),
    "one": of([1.0]),
    "flat": of(NOISE),
    "constant": of([2.0] * 50),
    "rising": of(2.0 + np.linspace(0, 1, 60) ** 2),
    "negative": measured(shift=-40.0),
    "narrow": measured(lrs=np.geomspace(4e-4, 3e-3, 60)),
    "narrower": measured(lrs=np.geomspace(1e-3, 1.05e-3, 60)),
    "long": measured(60_000, stop_reason=StopReason.INTERRUPTED),
    "linear": measured(lrs=np.linspace(1e-4, 1.2, 300)),
    "decades": of(DEEP),
    "huge": of([1e100, -1e100] * 10),
    "tiny": of([5e-324] * 20),
    "not finite": of([np.inf, -np.inf, np.nan, 1.0, 2.0]),
}


@pytest.fixture(params=KINDS)
def kind(request):
    """Each of the curves above."""
    return KINDS[request.param]


def drawn(ax):
    """Draws for real, any warning about numbers or layout an error."""
    canvas = FigureCanvasAgg(ax.figure.figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("error", UserWarning)
        # Of an old matplotlib with a new pyparsing, and none of ours.
        warnings.filterwarnings("ignore", "'.*' .*deprecated")
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def lines(ax):
    """The lines of a picture by their labels."""
    return {line.get_label(): line for line in ax.get_lines()}


def labels(ax):
    """The texts of the legend."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def covered(ax):
    """Whether the legend lies over a loss that is shown."""
    box, inside = (each.get_window_extent() for each in (ax.get_legend(), ax))
    lines = [line.get_xydata() for line in ax.get_lines()]
    return any(
        box.contains(*spot) and inside.contains(*spot)
        for line in lines
        if len(line) > 4
        for spot in ax.transData.transform(line)
    )


def overlaps(axis):
    """Whether two tick labels lie on one another."""
    low, high = sorted(axis.get_view_interval())
    ticks = zip(axis.get_ticklocs(), axis.get_ticklabels())
    texts = [text for tick, text in ticks if low <= tick <= high]
    boxes = [text.get_window_extent() for text in texts]
    return any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


class TestEveryKind:
    @pytest.mark.parametrize(
        ("found", "size"),
        [(UNSURE, None), (NONE, None), (SURE, (6.4, 4.8)), (SURE, (3.2, 3.0))],
        ids=["low", "none", "wide", "small"],
    )
    def test_is_drawn_with_nothing_on_anything_else(self, kind, found, size):
        """No NaN; the legend covers no loss, and no label another.

        Nor in a figure of the user's, which makes no room outside the axes.
        """
        ax = Figure(figsize=size).add_subplot() if size else new_axes()
        plot_curve(kind, found, runs=PROBES, ax=ax)

        assert drawn(ax).std() > 0
        for line in ax.get_lines():
            assert np.isfinite(np.asarray(line.get_ydata(), float)).all()
        assert ax.get_legend() is None or not covered(ax)
        assert not overlaps(ax.xaxis)
        assert size or not overlaps(ax.yaxis)


def descents():
    """The names of curves that have a descent to be shown."""
    views = {name: view(kind.lrs, kind.losses) for name, kind in KINDS.items()}
    return [n for n in KINDS if len(KINDS[n]) >= 10 and views[n].falls]


@pytest.mark.parametrize("name", descents())
def test_shows_nearly_all_of_what_came_before_the_bottom(name):
    """The window holds nine of ten finite losses on the way down."""
    kind = KINDS[name]
    shown = view(kind.lrs, kind.losses)
    bottom = shown.lrs[np.argmin(shown.smooth)]
    seen = kind.losses[(kind.lrs <= bottom) & np.isfinite(kind.losses)]
    assert np.mean((seen > shown.low) & (seen < shown.high)) > 0.9


class TestSmoothLine:
    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("noise", [0.0, 0.1])
    def test_a_sharp_trough_stays_one(self, seed, noise):
        """At the bottom the line is where the losses are, within 0.1."""
        lrs = np.geomspace(1e-6, 1.0, 150)
        x = np.log10(lrs)
        truth = np.minimum(2.5, 1.0 + np.abs(x + 1.5) * 1.2)
        rng = np.random.default_rng(seed)
        grid, smooth = smooth_line(lrs, truth + rng.normal(0, noise, 150))
        assert smooth.min() == pytest.approx(1.0, abs=0.1 + noise)
        assert abs(np.log10(grid[smooth.argmin()]) + 1.5) < 0.15

    def test_has_no_flat_floor(self):
        """No two neighbours are equal, as where a line is clipped."""
        for seed in range(5):
            curve = measured(100, noise=0.1, shift=float(seed))
            assert np.diff(smooth_line(curve.lrs, curve.losses)[1]).all()

    @pytest.mark.parametrize("height", [1e2, 1e4, 1e30])
    def test_a_blow_up_leaves_the_descent_alone(self, height):
        """Nor is there a dip before it."""
        lrs = np.geomspace(1e-6, 10.0, 300)
        losses = descent(lrs)
        losses[-6:] = height * np.linspace(0.1, 1.0, 6)
        grid, smooth = smooth_line(lrs, losses)
        before = grid < lrs[-6] / 1.2
        np.testing.assert_allclose(descent(grid)[before], smooth[before], 0.05)
        assert smooth[-1] == pytest.approx(height)

    def test_a_blow_up_is_led_out_of_the_window(self):
        """Not by a corner: within it, no bend is as sharp as the leap."""
        lrs = np.geomspace(1e-7, 1.0, 90)
        losses = descent(lrs)
        losses[-1] = 1e3
        shown = view(lrs, losses)
        inside = shown.smooth[: np.argmax(shown.smooth > shown.high) + 1]
        rises = np.diff(inside)[-6:]
        assert (rises > 0.0).sum() >= 4
        assert rises.max() < 0.8 * shown.high


class TestWindow:
    def test_the_plateau_is_cut_in_the_smooth_picture_only(self):
        """The raw one shows the whole test; neither is flattened."""
        curve = measured(lrs=np.geomspace(1e-9, 10.0, 200))
        raw = plot_curve(curve, smooth=False, ax=new_axes())
        several = plot_curves({"a": curve}, ax=new_axes())

        assert plot_curve(curve, ax=new_axes()).get_xlim()[0] > 1e-7
        assert raw.get_xlim()[0] < 1e-9
        assert raw.get_ylim()[0] < 0.3
        assert 2.3 < raw.get_ylim()[1] < 4.0
        assert several.get_xlim()[0] > 1e-6
        assert several.get_xlim()[1] < 5.0

    def test_losses_over_decades_have_a_log_axis(self):
        """A deep fall is seen to its end."""
        ax = plot_curve(KINDS["decades"], ax=new_axes())
        assert ax.get_yscale() == "log"
        assert ax.get_ylim()[0] < 1e-5

    def test_a_long_test_is_no_grey_wall(self):
        """Of 60,000 steps a thousand faint points are drawn."""
        ax = plot_curve(KINDS["long"], ax=new_axes())
        raw = lines(ax)["loss of some of the steps"]
        assert len(raw.get_xdata()) <= 1000
        assert raw.get_alpha() < 0.5
        assert raw.get_linestyle() == "None"


class TestWords:
    @pytest.mark.parametrize(
        ("found", "title"),
        [
            (SURE, "Learning rate for adam: 1.0e-03, high confidence, range"),
            (UNSURE, "Learning rate for adam: 1.0e-03, low confidence"),
            (PEAK, "Peak learning rate of one_cycle for adam: 1.0e-03, high"),
            (NONE, "No learning rate for adam"),
            (None, "Learning rate range test for adam"),
        ],
    )
    def test_title_says_the_answer(self, found, title):
        """The LR (nowhere else), optimizer, confidence; below it a doubt."""
        ax = plot_curve(measured(), found, ax=new_axes())
        assert ax.get_title(loc="left").startswith(title)
        assert not any("1.0e-03" in label for label in labels(ax))
        if found in (UNSURE, NONE):
            assert found.reason in [text.get_text() for text in ax.texts]

    def test_symbols_in_names_are_no_mathematics(self):
        """Dollars and underscores are shown as they are."""
        curve = measured(monitor="$loss_1", optimizer=r"$\my$")
        drawn(plot_curve(curve, NONE, ax=new_axes()))
        drawn(plot_curves({r"$\foo$": curve, "_a": curve}, ax=new_axes()))


class TestMarks:
    def test_suggestion_is_a_line_a_dot_and_a_range(self):
        """All at their learning rates, the dot on the smooth line."""
        curve = measured()
        ax = plot_curve(curve, SURE, ax=new_axes())
        band = ax.patches[0].get_extents().transformed(ax.transData.inverted())
        dots = [a for a in ax.get_lines() if a.get_marker() == "o"]
        shown = view(curve.lrs, curve.losses)

        assert list(lines(ax)["suggested"].get_xdata()) == [1e-3, 1e-3]
        assert (band.x0, band.x1) == pytest.approx((3e-4, 3e-3))
        assert dots[-1].get_ydata()[0] == pytest.approx(shown.at(1e-3))
        assert "holds the best one in 95 of 100 tests" in labels(ax)
        assert not lines(ax)["suggested"].is_dashed()
        unsure = plot_curve(curve, UNSURE, ax=new_axes())
        assert lines(unsure)["suggested"].is_dashed()
        assert "the best one may lie anywhere here" in labels(unsure)

    def test_probes_and_trainings_differ(self):
        """In marker and name; a peak is called a peak."""
        runs = [*PROBES, run(2e-3, 0.4, 900, "one_cycle")]
        ax = plot_curve(measured(), PEAK, runs=runs, ax=new_axes())
        found = lines(ax)
        probes = found["probes"]
        above = found["probes that ended above, or blew up"]
        trainings = found["whole trainings, at their peak"]

        low, high = ax.get_ylim()
        assert low <= 0.2 - 0.04 * (high - low)  # the lowest mark is whole
        assert probes.get_ydata() == pytest.approx([0.9, 0.2])
        assert list(above.get_xdata()) == [0.3, 0.5]
        assert list(trainings.get_xdata()) == [2e-3]
        assert trainings.get_marker() != probes.get_marker()

    def test_where_and_why_it_ended(self):
        """A line at the last LR, unless all steps ran."""
        ax = plot_curve(measured(), ax=new_axes())
        assert lines(ax)["the loss blew up"].get_xdata()[0] == 10.0
        whole = measured(stop_reason=StopReason.COMPLETED)
        assert len(plot_curve(whole, ax=new_axes()).get_lines()) == 2

    def test_equal_rules_are_drawn_apart(self):
        """One above the other, each with its value in the legend."""

        def same(curve):
            return 1e-2

        rules = ["valley", same, lambda curve: 1.02e-2, lambda curve: None]
        ax = plot_curve(measured(), rules=rules, ax=new_axes())
        drawn(ax)
        marks = [line for line in ax.get_lines() if ": 1" in line.get_label()]
        one, other = (
            line.get_transform().transform(line.get_xydata())[0]
            for line in marks[-2:]
        )

        assert abs(one[1] - other[1]) > 5.0
        assert "same: 1.0e-02" in labels(ax)
        assert "<lambda>: none" in labels(ax)
        assert plot_curve(measured(), rules="valley", ax=new_axes())


class TestSeveral:
    def test_each_has_its_line_and_its_suggestion(self):
        """Label and LR in the legend, a mark on the line."""
        curves = {str(m): measured(middle=m) for m in (1e-4, 1e-3, 1e-2)}
        ax = plot_curves(curves, ax=new_axes())
        answers = {name: suggest(curve).lr for name, curve in curves.items()}
        spots = [line.get_xdata() for line in ax.get_lines()]

        assert [f"{k}: {v:.1e}" for k, v in answers.items()] == labels(ax)
        assert list(answers.values()) == [x[0] for x in spots if len(x) == 1]
        given = plot_curves(curves, suggestions={"0.001": SURE}, ax=new_axes())
        assert labels(given)[1] == "0.001: 1.0e-03"
        assert labels(given)[0] == "0.0001: none"

    def test_twelve_names_hide_nothing(self):
        """They stand beside, and no two lines look alike."""
        names = [f"optimizer {i}, batch size 128" for i in range(12)]
        ax = plot_curves({name: measured(60) for name in names})
        drawn(ax)
        box, inside = (
            each.get_window_extent() for each in (ax.get_legend(), ax)
        )
        looks = {
            (a.get_color(), a.get_linestyle()) for a in ax.get_lines()[::2]
        }

        assert not box.overlaps(inside)
        assert box.x1 <= ax.figure.bbox.x1
        assert inside.width > 0.5 * ax.figure.bbox.width
        assert len(looks) == 12

    def test_relative_losses_are_shares_of_the_fall(self):
        """Losses of two scales lie on one another."""
        one = measured()
        two = {"a": one, "b": Curve(one.lrs, 100.0 + 1e3 * one.losses)}
        ax = plot_curves(two, relative=True, ax=new_axes())
        first, _, second, _ = (line.get_ydata() for line in ax.get_lines())
        assert first.min() == 0.0
        np.testing.assert_allclose(first, second, atol=1e-6)

    def test_any_kinds_together(self):
        """All of the curves above in one picture; no curve is an error."""
        drawn(plot_curves(KINDS, ax=new_axes()))
        with pytest.raises(ValueError, match="`curves` must not be empty"):
            plot_curves({})


class TestFiles:
    def test_two_jpgs(self, tmp_path):
        """Raw and smooth, in a directory made for them, and no other file."""
        paths = save_plots(measured(), SURE, tmp_path / "deep", PROBES)
        assert [path.name for path in paths] == ["loss.jpg", "smooth_loss.jpg"]
        assert sorted(os.listdir(tmp_path / "deep")) == [p.name for p in paths]
        for path in paths:
            with Image.open(path) as image:
                image.load()
                assert (image.format, image.size) == ("JPEG", (1200, 720))

    def test_what_cannot_be_replaced_leaves_no_half_file(self, tmp_path):
        """The error comes out, and nothing else lies there."""
        (tmp_path / "loss.jpg").mkdir()
        with pytest.raises(OSError, match="loss"):
            save_plots(measured(), SURE, tmp_path)
        assert os.listdir(tmp_path) == ["loss.jpg"]
        with pytest.raises(OSError, match="no_folder"):
            save_plots(measured(), SURE, "/dev/null/no_folder")


class TestManners:
    def test_users_dark_style_does_not_leak_in(self):
        """Dark ink on white, whatever rcParams say."""
        grounds = ("axes.facecolor", "figure.facecolor", "savefig.facecolor")
        inks = ("text.color", "axes.labelcolor", "xtick.color")
        dark = dict.fromkeys(grounds, "black") | dict.fromkeys(inks, "white")
        with mpl.rc_context(dark):
            ax = plot_curve(measured(), UNSURE, ax=new_axes())
            corner = drawn(ax)[2, 2, :3].tolist()
        texts = [ax.xaxis.label, *ax.texts, *ax.get_legend().get_texts()]
        assert corner == [255, 255, 255]
        assert all(sum(to_rgb(text.get_color())) < 0.6 for text in texts)

    def test_a_picture_is_pyplots_current_figure(self):
        """For `plt.savefig`; where none is seen they do not pile up."""
        import matplotlib.pyplot as plt

        plt.close("all")
        with mpl.rc_context({"backend": "agg"}):
            for _ in range(3):
                ax = plot_curve(measured())
                assert ax.figure is plt.gcf()
            assert len(plt.get_fignums()) == 1
        plt.close("all")

    def test_nothing_global_is_touched(self, tmp_path):
        """A fresh process, without a display: no rcParams, no pyplot."""
        code = """
            import json, os, sys
            os.environ["MPLBACKEND"] = "QtAgg"
            os.environ.pop("DISPLAY", None)
            import keras_lrfinder
            from keras_lrfinder.pictures import plotting, report
            before = sorted({"matplotlib", "scipy"} & set(sys.modules))
            import matplotlib
            params = {k: repr(v) for k, v in dict.items(matplotlib.rcParams)}
            c = keras_lrfinder.Curve([.1, .2, .3], [3.0, 2.0, 1.0])
            report.html_report(c, keras_lrfinder.suggest(c))
            plotting.save_plots(c, None, sys.argv[1])
            after = {k: repr(v) for k, v in dict.items(matplotlib.rcParams)}
            pyplot = "matplotlib.pyplot" in sys.modules
            print(json.dumps([before, params == after, pyplot]))
        """
        command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
        said = subprocess.check_output(command, text=True, timeout=120)
        assert json.loads(said) == [[], True, False]
