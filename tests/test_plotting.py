"""Pictures, by the data of their lines and by opening the files."""

import json
import subprocess
import sys
import textwrap
import warnings
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.curve import StopReason
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import suggest
from keras_lrfinder.drawing.spline import smoothing_spline
from keras_lrfinder.pictures import figure as figure_module
from keras_lrfinder.pictures.comparison import plot_curves
from keras_lrfinder.pictures.figure import save_plot
from keras_lrfinder.pictures.plotting import plot_curve
from keras_lrfinder.pictures.plotting import save_plots

SURE = Suggestion(1e-3, 3e-4, 3e-3, "high", "default", "seen")
UNSURE = Suggestion(1e-3, 3e-4, 3e-3, "low", "default", "seen")
NONE = Suggestion(
    None, None, None, "none", "default", "the loss never fell: raise end_lr"
)


def measured(steps=200, shift=0.0, middle=1e-3, **fields):
    """A descent from 2.3 to 0.3, and a blow-up beyond an LR of 1."""
    lrs = np.geomspace(1e-6, 10.0, steps)
    losses = 0.3 + 2.0 / (1.0 + (lrs / middle) ** 1.5) + shift
    losses += np.random.default_rng(0).normal(0.0, 0.05, steps)
    losses = np.where(lrs > 1.0, losses + 1e4 * (lrs - 1.0), losses)
    fields = {"stop_reason": StopReason.DIVERGED, "optimizer": "adam"} | fields
    return Curve(lrs=lrs, losses=losses, **fields)


def probe(lr, level, held_out=None):
    """A probe whose loss was the same at every step."""
    return Probe(lr, np.full(20, level), held_out)


def lines(ax):
    """The lines of a picture by their labels."""
    return {line.get_label(): line for line in ax.get_lines()}


def labels(ax):
    """The texts of the legend."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def drawn(ax):
    """Draws for real, any warning about numbers or layout an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("error", UserWarning)
        # Of an old matplotlib with a new pyparsing, and none of ours.
        warnings.filterwarnings("ignore", "'.*' .*deprecated")
        ax.figure.canvas.draw()
    return np.asarray(ax.figure.canvas.buffer_rgba())


class TestLines:
    def test_raw_losses_are_the_curves(self):
        """The faint line holds every loss as measured."""
        curve = measured()
        raw = lines(plot_curve(curve))["loss of each batch"]

        np.testing.assert_array_equal(curve.lrs, raw.get_xdata())
        np.testing.assert_array_equal(curve.losses, raw.get_ydata())

    def test_smooth_line_is_the_spline(self):
        """The strong line is the smoothing spline, in front of the raw one."""
        curve = measured()
        found = lines(plot_curve(curve))
        grid, values = smoothing_spline(curve.lrs, curve.losses)

        np.testing.assert_allclose(grid, found["smoothed"].get_xdata())
        np.testing.assert_allclose(values, found["smoothed"].get_ydata())
        assert (
            found["smoothed"].get_zorder()
            > found["loss of each batch"].get_zorder()
        )

    @pytest.mark.parametrize(
        ("kwargs", "there", "missing"),
        [
            ({"smooth": False}, "loss of each batch", "smoothed"),
            ({"raw": False}, "smoothed", "loss of each batch"),
        ],
    )
    def test_either_line_can_be_left_out(self, kwargs, there, missing):
        """Raw alone, or smoothed alone."""
        found = lines(plot_curve(measured(), **kwargs))

        assert there in found
        assert missing not in found

    def test_lr_axis_is_logarithmic_and_labelled(self):
        """Log LR across, the monitored loss up."""
        ax = plot_curve(measured(monitor="digit_loss"))

        assert ax.get_xscale() == "log"
        assert ax.get_xlabel() == "learning rate"
        assert ax.get_ylabel() == "digit_loss"

    @pytest.mark.parametrize("reason", StopReason)
    def test_title_says_why_it_stopped(self, reason):
        """In words, with the optimizer and the steps."""
        title = plot_curve(measured(stop_reason=reason)).get_title()

        assert reason.cause in title.replace("\n", " ")
        assert "adam" in title
        assert "200 of 200 steps" in title

    def test_blow_up_does_not_flatten_the_descent(self):
        """The fall from 2.3 to 0.3 takes over half of the height."""
        low, high = plot_curve(measured()).get_ylim()

        assert low < 0.3
        assert 2.3 < high < 4.0

    def test_negative_losses_have_a_linear_axis(self):
        """And the same window, lower down."""
        ax = plot_curve(measured(shift=-40.0))

        assert ax.get_yscale() == "linear"
        assert -41.0 < ax.get_ylim()[0] < -39.7

    def test_losses_over_decades_have_a_log_axis(self):
        """A fall by a million is seen to its end."""
        lrs = np.geomspace(1e-6, 1.0, 200)
        ax = plot_curve(Curve(lrs, 1.0 / (1.0 + (lrs / 1e-4) ** 2)))

        assert ax.get_yscale() == "log"
        assert ax.get_ylim()[0] < 1e-7

    def test_raw_stays_out_of_the_smooth_lines_way(self):
        """The raw line is thin and grey behind the smoothed one."""
        found = lines(plot_curve(measured()))
        raw, smooth = found["loss of each batch"], found["smoothed"]

        assert raw.get_linewidth() < smooth.get_linewidth() / 2
        assert np.ptp(to_rgb(raw.get_color())) == 0


