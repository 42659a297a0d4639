"""Pictures of detection: curves and marks at their places, legends that are true, files that are always the same."""

import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from speechgmm.errors import InputError
from speechgmm.metrics.detection import Tippett, detection_curve, eer, min_dcf, tippett
from speechgmm.report.detection_picture import det_picture, open_set_picture, tippett_picture
from speechgmm.verification.open_set import open_set_curve

matplotlib = pytest.importorskip("matplotlib")

PROBIT = NormalDist().inv_cdf


def normal_scores(shift=2.0, n_targets=200, n_nontargets=300, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=n_targets) + shift, rng.normal(size=n_nontargets)


def drawn(axes):
    """x and y of each curve, in the order drawn."""
    return [
        line.get_xydata().T
        for line in axes.lines
        if line.get_linewidth() == 1.0 and line.get_marker() == "None"
    ]


def marks(axes, marker):
    """Places of marks, those of the legend left out."""
    places = [tuple(line.get_xydata()[0]) for line in axes.lines if line.get_marker() == marker]
    return [place for place in places if np.isfinite(place[0])]


def names(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def rates(values):
    """Probit places as rates."""
    return [NormalDist().cdf(value) for value in values]


class TestDet:
    def test_rates_are_on_probit_axes(self):
        # By hand: misses 0, 1/4, 1/2, …; false alarms 1, 1/2, ….
        curve = detection_curve([1.0, 3.0, 5.0, 7.0], [0.0, 2.0, 4.0, 6.0])
        axes = det_picture({"a": curve}, points=()).axes[0]
        ((x, y),) = drawn(axes)
        assert rates(x) == pytest.approx([1, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25, 0, 0], abs=1e-8)
        assert rates(y) == pytest.approx([0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1], abs=1e-8)
        assert axes.get_xlabel() == "False alarms (%)" and axes.get_ylabel() == "Misses (%)"
        for ticks, labels in (
            (axes.get_xticks(), axes.get_xticklabels()),
            (axes.get_yticks(), axes.get_yticklabels()),
        ):
            for place, label in zip(ticks, labels, strict=True):
                assert 100 * rates([place])[0] == pytest.approx(float(label.get_text()))
        assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "5", "10", "20", "40"]
        assert axes.get_xlim() == axes.get_ylim() == pytest.approx((PROBIT(0.02), PROBIT(0.6)))

    def test_marks_and_legend_are_the_figures(self):
        systems = {"good": normal_scores(3.0), "bad": normal_scores(1.0, seed=1)}
        points = ((0.5, 1.0, 1.0), (0.1, 10.0, 1.0))
        curves = {name: detection_curve(*scores) for name, scores in systems.items()}
        figure = det_picture(curves, points=points, title="a title")
        axes = figure.axes[0]
        expected = [eer(*scores) for scores in systems.values()]
        assert [rates(place) for place in marks(axes, "o")] == [pytest.approx([one, one]) for one in expected]
        for point, marker in zip(points, "vs", strict=True):
            for (x, y), scores in zip(marks(axes, marker), systems.values(), strict=True):
                p_fa, p_miss = rates((x, y))
                p_target, c_miss, c_fa = point
                costs = p_target * c_miss * p_miss, (1 - p_target) * c_fa * p_fa
                least = sum(costs) / min(p_target * c_miss, (1 - p_target) * c_fa)
                assert least == pytest.approx(min_dcf(*scores, *point))
        dcfs = [
            ", ".join(f"{min_dcf(*scores, *point):.3f}" for point in points) for scores in systems.values()
        ]
        assert names(figure) == [
            f"good: EER {100 * expected[0]:.3g} %, min DCF {dcfs[0]}",
            f"bad: EER {100 * expected[1]:.3g} %, min DCF {dcfs[1]}",
            *("equal error rate", "min DCF(0.5)", "min DCF(0.1, 10, 1)"),
        ]
        assert axes.get_title(loc="left") == "a title"

    def test_the_hull_goes_through_its_corners_and_is_straight_in_rates(self):
        curve = detection_curve(*normal_scores(1.0, 20, 30))
        plain, both = (det_picture({"a": curve}, hull=hull).axes[0] for hull in (False, True))
        assert len(both.lines) == len(plain.lines) + 1
        hull = next(line.get_xydata() for line in both.lines if line.get_linewidth() == 0.5)
        p_fa, p_miss = (np.array(rates(column)) for column in hull.T)
        corners_fa, corners_miss = curve.hull
        np.testing.assert_allclose(p_fa[::50], corners_fa, atol=1e-8)
        np.testing.assert_allclose(p_miss[::50], corners_miss, atol=1e-8)
        place = np.arange(len(p_fa)) / 50
        np.testing.assert_allclose(
            p_miss, np.interp(place, range(len(corners_miss)), corners_miss), atol=1e-8
        )

    def test_the_least_rate_decides_where_axes_begin(self):
        many = detection_curve(*normal_scores(2.0, 1500, 3000))
        few = detection_curve(*normal_scores(2.0, 20, 20))
        assert rates(det_picture({"few": few}).axes[0].get_xlim()) == pytest.approx([0.02, 0.6])
        for curves in ({"many": many}, {"few": few, "many": many}):
            # The least is one of 3000.
            assert rates(det_picture(curves).axes[0].get_xlim()) == pytest.approx([1e-4, 0.6])

    def test_without_errors_marks_are_at_the_corner(self):
        axes = det_picture({"perfect": detection_curve([2.0, 3.0], [0.0, 1.0])}).axes[0]
        corner = pytest.approx((axes.get_xlim()[0], axes.get_ylim()[0]))
        assert marks(axes, "o") == [corner] and marks(axes, "v") == [corner]

    @pytest.mark.parametrize(
        ("curves", "options", "said"),
        [
            ({}, {}, "`curves` must be a DetectionCurve for each name, at least 1"),
            ([1], {}, "`curves` must be a DetectionCurve for each name"),
            ({"a": (1, 2)}, {}, r"`curves\['a'\]` is of type tuple; it must be a DetectionCurve"),
            (
                None,
                {"points": [(0.1, 1, 1)] * 5},
                "`points` holds 5 operating points; a picture has signs for 4",
            ),
            (None, {"points": [(1.5, 1, 1)]}, "`p_target` is 1.5"),
            (None, {"output": "a.jpeg"}, r"a\.jpeg: a picture cannot be written as '\.jpeg'; use \.png"),
        ],
    )
    def test_what_is_refused(self, curves, options, said):
        if curves is None:
            curves = {"a": detection_curve(*normal_scores())}
        with pytest.raises(InputError, match=said):
            det_picture(curves, **options)