class TestMarks:
    def test_suggestion_is_marked_with_its_value(self):
        """A line at the LR, its value beside it and in the legend."""
        ax = plot_curve(measured(), SURE)

        assert list(lines(ax)["suggested: 0.001"].get_xdata()) == [1e-3, 1e-3]
        assert "0.001" in [text.get_text() for text in ax.texts]
        assert "suggested: 0.001" in labels(ax)

    def test_range_is_a_band(self):
        """From low to high, over the whole height."""
        ax = plot_curve(measured(), SURE)
        band = ax.patches[0].get_extents().transformed(ax.transData.inverted())

        assert (band.x0, band.x1) == pytest.approx((3e-4, 3e-3))

    def test_dot_sits_on_the_smooth_line(self):
        """The suggestion's dot has the height of the spline there."""
        curve = measured()
        dot = plot_curve(curve, SURE).get_lines()[3]
        grid, values = smoothing_spline(curve.lrs, curve.losses)

        assert dot.get_marker() == "o"
        assert dot.get_ydata()[0] == pytest.approx(
            np.interp(-3, np.log10(grid), values)
        )

    def test_low_confidence_shows(self):
        """The line is dashed, and the legend says why."""
        found = lines(plot_curve(measured(), UNSURE))
        sure = lines(plot_curve(measured(), SURE))["suggested: 0.001"]
        unsure = found["suggested: 0.001, low confidence"]

        assert unsure.is_dashed()
        assert not sure.is_dashed()

    def test_legend_leaves_the_number_to_be_seen(self):
        """Also where the suggestion lies far below the curve."""
        lrs = np.geomspace(0.3, 0.5, 11)
        curve = Curve(lrs, np.r_[2.5, np.full(10, 15.0)], steps=11)
        found = Suggestion(4e-3, 6e-4, 3e-2, "low", "default", "seen")
        probes = [Probe(lr, np.ones(60), 0.5, 2.5) for lr in (7e-4, 0.02)]
        ax = Figure((6.4, 3.6)).add_subplot()
        plot_curve(curve, found, ax=ax, probes=probes)
        canvas = FigureCanvasAgg(ax.figure)
        canvas.draw()
        drawn = canvas.get_renderer()
        legend = ax.get_legend().get_window_extent(drawn)

        assert [t.get_text() for t in ax.texts] == ["0.004"]
        assert not legend.overlaps(ax.texts[0].get_window_extent(drawn))

    def test_no_suggestion_shows_its_reason(self):
        """The reason is in the picture, wrapped, and nothing is marked."""
        ax = plot_curve(measured(), NONE)
        text = ax.texts[0].get_text()

        assert NONE.reason in text.replace("\n", " ")
        assert max(map(len, text.split("\n"))) <= 66
        assert not ax.patches

    def test_reason_does_not_cover_the_curve(self):
        """The box ends above the highest smooth loss of the descent."""
        curve = Curve(np.geomspace(1e-6, 1, 100), np.full(100, 2.0))
        ax = plot_curve(curve, NONE)
        drawn(ax)
        box = ax.texts[0].get_bbox_patch().get_window_extent()

        assert box.y0 > ax.transData.transform((1e-3, 2.0))[1]

    def test_nothing_given_marks_nothing(self):
        """Without a suggestion there is no word of one."""
        ax = plot_curve(measured(), None)

        assert not ax.texts
        assert not any("suggest" in label for label in labels(ax))

    def test_where_it_stopped(self):
        """A dotted line at the last LR."""
        stop = lines(plot_curve(measured()))["stopped at 10"]

        assert pytest.approx(list(stop.get_xdata())) == [10.0, 10.0]

    def test_a_completed_test_did_not_stop(self):
        """All steps ran: no such line."""
        ax = plot_curve(measured(stop_reason=StopReason.COMPLETED))

        assert not any("stopped" in label for label in labels(ax))

    def test_rules_are_compared(self):
        """Each rule has its line, at its LR, told apart by colour and dash."""
        curve = measured()
        names = ["minimum", "steepest", "valley", "slide"]
        found = lines(plot_curve(curve, rules=names))
        rules = [
            line
            for label, line in found.items()
            if label.split(":")[0] in names
        ]

        assert [suggest(curve, name).lr for name in names] == [
            line.get_xdata()[0] for line in rules
        ]
        assert len({line.get_color() for line in rules}) == 4
        assert len({str(line._dash_pattern) for line in rules}) == 4

    @pytest.mark.parametrize("one", ["valley", lambda curve: 0.01])
    def test_one_rule_needs_no_list(self, one):
        """A single name or function is taken for itself."""
        found = lines(plot_curve(measured(), rules=one))

        assert any(
            label.startswith(("valley:", "<lambda>:")) for label in found
        )

    def test_rule_without_an_answer_says_none(self):
        """It stays in the legend."""
        curve = Curve(np.geomspace(1e-6, 1, 100), np.full(100, 2.0))

        assert "valley: none" in labels(plot_curve(curve, rules="valley"))

    def test_probes_are_points(self):
        """Each at its LR and the mean of its last quarter of losses."""
        losses = np.concatenate((np.full(15, 9.0), np.full(5, 0.7)))
        probes = [Probe(1e-3, losses), probe(1e-2, 0.5)]
        ax = plot_curve(measured(), probes=probes)
        points = lines(ax)["probes, after their last step"]

        assert list(zip(*points.get_data())) == [(1e-3, 0.7), (1e-2, 0.5)]

    def test_held_out_loss_of_a_probe_counts(self):
        """Where there is one, it is the level."""
        one = probe(1e-3, 1.0, held_out=0.6)
        points = lines(plot_curve(measured(), probes=[one]))

        assert points["probes, after their last step"].get_ydata()[0] == 0.6

    def test_window_reaches_down_to_the_probes(self):
        """They train on after the ramp: their loss may be the lowest."""
        ax = plot_curve(measured(), probes=[probe(1e-3, 0.05)])

        assert ax.get_ylim()[0] < 0.05

    def test_diverged_probes_are_shown_at_the_top(self):
        """One that ended above the window, or in NaN, is not lost."""
        probes = [probe(1.0, 1e9), probe(0.5, np.nan)]
        above = lines(plot_curve(measured(), probes=probes))

        assert list(above["probes that ended above"].get_xdata()) == [1.0, 0.5]


class TestOverlay:
    def curves(self):
        """Three tests with different answers."""
        return {
            "batch 32": measured(middle=1e-4),
            "batch 64": measured(middle=1e-3),
            "batch 128": measured(middle=1e-2),
        }

    def test_each_curve_has_its_line_and_its_suggestion(self):
        """Label and LR in the legend, a mark on the line."""
        curves = self.curves()
        ax = plot_curves(curves)
        expected = [
            f"{name}: {suggest(curve).lr:.3g}" for name, curve in curves.items()
        ]
        marks = [
            line.get_xdata()[0]
            for line in ax.get_lines()
            if len(line.get_xdata()) == 1
        ]

        assert expected == labels(ax)
        assert [suggest(curve).lr for curve in curves.values()] == marks

    def test_curves_share_axes_and_smoothing(self):
        """Each line is the spline of its own curve, in the loss itself."""
        curves = self.curves()
        found = [
            line
            for line in plot_curves(curves).get_lines()
            if len(line.get_xdata()) > 1
        ]

        for line, curve in zip(found, curves.values()):
            np.testing.assert_allclose(
                smoothing_spline(curve.lrs, curve.losses)[1], line.get_ydata()
            )

    def test_given_suggestions_are_marked(self):
        """A finder's own answers (probes!) instead of the rule's."""
        ax = plot_curves({"a": measured()}, suggestions={"a": SURE})

        assert labels(ax) == ["a: 0.001"]

    def test_relative_losses_are_shares_of_the_fall(self):
        """Losses of two scales lie on one another."""
        one = measured()
        many = Curve(one.lrs, 100.0 + 1e3 * one.losses)
        found = [
            line.get_ydata()
            for line in plot_curves(
                {"one": one, "many": many}, relative=True
            ).get_lines()
            if len(line.get_xdata()) > 1
        ]

        assert found[0].min() == 0.0
        np.testing.assert_allclose(found[0], found[1], atol=1e-6)

    def test_curve_without_suggestion_says_none(self):
        """It is drawn, not marked."""
        flat = Curve(np.geomspace(1e-6, 1, 100), np.full(100, 2.0))
        ax = plot_curves({"flat": flat, "good": measured()})

        assert labels(ax)[0] == "flat: none"

    def test_many_curves_are_told_apart(self):
        """No two of twelve have the same colour, mark and dash."""
        ax = plot_curves({str(i): measured(40) for i in range(12)})
        looks = {
            (line.get_color(), line.get_linestyle())
            for line in ax.get_lines()
            if len(line.get_xdata()) > 1
        }

        assert len(looks) == 12

    @pytest.mark.parametrize("name", ["$x$", "_hidden", "a\nb", 64, "ü"])
    def test_any_label_is_shown(self, name):
        """As it is: no mathematics, nothing hidden."""
        ax = plot_curves({name: measured(40)})
        drawn(ax)

        assert labels(ax)[0].lstrip().startswith(str(name))

    def test_nothing_to_compare_is_an_error(self):
        """No curve: a clear message."""
        with pytest.raises(ValueError, match="`curves` must not be empty"):
            plot_curves({})