class TestTippett:
    def test_shares_of_both_kinds(self):
        figure = tippett_picture({"a": tippett([-1.0, 2.0], [-3.0, 1.0], [-2.0, 0.0, 1.5])})
        assert names(figure) == ["a: targets", "a: nontargets"]
        targets, nontargets = drawn(figure.axes[0])
        np.testing.assert_array_equal(targets, [[-2.0, 0.0, 1.5], [100, 50, 50]])
        np.testing.assert_array_equal(nontargets, [[-2.0, 0.0, 1.5], [50, 50, 0]])
        (zero,) = [line for line in figure.axes[0].lines if line.get_linewidth() == 0.6]
        assert list(zero.get_xdata()) == [0.0, 0.0]
        assert figure.axes[0].get_xlabel() == "Log-likelihood ratio of the trial (natural log)"

    def test_what_is_refused(self):
        with pytest.raises(InputError, match="`tippetts` must be a Tippett for each name, at least 1"):
            tippett_picture({})
        with pytest.raises(
            InputError, match=r"`tippetts\['a'\]` is of type DetectionCurve; it must be a Tippett"
        ):
            tippett_picture({"a": detection_curve(*normal_scores())})


class TestOpenSet:
    def test_detection_over_false_alarms(self):
        known, unknown = [1.0, 3.0, 5.0, 7.0], [0.0, 2.0, 4.0, 6.0]
        curve = open_set_curve(known, [True, True, False, True], unknown)
        figure = open_set_picture({"a": curve, "b": curve}, rate=0.3)
        axes = figure.axes[0]
        assert names(figure) == ["a: 25 % at 30 % false alarms", "b: 25 % at 30 % false alarms"]
        for x, y in drawn(axes):
            np.testing.assert_allclose(x, 100 * np.maximum(curve.false_alarm, 0.01))
            np.testing.assert_allclose(y, 100 * curve.detection)
        assert axes.get_xscale() == "log" and axes.get_xlim() == (10.0, 100.0)
        assert (
            marks(axes, "o") == [(10.0, 25.0)] * 2
        )  # 7 is above all unknown ones: no false alarms, at the edge
        other = open_set_picture({"a": curve}, rate=0.8)
        assert marks(other.axes[0], "o") == [(75.0, 75.0)]

    def test_what_is_refused(self):
        curve = open_set_curve([1.0], [True], [0.0])
        with pytest.raises(InputError, match="`curves` must be a OpenSetCurve for each name, at least 1"):
            open_set_picture({})
        with pytest.raises(InputError, match="`rate` is 5; it must be a fraction from 0 to 1"):
            open_set_picture({"a": curve}, rate=5)