class TestAnyCurve:
    @pytest.mark.parametrize(
        "losses",
        [
            [],
            [1.0],
            [np.nan],
            [np.nan] * 9,
            [1.0, 2.0],
            [0.0] * 20,
            [-3.0] * 20,
            [np.inf, -np.inf, np.nan, 1.0, 2.0],
            [1e308, -1e308] * 10,
            [5e-324] * 20,
            [1.0] * 19 + [1e308],
            list(np.geomspace(1, 1e-300, 50)),
        ],
        ids=lambda losses: f"{len(losses)}_{losses[:1]}",
    )
    @pytest.mark.parametrize("suggestion", [SURE, NONE], ids=["lr", "none"])
    def test_is_drawn_without_a_warning(self, losses, suggestion):
        """Empty, tiny, huge, flat, not finite: there is a picture."""
        lrs = np.geomspace(1e-5, 1.0, max(len(losses), 1))[: len(losses)]
        ax = plot_curve(
            Curve(lrs, losses), suggestion, probes=[probe(1e-3, 1.0)]
        )

        assert drawn(ax).std() > 0

    def test_a_single_lr(self):
        """A curve without a range has a picture too."""
        drawn(plot_curve(Curve([1e-3], [2.0]), SURE))

    def test_symbols_in_names_are_no_mathematics(self):
        """Dollars and underscores are shown as they are."""
        curve = measured(monitor="$loss_1", optimizer="my$opt$")
        ax = plot_curve(curve, NONE)
        drawn(ax)

        assert ax.get_ylabel() == "$loss_1"

    def test_a_hundred_thousand_points(self):
        """Long curves are thinned out before they are drawn."""
        curve = measured(100_000)

        ax = plot_curve(curve, suggest(curve))
        drawn(ax)

        assert len(lines(ax)["loss of each batch"].get_xdata()) <= 2000


class TestFiles:
    def test_two_jpgs(self, tmp_path):
        """`loss.jpg` and `smooth_loss.jpg`, in a directory made for them."""
        paths = save_plots(measured(), SURE, tmp_path / "deep" / "plots")

        assert [path.name for path in paths] == ["loss.jpg", "smooth_loss.jpg"]
        for path in paths:
            with Image.open(path) as image:
                image.load()
                assert image.format == "JPEG"
                assert image.size == (1200, 675)

    def test_raw_and_smooth_differ(self, tmp_path):
        """One shows the raw losses only, the other the spline in blue."""
        pictures = []
        for path in save_plots(measured(), None, str(tmp_path)):
            with Image.open(path) as image:
                pictures.append(np.asarray(image.convert("RGB"), dtype=int))
        blue = [
            np.sum((p[..., 2] - p[..., 0] > 100) & (p[..., 0] < 60))
            for p in pictures
        ]

        assert blue[1] > 1.2 * blue[0]

    @pytest.mark.parametrize(
        ("name", "start"),
        [
            ("x.jpg", b"\xff\xd8"),
            ("x.png", b"\x89PNG"),
            ("x.svg", b"<?xml"),
            ("x.pdf", b"%PDF"),
        ],
    )
    def test_formats(self, tmp_path, name, start):
        """The ending says the format."""
        path = save_plot(plot_curve(measured(), SURE), tmp_path / name)

        assert path.read_bytes().startswith(start)

    def test_png_is_opaque_white(self, tmp_path):
        """On a dark page the axes' labels stay readable."""
        path = save_plot(plot_curve(measured()), tmp_path / "x.png")
        with Image.open(path) as image:
            assert image.convert("RGBA").getpixel((2, 2)) == (255,) * 4

    def test_svg_is_well_formed(self, tmp_path):
        """An SVG file opens as XML."""
        path = save_plot(plot_curve(measured(), SURE), tmp_path / "x.svg")

        assert ET.parse(path).getroot().tag.endswith("svg")

    def test_users_figure_is_saved_whole(self, tmp_path):
        """Also from an axes inside a subfigure."""
        figure = Figure(figsize=(4, 2))
        FigureCanvasAgg(figure)
        ax = figure.subfigures(1, 2)[1].add_subplot()
        plot_curve(measured(), ax=ax)
        path = save_plot(ax, tmp_path / "x.png", dpi=100)
        with Image.open(path) as image:
            assert image.size == (400, 200)

    def test_directory_that_is_a_file(self, tmp_path):
        """An OSError that names it."""
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file"):
            save_plots(measured(), SURE, tmp_path / "file")

    def test_unknown_format(self, tmp_path):
        """Matplotlib's own message, which lists the formats."""
        with pytest.raises(ValueError, match="xyz"):
            save_plot(plot_curve(measured()), tmp_path / "x.xyz")