def draw_all(folder, kind):
    """Every picture as a file of one kind."""
    scores = normal_scores()
    right = np.arange(200) % 10 > 0
    det_picture({"a": detection_curve(*scores)}, f"{folder}/det.{kind}", hull=True)
    tippett_picture({"a": tippett(*scores)}, f"{folder}/tippett.{kind}")
    open_set_picture({"a": open_set_curve(scores[0], right, scores[1])}, f"{folder}/open.{kind}")


def test_the_same_input_gives_the_same_bytes(tmp_path):
    code = (
        "import sys; from tests.test_report_detection_picture import *; "
        "[draw_all(sys.argv[1], kind) for kind in ('png', 'svg', 'pdf')]; "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    other, here = tmp_path / "other", tmp_path / "here"
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "SOURCE_DATE_EPOCH": "86400"}
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", code, str(other)], check=True, env=environment, cwd=root)
    with matplotlib.rc_context({"font.size": 20.0, "axes.facecolor": "black", "savefig.dpi": 30.0}):
        for kind in ("png", "svg", "pdf"):
            draw_all(here, kind)
        assert matplotlib.rcParams["font.size"] == 20.0
    assert len(list(other.iterdir())) == 9
    for path in sorted(other.iterdir()):
        # Ids of clip paths in an SVG are matplotlib's own; see the picture of features.
        mine, again = (
            re.sub(rb"\bp[0-9a-f]{10}\b", b"", one.read_bytes()) for one in (here / path.name, path)
        )
        assert mine == again
        assert b"<dc:date>" not in mine and b"CreationDate" not in mine


def test_names_are_shown_as_they_are_and_fit(tmp_path):
    curve, long = detection_curve(*normal_scores()), "x" * 99
    # The font has none of some letters: a warning would be an error here.
    figure = det_picture({"_a$b$ _x^2 声": curve, long: curve}, tmp_path / "a.svg", title="$x$ 声")
    assert names(figure)[0].startswith("_a$b$ _x^2 声: EER")
    assert names(figure)[1].startswith(f"{'x' * 15}…{'x' * 14}: EER")
    assert not any(text.get_parse_math() for text in figure.legends[0].get_texts())
    assert figure.axes[0].get_title(loc="left") == "$x$ 声"


@pytest.mark.parametrize("n_systems", [1, 12])
def test_nothing_is_cut_off_and_looks_differ(n_systems):
    curves = {
        f"system {'y' * 40} {number}": detection_curve(*normal_scores(seed=number))
        for number in range(n_systems)
    }
    figure = det_picture(
        curves, points=((0.01, 1, 1), (0.1, 1, 1), (0.5, 1, 1), (0.1, 10, 1)), title="a title"
    )
    figure.draw_without_rendering()
    width, height = figure.canvas.get_width_height()
    texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text() and text.get_visible()]
    assert {"a title", "Misses (%)", "40", "equal error rate"} <= {text.get_text() for text in texts}
    for thing in (figure.legends[0], *texts):
        box = thing.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height
    legend, panel = figure.legends[0].get_window_extent(), figure.axes[0].get_window_extent()
    assert legend.y1 < panel.y0 and panel.height > 0.8 * panel.width
    looks = {
        (line.get_color(), line.get_linestyle())
        for line in figure.axes[0].lines
        if line.get_linewidth() == 1.0
    }
    assert len(looks) == n_systems


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"needs matplotlib: pip install 'speechgmm\[report\]'"):
        tippett_picture({"a": Tippett(np.zeros(1), np.ones(1), np.ones(1))})