class TestManners:
    def test_draws_into_a_given_axes_only(self):
        """That axes comes back; its neighbour and figure stay as they were."""
        figure = Figure()
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        before = (figure.get_facecolor(), figure.get_size_inches().tolist())

        assert plot_curve(measured(), SURE, ax=left) is left
        assert plot_curves({"a": measured()}, ax=left) is left
        assert not right.lines
        assert right.get_xscale() == "linear"
        assert before == (
            figure.get_facecolor(),
            figure.get_size_inches().tolist(),
        )

    def test_users_dark_style_does_not_leak_in(self):
        """Dark ink on white, whatever rcParams say."""
        with mpl.rc_context(
            {
                "axes.facecolor": "black",
                "text.color": "white",
                "axes.labelcolor": "white",
                "xtick.color": "white",
                "axes.edgecolor": "white",
                "figure.facecolor": "black",
                "legend.facecolor": "black",
                "savefig.facecolor": "black",
            }
        ):
            ax = plot_curve(measured(), SURE)
            corner = drawn(ax)[2, 2, :3].tolist()
        texts = [ax.title, ax.xaxis.label, *ax.get_legend().get_texts()]

        assert corner == [255, 255, 255]
        assert all(sum(to_rgb(text.get_color())) < 0.6 for text in texts)

    def test_nothing_global_is_touched(self):
        """A fresh process: backend, rcParams and pyplot's figures."""
        code = """
            import json, sys
            import keras_lrfinder
            import keras_lrfinder.pictures.plotting as p
            before = "matplotlib" in sys.modules
            import matplotlib
            params = {k: repr(v) for k, v in
                      dict.items(matplotlib.rcParams)}
            from keras_lrfinder.analysis.curve import Curve
            c = Curve([10.0 ** -i for i in range(9, 0, -1)], range(9, 0, -1))
            p.plot_curve(c)
            p.save_plots(c, None, sys.argv[1])
            after = {k: repr(v) for k, v in dict.items(matplotlib.rcParams)}
            pyplot = "matplotlib.pyplot" in sys.modules
            import matplotlib.pyplot as plt
            print(json.dumps([before, params == after, pyplot,
                              plt.get_fignums()]))
        """
        assert self._fresh(code) == [False, True, False, []]

    def test_a_picture_to_be_seen_is_pyplots_current_figure(self):
        """For `plt.show` and `plt.savefig`."""
        import matplotlib.pyplot as plt

        ax = plot_curves({"a": measured()})
        try:
            assert plt.gcf() is ax.figure
        finally:
            plt.close("all")

    def test_pictures_that_nobody_sees_do_not_pile_up(self, tmp_path):
        """Without a display one is open; the earlier ones can be saved."""
        import matplotlib.pyplot as plt

        plt.close("all")
        with mpl.rc_context({"backend": "agg"}):
            pictures = [plot_curves({"a": measured()}) for _ in range(6)]
            assert len(plt.get_fignums()) == 1
        save_plot(pictures[0], tmp_path / "first.png")
        assert (tmp_path / "first.png").stat().st_size > 10_000
        plt.close("all")

    def test_needs_no_display(self):
        """Not even with a backend asked for that is not there."""
        code = """
            import json, os, sys
            os.environ["MPLBACKEND"] = "QtAgg"
            os.environ.pop("DISPLAY", None)
            import keras_lrfinder.pictures.plotting as p
            from keras_lrfinder.analysis.curve import Curve
            p.save_plots(Curve([1.0, 2.0], [2.0, 1.0]), None, sys.argv[1])
            print(json.dumps(sorted(os.listdir(sys.argv[1]))))
        """
        assert self._fresh(code) == ["loss.jpg", "smooth_loss.jpg"]

    def test_pyplots_own_figures_stay(self):
        """What the user has open stays open and current."""
        import matplotlib.pyplot as plt

        figure = plt.figure()
        try:
            before = plt.get_fignums()
            plot_curve(measured())

            assert before == plt.get_fignums()
            assert plt.gcf() is figure
        finally:
            plt.close(figure)

    def test_colours_are_okabe_and_ito(self):
        """Every colour is one of their eight, or grey."""
        okabe_ito = {
            "#000000", "#E69F00", "#56B4E9", "#009E73",
            "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
        }  # fmt: skip
        used = {*figure_module.CURVE_COLOURS, *figure_module.RULE_COLOURS}
        used |= {figure_module.BLUE, figure_module.VERMILLION}

        assert used <= okabe_ito

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path

    def _fresh(self, code):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(self.folder)],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return json.loads(done.stdout)
